"""EfficientNet and ConvNeXt: smooth activations, gates, depthwise convolutions, channels-last detours."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "ConvNeXt", "EfficientNet"]


class _SqueezeExcite(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)
        self.activation = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.sigmoid(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return scale * x


def _dropped_rows(x: Tensor, probability: float, *, training: bool) -> Tensor:
    """Stochastic depth: whole rows of a residual branch fall out in training."""
    if not training:
        return x
    kept = torch.empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - probability)
    return x * kept / (1 - probability)


class _MBConv(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = 2 * before
        self.block = nn.Sequential(
            nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU(inplace=True),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.SiLU(inplace=True), _SqueezeExcite(wide, 2),
            nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        if self.residual:
            result = _dropped_rows(result, 0.2, training=self.training)
            result += x
        return result


class EfficientNet(nn.Module):
    """Inverted bottlenecks with squeeze-and-excite gates."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.SiLU(inplace=True),
            _MBConv(6, 6, 3, 1), _MBConv(6, 8, 5, 2), _MBConv(8, 8, 3, 1),
            nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU(inplace=True),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of ``(N, C, H, W)``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name of nn.LayerNorm
        x = input.permute(0, 2, 3, 1)
        x = functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class _Next(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = nn.GELU()
        self.gamma = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.dwconv(x).permute(0, 2, 3, 1)
        x = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(x))))
        x = x.permute(0, 3, 1, 2)
        return shortcut + _dropped_rows(x, 0.1, training=self.training)


class ConvNeXt(nn.Module):
    """Patchify stem and blocks of depthwise 7×7 convolution, channels-last LayerNorm, GELU and layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 2, stride=2), _ChannelNorm(6, eps=1e-6), _Next(6), _Next(6),
            _ChannelNorm(6, eps=1e-6), nn.Conv2d(6, 8, 2, stride=2), _Next(8),
        )  # fmt: skip
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        logits: Tensor = self.head(self.norm(self.features(x).mean([-2, -1])))
        return logits


NETS = (
    ZooNet(
        name="efficientnet",
        build=EfficientNet,
        shapes=((3, 16, 24),),
        habits="in-place SiLU, squeeze-and-excite gates by multiplication, depthwise convolutions, stochastic depth",
    ),
    ZooNet(
        name="convnext",
        build=ConvNeXt,
        shapes=((3, 16, 24),),
        habits="permuted to channels last and back, LayerNorm, GELU, layer scale, depthwise 7×7",
    ),
)
