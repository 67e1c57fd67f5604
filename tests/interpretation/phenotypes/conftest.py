"""Generators whose latents are known: images of one soft ellipse, drawn by a differentiable rule, and images that are their latents."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.counterfactual import FittedGenerator
from pellucid.images.imageset import ImageRecord
from pellucid.interpretation.phenotypes import Atlas
from pellucid.measure import Profiler

SIZE = 28
FACTORS = ("size", "brightness", "background", "spot", "stretch", "tilt", "y", "x")
"""Stretch and tilt are the two parts of an elongation in any direction."""

GRAIN = 16
"""Further latents, each a faint wave over the image."""

PHENOTYPES = (
    "AreaShape_Area",
    "Intensity_MeanIntensity_0",
    "Background_MeanIntensity",
    "AreaShape_Eccentricity",
    "Intensity_StdIntensity_0",
)
RECORD = ImageRecord("CYX", ("0",))


def draw(z):
    """Return images ``(N, 1, SIZE, SIZE)`` of latents ``(N, 24)`` of about unit spread."""
    size, bright, ground, spot, stretch, tilt, y, x = (part[:, None, None] for part in z[:, :8].unbind(1))
    axis = torch.linspace(-1, 1, SIZE, dtype=z.dtype)
    gy, gx = axis[:, None] - 0.03 * y, axis[None] - 0.03 * x
    one, two = 0.12 * torch.tanh(stretch), 0.12 * torch.tanh(tilt)
    apart = (1 + one) * gx**2 + 2 * two * gx * gy + (1 - one) * gy**2
    radius = 0.55 * torch.exp(0.08 * size)
    body = torch.sigmoid(24 * (radius - (apart.clamp(min=1e-9) / (1 - one**2 - two**2).sqrt()).sqrt()))
    dot = torch.exp(-((gy - 0.2) ** 2 + (gx + 0.1) ** 2) / 0.015)
    level = 0.2 + 0.02 * ground
    lines = torch.linspace(-1, 1, SIZE, dtype=z.dtype)
    waves = torch.stack([
        torch.cos((1 + turn % 4) * 3.1 * lines[None] + turn) * torch.cos((1 + turn // 4) * 3.1 * lines[:, None] + 2 * turn)
        for turn in range(GRAIN)
    ])  # fmt: skip
    grain = 0.004 * torch.einsum("nk,kyx->nyx", z[:, 8:], waves)
    return (level + grain + body * (0.4 + 0.04 * bright - 0.02 * ground) + body * dot * (0.15 + 0.04 * spot))[:, None]


class Drawn(FittedGenerator):
    """Knows the latent of each image that it has drawn."""

    def __init__(self, images, latents):
        self.generator, self.history = None, pa.table({})
        self._images, self._latents = images.flatten(1), latents

    def encode(self, x):
        return self._latents[torch.cdist(x.flatten(1), self._images).argmin(1)]

    def decode(self, z):
        return draw(z)

    def tensors(self):
        return {"latents": self._latents}


class Reader(nn.Module):
    """Two logits from the mean brightness of the middle and that of the corner, with given weights."""

    def __init__(self, middle=0.0, corner=0.0, area=0.0):
        super().__init__()
        self.middle, self.corner, self.area = middle, corner, area

    def forward(self, x):
        half = x.shape[-1] // 2
        middle = x[:, 0, half - 3 : half + 3, half - 3 : half + 3].mean((1, 2))
        corner = x[:, 0, :4, :4].mean((1, 2))
        share = torch.sigmoid(40 * (x[:, 0] - 0.4)).mean((1, 2))
        score = self.middle * (middle - 0.6) + self.corner * (corner - 0.2) + self.area * (share - 0.24)
        return torch.stack([-score, score], 1) / 2


def drawn(count, seed=0):
    """Return a generator, its latents and its images, and the profiler of the images."""
    z = torch.randn(count, len(FACTORS) + GRAIN, generator=torch.Generator().manual_seed(seed))
    images = draw(z)
    return Drawn(images, z), z, images, Profiler(record=RECORD, names=PHENOTYPES)


@pytest.fixture(scope="session")
def blobs():
    """Generator, images, and an atlas learnt from the first 240 of them in groups of eight."""
    generator, latents, images, profiler = drawn(280)
    groups = [row // 8 for row in range(len(images))]
    atlas = Atlas.of(generator, images[:240], profiler, groups=groups[:240])
    return SimpleNamespace(
        Reader=Reader, atlas=atlas, draw=draw, drawn=drawn, generator=generator, groups=groups, images=images, latents=latents,
        profiler=profiler, record=RECORD,
    )  # fmt: skip


LATENTS = 24


class Pixels(FittedGenerator):
    """Images ``(N, 24, 1)`` are their own latents, so that everything has a closed form."""

    def __init__(self):
        self.generator, self.history = None, pa.table({})

    def encode(self, x):
        return x.flatten(1)

    def decode(self, z):
        return z.view(len(z), LATENTS, 1)

    def tensors(self):
        return {}


@pytest.fixture(scope="session")
def pixels():
    """The generator of such images, and how they are drawn."""

    def drawn(count, seed=0):
        return torch.randn(count, LATENTS, 1, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)

    return SimpleNamespace(generator=Pixels(), drawn=drawn, latents=LATENTS)
