"""What a generator is: a value that, fitted to one model and its images, turns images into latents and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from pellucid.models import Model
from pellucid.recipes import Recipe, Registry

__all__ = ["GENERATORS", "FittedGenerator", "Generator"]


class FittedGenerator(ABC):
    """A generator that has seen its images; it never changes again.

    Attributes
    ----------
    generator
        The settings that it was fitted with.
    history
        One row an epoch: ``epoch`` and a column a loss.
    """

    generator: "Generator"
    history: pa.Table

    @property
    def movable(self) -> Tensor | None:
        """Which latents ``(D,)`` a search may move, the others being the image's own; None: all."""
        return None

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the latents ``(N, D)`` of images ``(N, C, *S)``; row i depends on image i alone."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Return the images ``(N, C, *S)`` of latents ``(N, D)``; differentiable."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Return all that was learnt, by name, for a safetensors file."""


@dataclass(frozen=True, repr=False)
class Generator(Recipe):
    """The settings of a generator; a value that prints and parses like a method."""

    @abstractmethod
    def fit(
        self, images: Tensor, model: Model, *, seed: int = 0, checkpoint: Path | None = None, progress: bool = False
    ) -> FittedGenerator:
        """Learn from images ``(N, C, *S)`` in their own units, as `pellucid.explain` takes them, what they and the model share.

        Parameters
        ----------
        images
            Training images.
        model
            The explained model; it is not changed.
        seed
            Of everything random.
        checkpoint
            File that training is kept in after every epoch; one of the same settings and images goes on from there.
        progress
            Whether to show a bar.
        """

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> FittedGenerator:
        """Return what was fitted from its `FittedGenerator.tensors`, for images of `shape` ``(C, *S)``."""


GENERATORS: Registry[Generator] = Registry("generator", Generator, "pellucid.generators")  # type: ignore[type-abstract]
"""The generators by name; other packages add theirs by the entry point group ``pellucid.generators``."""
