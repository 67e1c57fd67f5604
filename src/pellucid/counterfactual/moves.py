"""A change of images that can be given in any dose: along a generator's latents, or in pixels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.support import Support

__all__ = ["LatentMove", "Move", "PixelMove"]


class Move(ABC):
    """One change a row; dose 0 is the image as it is, dose 1 the change that was searched for."""

    @abstractmethod
    def at(self, dose: float, rows: Tensor) -> Tensor:
        """Return the images ``(B, C, *S)`` of some rows at a dose."""

    @abstractmethod
    def strain(self, dose: float, rows: Tensor) -> Tensor:
        """Return how near the limits of the training images the rows come at a dose ``(B,)``; more than 1 is outside."""

    @property
    @abstractmethod
    def length(self) -> Tensor:
        """Size of each row's change ``(N,)``, in spreads of the training images."""


@dataclass(frozen=True)
class LatentMove(Move):
    """What a step in the latents changes, pasted on the real image: x + D(z + dose·δ) − D(z).

    Attributes
    ----------
    fitted, support
        The generator and its envelope.
    x, z
        Images and their latents.
    step
        ``(N, D)``: δ.
    """

    fitted: FittedGenerator
    support: Support
    x: Tensor
    z: Tensor
    step: Tensor

    def at(self, dose: float, rows: Tensor) -> Tensor:
        """Return the images of some rows at a dose."""
        return pasted(self.fitted, self.support, self.x[rows], self.z[rows], dose * self.step[rows])

    def strain(self, dose: float, rows: Tensor) -> Tensor:
        """Return the strain of the image that is shown, and no less than that of the latent that it was made from."""
        there = self.support.distance(self.z[rows] + dose * self.step[rows])
        return torch.maximum(there, self.support.strain(self.fitted, self.at(dose, rows)))

    @property
    def length(self) -> Tensor:
        """Mahalanobis length of the step."""
        lengths: Tensor = (self.step @ self.support.whiten).norm(dim=1)
        return lengths


@dataclass(frozen=True)
class PixelMove(Move):
    """Numbers added to the pixels: x + dose·change.

    Attributes
    ----------
    fitted, support
        The generator and envelope by which the strain is told.
    x, change
        Images ``(N, C, *S)`` and what is added to them.
    """

    fitted: FittedGenerator
    support: Support
    x: Tensor
    change: Tensor

    def at(self, dose: float, rows: Tensor) -> Tensor:
        """Return the images of some rows at a dose."""
        return self.support.within(self.x[rows] + dose * self.change[rows], self.x[rows])

    def strain(self, dose: float, rows: Tensor) -> Tensor:
        """Return the strain of the image that is shown."""
        return self.support.strain(self.fitted, self.at(dose, rows))

    @property
    def length(self) -> Tensor:
        """Mean absolute change, in shares of the typical difference between two real images."""
        return self.change.abs().flatten(1).mean(1) / max(self.support.typical_difference, 1e-12)


def pasted(fitted: FittedGenerator, support: Support, x: Tensor, z: Tensor, step: Tensor) -> Tensor:
    """Return images with what the step changes laid over them; differentiable in the step."""
    there, here = fitted.decode(torch.cat([z + step, z])).chunk(2)
    return support.within(x.to(there) + (there - here), x)
