"""A world with known counterfactuals: images are blobs of light, latents their brightness, the model reads one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from pellucid.counterfactual import FittedGenerator, Generator, gate
from pellucid.models import Model

SIZE, BLOBS = 24, 6
BRITTLE = 0.5


def blobs() -> Tensor:
    """Return six smooth blobs ``(6, SIZE * SIZE)``."""
    places = [(6, 6), (6, 17), (17, 6), (17, 17), (12, 12), (3, 12)]
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack([(-((y - a) ** 2 + (x - b) ** 2) / (2 * 2.5**2)).exp().flatten() for a, b in places])


BASIS = blobs()
READ = torch.linalg.pinv(BASIS)


def paint(z: Tensor) -> Tensor:
    """Return the images ``(N, 1, SIZE, SIZE)`` of brightnesses ``(N, 6)``."""
    return (0.5 + 0.15 * z @ BASIS).view(-1, 1, SIZE, SIZE)


def scenes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images with a little noise of the camera, and their brightnesses."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, BLOBS, generator=random)
    return paint(z) + 0.01 * torch.randn(count, 1, SIZE, SIZE, generator=random), z


class Reader(nn.Module):
    """Logits of classes dark and bright: ``∓2 z₀``, read linearly, with a brittle trace in the pixels if asked for."""

    def __init__(self, brittle: float = 0.0, outputs: int = 2) -> None:
        super().__init__()
        weight = READ[:, 0] / 0.15
        noise = torch.randn(len(weight), generator=torch.Generator().manual_seed(7))
        weight = weight + brittle * (noise - READ @ (BASIS @ noise))  # the blobs do not see it
        self.register_buffer("weight", weight)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        read = 2 * ((x - 0.5).flatten(1) @ self.weight)
        return read[:, None] if self.outputs == 1 else torch.stack([-read, read], 1)


def reader(brittle: float = 0.0) -> Model:
    return Model(Reader(brittle), classes=("dark", "bright"), task="classification")


@dataclass(frozen=True, kw_only=True, repr=False)
class oracle(Generator):
    """The generator that knows the world, and what may be wrong with one."""

    flaw: str = ""

    def fit(self, images, model, *, seed=0, checkpoint: Path | None = None, progress=False):
        return Oracle(self)

    def restore(self, tensors: Mapping[str, Tensor], shape):
        return Oracle(self)


class Oracle(FittedGenerator):
    """Encodes by least squares and decodes exactly, but for its flaw."""

    def __init__(self, generator: oracle) -> None:
        self.generator = generator
        self.history = pa.table({"epoch": [1.0]})

    def encode(self, x: Tensor) -> Tensor:
        z = (x - 0.5).flatten(1) @ READ / 0.15
        return z.flip(1) if self.generator.flaw == "shuffled" else z

    def decode(self, z: Tensor) -> Tensor:
        made = paint(z)
        if self.generator.flaw == "constant":
            return paint(torch.zeros_like(z)) + 0 * made
        if self.generator.flaw == "blurred":
            return nn.functional.avg_pool2d(made, 15, 1, 7, count_include_pad=False)
        if self.generator.flaw == "adversarial":
            return paint(z * torch.tensor([0.0, 1, 1, 1, 1, 1])) + self._cheat(z)
        return made

    def _cheat(self, z: Tensor) -> Tensor:
        """Return what looks like noise and gives the brittle model the brightness that is left out of the picture."""
        weight = Reader(BRITTLE).weight
        return (0.5 * z[:, :1] * weight.sign() / weight.abs().sum() * 2).view(-1, 1, SIZE, SIZE)

    def tensors(self) -> Mapping[str, Tensor]:
        return {}


@pytest.fixture(scope="session")
def world():
    """What the tests of counterfactuals take from the world: scenes, readers, generators, and an open gate."""
    images, z = scenes(300)
    held_out, z_out = scenes(80, seed=1)
    model = reader()
    fitted = oracle().fit(images, model)
    return SimpleNamespace(
        scenes=scenes, paint=paint, reader=reader, Reader=Reader, oracle=oracle, brittle=BRITTLE, images=images, z=z,
        held_out=held_out, z_out=z_out, model=model, fitted=fitted, gate=gate(fitted, model, held_out, training=images),
        gate_of=lambda model: gate(fitted, model, held_out[:24], training=images),
    )  # fmt: skip
