"""Nets of several inputs or outputs, other normalisations, and embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.models.targets import Latent, Output
from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "Embedder", "GroupNormNet", "ImageAndVector", "Regressor", "TwoImages"]


def _tower(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip


class TwoImages(nn.Module):
    """An overview and a close-up of another size, each with a tower of its own, joined before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.overview, self.detail = _tower(3, 6), _tower(1, 4)
        self.fc1, self.fc2 = nn.Linear(10, 12), nn.Linear(12, 3)

    def forward(self, overview: Tensor, detail: Tensor) -> Tensor:
        """Return logits ``(N, 3)``."""
        pooled = [self.overview(overview).mean((2, 3)), self.detail(detail).amax((2, 3))]
        logits: Tensor = self.fc2(functional.relu(self.fc1(torch.cat(pooled, 1))))
        return logits


class ImageAndVector(nn.Module):
    """An image beside clinical values ``(N, D)`` that gate its features."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = _tower(3, 6)
        self.gate, self.direct = nn.Linear(5, 6), nn.Linear(5, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, image: Tensor, values: Tensor) -> Tensor:
        """Return logits ``(N, 3)``."""
        features = functional.adaptive_avg_pool2d(self.tower(image), 1).flatten(1)
        logits: Tensor = self.fc(features * torch.sigmoid(self.gate(values)) + torch.tanh(self.direct(values)))
        return logits


class GroupNormNet(nn.Module):
    """Normalisation by statistics of the row itself: InstanceNorm, then GroupNorm, with leaky and hard activations."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.GroupNorm(4, 8), nn.Hardswish(),
        )  # fmt: skip
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 3)``."""
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


class Regressor(nn.Module):
    """Two counts a picture: softplus keeps them positive."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = _tower(1, 6)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, 2)`` positive numbers."""
        return functional.softplus(self.fc(functional.avg_pool2d(self.tower(x), (8, 10)).flatten(1)))


class Embedder(nn.Module):
    """A unit vector a picture, for retrieval."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = _tower(3, 6)
        self.neck = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, 8)`` vectors of length one."""
        return functional.normalize(self.neck(self.tower(x).mean((2, 3))), dim=1)


NETS = (
    ZooNet(
        name="two_images",
        build=TwoImages,
        shapes=((3, 16, 20), (1, 12, 12)),
        habits="two inputs of different size, amax over space, concatenated",
    ),
    ZooNet(
        name="image_and_vector",
        build=ImageAndVector,
        shapes=((3, 16, 20), (5,)),
        habits="an image and a vector (N, D) that gates its features by a sigmoid",
    ),
    ZooNet(
        name="group_norm",
        build=GroupNormNet,
        shapes=((3, 16, 20),),
        habits="InstanceNorm, GroupNorm, in-place LeakyReLU, hardswish",
    ),
    ZooNet(
        name="regression",
        build=Regressor,
        shapes=((1, 16, 20),),
        task="regression",
        habits="several outputs, softplus at the end, functional avg_pool2d",
        target=Output(index=1),
    ),
    ZooNet(
        name="embedding",
        build=Embedder,
        shapes=((3, 16, 20),),
        task=None,
        habits="no classes: an embedding of length one",
        target=Latent(index=2, layer="neck"),
        embedding="neck",
    ),
)
