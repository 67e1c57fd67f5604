"""U-Nets: one logit map a class, by transposed convolutions or by interpolation."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.models.targets import Region
from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "UNet"]


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels down, two up, with the maps of the way down concatenated on the way up."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList((_double(1, 4), _double(4, 6), _double(6, 8)))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList((nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ConvTranspose2d(6, 4, 2, stride=2)))
        self.narrow = nn.ModuleList((nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)))
        self.join = nn.ModuleList((_double(12, 6), _double(8, 4)))
        self.transposed = transposed
        self.logits = nn.Conv2d(4, 3, 1)

    def _raised(self, x: Tensor, level: int) -> Tensor:
        if self.transposed:
            raised: Tensor = self.up[level](x)
            return raised
        wide = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        narrow: Tensor = self.narrow[level](wide)
        return narrow

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 3, *S)``."""
        kept = []
        for level, stage in enumerate(self.down):
            x = stage(x if level == 0 else self.pool(x))
            kept.append(x)
        for level, stage in enumerate(self.join):
            x = stage(torch.cat([kept[1 - level], self._raised(x, level)], 1))
        logits: Tensor = self.logits(x)
        return logits


_BOX = ((4, 6), (10, 12))

NETS = (
    ZooNet(
        name="unet_transposed",
        build=lambda: UNet(transposed=True),
        shapes=((1, 16, 20),),
        task="segmentation",
        habits="logit maps (N, K, *S), one max-pool called twice, ConvTranspose2d, skip connections concatenated",
        target=Region(index=1, box=_BOX),
    ),
    ZooNet(
        name="unet_interpolated",
        build=lambda: UNet(transposed=False),
        shapes=((1, 16, 20),),
        task="segmentation",
        habits="as unet_transposed, with bilinear F.interpolate in place of the transposed convolution",
        target=Region(index=1, box=_BOX),
    ),
)
