"""Blobs of two independent properties, brightness and size, and a model that looks at the brightness alone."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from pellucid.models import Model

SIDE = 16
FLOOR = 0.1
BORDER = 0.7


@dataclass(frozen=True)
class Blobs:
    images: Tensor
    brightness: Tensor
    radius: Tensor


def draw_blobs(count: int, dims: int = 2, seed: int = 0) -> Blobs:
    random = torch.Generator().manual_seed(seed)
    brightness = 0.4 + 0.6 * torch.rand(count, generator=random)
    radius = 2.5 + 2.5 * torch.rand(count, generator=random)
    at = torch.rand(count, dims, generator=random) - 0.5
    axes = torch.meshgrid(*[torch.arange(SIDE) - (SIDE - 1) / 2] * dims, indexing="ij")
    grid = torch.stack(axes)[None] - at.view(count, dims, *[1] * dims)
    column = (count, *[1] * dims)
    disc = torch.sigmoid(3 * (radius.view(column) - grid.norm(dim=1)))
    clean = FLOOR + (brightness.view(column) - FLOOR) * disc
    noise = 0.02 * torch.randn(clean.shape, generator=random)
    return Blobs((clean + noise)[:, None], brightness, radius)


def centre_of(x: Tensor) -> Tensor:
    """Return the brightness ``(N,)`` of the middle of images."""
    middle = (slice(None), 0, *[slice(SIDE // 2 - 1, SIDE // 2 + 1)] * (x.ndim - 2))
    return x[middle].flatten(1).mean(1)


def size_of(x: Tensor) -> Tensor:
    """Return the pixels ``(N,)`` that a blob of even brightness would cover."""
    return (x[:, 0].flatten(1) - FLOOR).sum(1) / (centre_of(x) - FLOOR)


class Brightness(nn.Module):
    """Two logits that tell whether the middle is brighter than the border value."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        half = self.slope * (centre_of(x) - BORDER)
        return torch.stack([-half, half], 1)


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    return draw_blobs(256)


@pytest.fixture(scope="session")
def model() -> Model:
    return Model(Brightness(), classes=("dark", "bright"), task="classification")
