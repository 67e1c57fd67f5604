"""Networks of the size and layout that is meant when a benchmark says ResNet-18 or DenseNet-121; random weights."""

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["BasicBlock", "NearFree", "densenet121", "resnet18", "vgg11"]


class NearFree(nn.Module):
    """A 1×1 convolution and a mean: here the library is the cost."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x).mean((2, 3))


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """A residual block with a ReLU that is reused, in place, or (`shared=False`) one module a call and a copy a sum."""

    def __init__(self, before: int, after: int, stride: int, *, shared: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(before, after, 3, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _convolution(after, after, 3), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=shared)
        self.last = self.relu if shared else nn.ReLU()
        same = before == after and stride == 1
        self.downsample = None if same else nn.Sequential(_convolution(before, after, 1, stride), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.last(out + identity)


class _ResNet(nn.Module):
    def __init__(self, classes: int, *, shared: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(3, 64, 7, 2), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=shared), nn.MaxPool2d(3, 2, 1)
        stages, before = [], 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            first, second = BasicBlock(before, width, stride, shared=shared), BasicBlock(width, width, 1, shared=shared)
            stages.append(nn.Sequential(first, second))
            before = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(*, classes: int = 10, shared: bool = True) -> nn.Module:
    """Build the layout of ResNet-18 (He et al. 2016), with ReLUs shared and in place as in the wild, or one a call."""
    torch.manual_seed(0)
    return _ResNet(classes, shared=shared).eval()


def vgg11(*, classes: int = 10) -> nn.Sequential:
    """Build the layout of VGG-11 with BatchNorm (Simonyan and Zisserman 2015) and one linear head."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    plan: list[int | str] = [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
    before = 3
    for width in plan:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 7 * 7, classes)).eval()


class _DenseLayer(nn.Module):
    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(before), _convolution(before, 4 * growth, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), _convolution(4 * growth, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)


def densenet121(*, classes: int = 10, growth: int = 32) -> nn.Sequential:
    """Build the layout of DenseNet-121 (Huang et al. 2017)."""
    torch.manual_seed(0)
    depths, width = (6, 12, 24, 16), 2 * growth
    layers: list[nn.Module] = [_convolution(3, width, 7, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for stage, depth in enumerate(depths):
        widths = [width + growth * step for step in range(depth + 1)]
        layers += [_DenseLayer(before, growth) for before, _ in pairwise(widths)]
        width = widths[-1]
        if stage < len(depths) - 1:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), _convolution(width, width // 2, 1), nn.AvgPool2d(2)]
            width //= 2
    head = nn.Linear(width, classes)
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
