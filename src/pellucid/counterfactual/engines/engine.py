"""What the engines have in common: settings of size and training, one way of fitting, one of coming back from a file."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Protocol

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.engines.loop import Loop, digest
from pellucid.counterfactual.engines.networks import Count
from pellucid.counterfactual.generator import FittedGenerator, Generator
from pellucid.counterfactual.guidance import Guide, follow
from pellucid.counterfactual.parts import in_parts
from pellucid.errors import CannotExplain, ShapeError
from pellucid.hashing import hash_seed
from pellucid.models import Model, Passes, ReadOut

__all__ = ["Codec", "Engine", "FittedEngine", "Objective", "PlainCodec", "adam", "guide_of", "judged", "plain"]

_BATCH = 256
_LARGE = 128
_BETAS = (0.9, 0.99)
_HISTORY = "history."


class Codec(nn.Module):
    """The networks that remain of a training: images to latents and back.

    Attributes
    ----------
    movable
        ``(D,)`` which latents may be moved to change the model's answer; the others keep what is the image's own.
    outputs
        How many outputs the model has that was followed.
    """

    movable: Tensor
    outputs: Tensor

    def __init__(self, movable: Tensor, outputs: int) -> None:
        super().__init__()
        self.register_buffer("movable", movable)
        self.register_buffer("outputs", torch.tensor(outputs))

    def scale_to(self, images: Tensor) -> None:
        """Take the scale of every channel from images."""
        raise NotImplementedError

    def latents(self, x: Tensor) -> Tensor:
        """Return the latents ``(N, D)`` of images."""
        raise NotImplementedError

    def images(self, z: Tensor) -> Tensor:
        """Return the images of latents; differentiable."""
        raise NotImplementedError


class PlainCodec(Codec):
    """An autoencoder, of whose latents all or the first few may be moved."""

    def __init__(self, coder: Coder, outputs: int, *, movable: int | None = None) -> None:
        super().__init__(torch.arange(coder.latents) < (movable or coder.latents), outputs)
        self.coder = coder

    def scale_to(self, images: Tensor) -> None:
        """Take the scale of every channel from images."""
        self.coder.scale_to(images)

    def latents(self, x: Tensor) -> Tensor:
        """Return the means of the latents of images."""
        return self.coder.encode(x)[0]

    def images(self, z: Tensor) -> Tensor:
        """Return the images of latents; differentiable."""
        return self.coder.decode(z)


class FittedEngine(FittedGenerator):
    """A generator that has learnt; images are in their own units."""

    def __init__(self, generator: Generator, codec: Codec, history: pa.Table) -> None:
        self.generator, self.history = generator, history
        self.codec = codec.eval().requires_grad_(False)  # noqa: FBT003  # torch's own spelling

    @property
    def movable(self) -> Tensor:
        """Which latents ``(D,)`` may be moved to change the model's answer, the others being the image's own."""
        return self.codec.movable

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents ``(N, D)`` of images ``(N, C, *S)``."""
        x = x.to(self.movable.device, torch.float32)
        return torch.cat([self.codec.latents(part) for part in in_parts(x, _BATCH)])

    def decode(self, z: Tensor) -> Tensor:
        """Return the images ``(N, C, *S)`` of latents ``(N, D)``; differentiable."""
        z = z.to(self.movable.device, torch.float32)
        return torch.cat([self.codec.images(part) for part in in_parts(z, _BATCH)])

    def tensors(self) -> Mapping[str, Tensor]:
        """Return weights, scale and history, by name."""
        told = {
            _HISTORY + name: torch.tensor(self.history[name].to_pylist(), dtype=torch.float64)
            for name in self.history.column_names
        }
        return {name: tensor.contiguous() for name, tensor in self.codec.state_dict().items()} | told


