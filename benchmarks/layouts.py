"""Small nets with the layouts of the field that learn a phantom in a minute: for tables of method × net."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["convnext", "efficientnet", "vgg", "vit", "voxels"]


def vgg(width: int = 12) -> nn.Sequential:
    """Build VGG's straight line (Simonyan and Zisserman 2015): biased 3×3 convolutions, in-place ReLU, max-pools, two linear layers."""
    layers: list[nn.Module] = []
    before = 3
    for after in (width, 2 * width, 4 * width):
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
        before = after
    head = [nn.Linear(before * 9, 32), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(32, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), *head)


class _Gated(nn.Module):
    """Expand, depthwise convolution, squeeze-and-excite gate, project; a residual sum where the shape is kept."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = 3 * before
        self.expand = nn.Sequential(nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU(inplace=True))
        spread = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.spread = nn.Sequential(spread, nn.BatchNorm2d(wide), nn.SiLU(inplace=True))
        self.squeeze, self.excite = nn.Conv2d(wide, before // 2, 1), nn.Conv2d(before // 2, wide, 1)
        self.project = nn.Sequential(nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after))
        self.kept = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.spread(self.expand(x))
        y = y * torch.sigmoid(self.excite(functional.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.project(y)
        return x + y if self.kept else y


def efficientnet(width: int = 12) -> nn.Sequential:
    """Build EfficientNet's layout (Tan and Le 2019): SiLU, depthwise convolutions, gates by multiplication, BatchNorm."""
    stem = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU(inplace=True)]
    body = [_Gated(width, width, 1), _Gated(width, 2 * width, 2), _Gated(2 * width, 2 * width, 1)]
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 2))


class _Next(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.narrow(functional.gelu(self.wide(y)))).permute(0, 3, 1, 2)


class _LastNorm(nn.LayerNorm):
    """LayerNorm over the channels of ``(N, C, Y, X)``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name of nn.LayerNorm
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext(width: int = 16) -> nn.Sequential:
    """Build ConvNeXt's layout (Liu et al. 2022): patches, depthwise 7×7, LayerNorm, GELU, layer scale, no ReLU anywhere."""
    stem = [nn.Conv2d(3, width, 2, 2), _LastNorm(width)]
    down = [_LastNorm(width), nn.Conv2d(width, 2 * width, 2, 2)]
    body = [*stem, _Next(width), _Next(width), *down, _Next(2 * width), _Next(2 * width)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 2))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.joined, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        q, k, v = self.joined(x).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _ViT(nn.Module):
    def __init__(self, side: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + (side // patch) ** 2, width))
        self.layers = nn.Sequential(*(_Layer(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        return self.head(self.norm(self.layers(tokens))[:, 0])


def vit(side: int = 48, *, patch: int = 6, width: int = 48, depth: int = 2, heads: int = 4) -> nn.Module:
    """Build a vision transformer (Dosovitskiy et al. 2021): patches, class token, learned positions, pre-norm layers, GELU."""
    return _ViT(side, patch, width, depth, heads)


def _normed(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv3d(before, after, 3, padding=1, bias=False), nn.BatchNorm3d(after), nn.ReLU(inplace=True)]


def voxels(width: int = 8) -> nn.Sequential:
    """Build the plain 3-D CNN of medical scans: convolution, BatchNorm, in-place ReLU, max-pools that spare the thick axis first."""
    body = [*_normed(1, width), nn.MaxPool3d((1, 2, 2)), *_normed(width, 2 * width), nn.MaxPool3d(2)]
    head = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4 * width, 2)]
    return nn.Sequential(*body, *_normed(2 * width, 4 * width), *head)
