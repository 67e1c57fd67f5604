"""ResNets in two and three axes: one in-place ReLU shared by a whole block, and sums written ``+=``."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "BasicBlock", "Bottleneck", "ResNet"]

_KINDS: Mapping[int, tuple[type[nn.Module], type[nn.Module], type[nn.Module], type[nn.Module]]] = {
    2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d),
}


class _Block(nn.Module):
    """Convolutions with BatchNorm, all through one shared in-place ReLU, added to the shortcut in place."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, dims: int) -> None:
        super().__init__()
        convolution, norm, _, _ = _KINDS[dims]
        after = width * self.expansion
        sizes = self._sizes(before, width, stride)
        self.convolutions = nn.ModuleList(
            convolution(i, o, k, stride=s, padding=k // 2, bias=False) for i, o, k, s in sizes
        )
        self.norms = nn.ModuleList(norm(o) for _, o, _, _ in sizes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(convolution(before, after, 1, stride=stride, bias=False), norm(after))

    def _sizes(self, before: int, width: int, stride: int) -> list[tuple[int, int, int, int]]:
        return [(before, width, 3, stride), (width, width, 3, 1)]

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = x
        for place, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            out = norm(convolution(out))
            if place + 1 < len(self.norms):
                out = self.relu(out)
        out += identity
        result: Tensor = self.relu(out)
        return result


class BasicBlock(_Block):
    """Two 3-wide convolutions, as in ResNet-18."""


class Bottleneck(_Block):
    """1-wide, 3-wide and 1-wide convolutions that widen fourfold, as in ResNet-50."""

    expansion = 4

    def _sizes(self, before: int, width: int, stride: int) -> list[tuple[int, int, int, int]]:
        return [(before, width, 1, 1), (width, width, 3, stride), (width, width * 4, 1, 1)]


class ResNet(nn.Module):
    """Stem with overlapping max-pool, stages of blocks, global pool, linear head."""

    def __init__(self, block: type[_Block], blocks: tuple[int, ...], *, dims: int = 2, channels: int = 3) -> None:
        super().__init__()
        convolution, norm, pool, average = _KINDS[dims]
        self.conv1 = convolution(
            channels, 4, 7 if dims == 2 else 3, stride=2, padding=3 if dims == 2 else 1, bias=False
        )
        self.bn1 = norm(4)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = pool(3, stride=2, padding=1)
        before, stages = 4, []
        for stage, count in enumerate(blocks):
            for place in range(count):
                stages.append(block(before, 4 * 2**stage, 2 if stage and not place else 1, dims))
                before = 4 * 2**stage * block.expansion
        self.layers = nn.Sequential(*stages)
        self.avgpool = average(1)
        self.fc = nn.Linear(before, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))
        return logits


_HABITS = "one in-place ReLU shared by a block, `+=`, overlapping max-pool, BatchNorm after bias-free convolutions"

NETS = (
    ZooNet(
        name="resnet18",
        build=lambda: ResNet(BasicBlock, (2, 2)),
        shapes=((3, 24, 32),),
        habits=_HABITS,
        embedding="avgpool",
    ),
    ZooNet(
        name="resnet50",
        build=lambda: ResNet(Bottleneck, (1, 2)),
        shapes=((3, 24, 32),),
        habits=f"bottlenecks: {_HABITS}",
    ),
    ZooNet(
        name="resnet3d",
        build=lambda: ResNet(BasicBlock, (1, 1), dims=3, channels=1),
        shapes=((1, 8, 12, 12),),
        habits=f"three axes: {_HABITS}",
    ),
)