class Objective(Protocol):
    """What an engine does with one batch while it learns."""

    @property
    def helpers(self) -> nn.ModuleList:
        """What learns beside the generator and is not needed afterwards."""

    @property
    def optimisers(self) -> Sequence[Optimizer]:
        """Of the generator and of those helpers."""

    def __call__(self, x: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Learn from images ``(N, C, *S)`` in their own units; return the parts of the loss."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Engine(Generator):
    """A generator that learns by steps on batches.

    Attributes
    ----------
    latents
        Numbers a latent has; None: 32, from 128 pixels a side 64.
    width
        Channels after the first halving.
    steps, batch_size, rate
        Of Adam; the rate falls evenly to nothing.
    flips
        Whether mirror images are learnt from too, along every spatial axis; never for signals of one axis.
    """

    latents: Count | None = None
    width: Count = 24
    steps: Count = 4500
    batch_size: Annotated[int, Field(ge=2)] = 64
    rate: Annotated[float, Field(gt=0)] = 1e-3
    flips: bool = True

    def codec(self, shape: tuple[int, ...], outputs: int) -> Codec:
        """Return the networks before training, for images of `shape` and a model of so many outputs.

        An autoencoder all of whose latents may be moved, where an engine has no other.
        """
        return PlainCodec(Coder(shape, latents=self.numbers(shape), width=self.width), outputs)

    @abstractmethod
    def objective(self, codec: Codec, passes: Passes, images: Tensor) -> Objective:
        """Return what is done with a batch."""

    def numbers(self, shape: tuple[int, ...]) -> int:
        """Return how many numbers a latent has for images of `shape`."""
        return self.latents or (64 if min(shape[1:], default=0) >= _LARGE else 32)

    def fit(
        self, images: Tensor, model: Model, *, seed: int = 0, checkpoint: Path | None = None, progress: bool = False
    ) -> FittedEngine:
        """Train on images ``(N, C, *S)`` in their own units; the same seed gives the same generator on the same machine.

        Raises
        ------
        CannotExplain
            When the images have more than three spatial axes or too few pixels a side, or the model does not offer what
            the settings need.
        ShapeError
            When there are fewer than two images.
        BadStudy
            When the checkpoint belongs to another run, or training diverges.
        """
        if len(images) < 2:
            raise ShapeError(f"{self}.fit() needs two images or more, not {tuple(images.shape)}")
        with Passes(model) as passes:
            with torch.random.fork_rng():
                torch.manual_seed(hash_seed(seed, "first weights"))
                codec = self.codec(tuple(images.shape[1:]), _outputs(passes, images)).to(model.device)
                codec.scale_to(images)
                objective = self.objective(codec, passes, images)
            flips = self.flips and images.ndim > 3
            told = {**asdict(self), "name": self.name, "flips": flips, "seed": seed, "images": digest(images)}
            loop = Loop(
                networks=nn.ModuleList([codec, objective.helpers]), optimisers=objective.optimisers, step=objective,
                steps=self.steps, batch_size=self.batch_size, seed=seed, flips=flips, told=told,
            )  # fmt: skip
            history = loop.run(images, checkpoint, progress=progress)
        return FittedEngine(self, codec, history)

    def restore(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> FittedEngine:
        """Return what was fitted, for images of `shape` ``(C, *S)``, on the device of the tensors."""
        codec = self.codec(shape, int(tensors["outputs"])).to(tensors["outputs"].device)
        codec.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(_HISTORY)})
        columns = {name.removeprefix(_HISTORY): tensors[name].tolist() for name in tensors if name.startswith(_HISTORY)}
        return FittedEngine(self, codec, pa.table(columns))


def _outputs(passes: Passes, images: Tensor) -> int:
    """Return how many outputs the model has."""
    return passes.outputs(passes.model.prepare(images[:1])).flatten(1).shape[1]


def adam(*modules: nn.Module, rate: float, betas: tuple[float, float] = _BETAS) -> Adam:
    """Return the optimiser of some networks."""
    return Adam([parameter for module in modules for parameter in module.parameters()], lr=rate, betas=betas)


def judged(passes: Passes, images: Tensor, miss: ReadOut) -> Tensor:
    """Return what `miss` reads from the model's outputs for images, ``(N,)``, with slopes back to the images."""
    values, slopes = follow(passes, images, miss, torch.arange(len(images)))
    pull = (images * slopes).flatten(1).sum(1)
    return values + pull - pull.detach()


def guide_of(passes: Passes, images: Tensor, told: str) -> Guide:
    """Return what compares the model's outputs, where its slopes reach the image.

    Raises
    ------
    CannotExplain
        Where they do not.
    """
    guide = Guide(passes, images)
    if not guide.reachable:
        raise CannotExplain(
            f"{told} follows the model by its slopes, and none reach the image; faithful_autoencoder does without"
        )
    return guide


def plain(codec: Codec) -> Coder:
    """Return the autoencoder of a `PlainCodec`."""
    if not isinstance(codec, PlainCodec):
        raise TypeError(f"{type(codec).__name__} is no PlainCodec")
    return codec.coder
