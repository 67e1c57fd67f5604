"""VGG: a straight line of convolutions, in-place ReLUs and max-pools."""

import torch
from torch import Tensor, nn

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "VGG"]


class VGG(nn.Module):
    """Blocks of two convolutions and a max-pool, then three linear layers with dropout."""

    def __init__(self, *, normed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 6), (6, 8), (8, 8)):
            for channels in (before, after):
                layers.append(nn.Conv2d(channels, after, 3, padding=1))
                layers += [nn.BatchNorm2d(after)] if normed else []
                layers.append(nn.ReLU(inplace=True))
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(8 * 4, 16), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


NETS = (
    ZooNet(
        name="vgg",
        build=lambda: VGG(normed=False),
        shapes=((3, 16, 24),),
        habits="in-place ReLU modules, max-pools, adaptive pool, dropout in the head",
    ),
    ZooNet(
        name="vgg_bn",
        build=lambda: VGG(normed=True),
        shapes=((3, 16, 24),),
        habits="as vgg, with BatchNorm after biased convolutions",
    ),
)
