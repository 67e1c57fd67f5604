"""A change of images that can be given in any dose: along a generator's latents, or in pixels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.parts import in_parts
from pellucid.counterfactual.support import LIMIT, Support

__all__ = ["LatentMove", "Move", "PixelMove", "pasted"]


class Move(ABC):
    """One change a row; dose 0 is the image as it is, dose 1 the change that was searched for."""

    @abstractmethod
    def at(self, dose: float, rows: Tensor) -> Tensor:
        """Return the images ``(B, C, *S)`` of some rows at a dose."""

    @abstractmethod
    def strain(self, dose: float, rows: Tensor, shown: Tensor) -> Tensor:
        """Return how near the limits of the training images the rows' images `shown` at a dose come ``(B,)``: 1 is at one."""

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

    @cached_property
    def here(self) -> Tensor:
        """D(z) of every row, which no dose changes."""
        with torch.no_grad():
            return torch.cat([self.fitted.decode(part) for part in in_parts(self.z)])

    def at(self, dose: float, rows: Tensor) -> Tensor:
        """Return the images of some rows at a dose."""
        return self.made(self.z[rows] + dose * self.step[rows], rows)

    def made(self, there: Tensor, rows: Tensor) -> Tensor:
        """Return the images of some rows where their latents are moved to `there` ``(B, D)``."""
        return pasted(self.fitted, self.support, self.x[rows], self.here[rows], there)

    def strain(self, dose: float, rows: Tensor, shown: Tensor) -> Tensor:
        """Return the strain of the image that is shown, and no less than that of the latent that it was made from.

        The latent may also go no further along its own way than training images lie along it, or the real image itself.
        """
        there = self.z[rows] + dose * self.step[rows]
        middle, reach = (part[rows] for part in self._ends)
        along = ((self.support.whitened(there) * self._ways[rows]).sum(1) - middle).abs() / reach
        return torch.stack([self.support.distance(there), along, self.support.strain(self.fitted, shown)]).amax(0)

    @cached_property
    def _ways(self) -> Tensor:
        """Each row's direction ``(N, D)`` in whitened latents, of length 1; none where nothing moves."""
        return self.step @ self.support.whiten / self.length[:, None].clamp(min=1e-12)

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        """The middle and half the length ``(N,)`` of the stretch of each way on which 99 % of the training images lie, or z."""
        known = self.support.whitened(self.support.latents)
        shares = torch.tensor([(1 - LIMIT) / 2, (1 + LIMIT) / 2]).to(known)
        ends = [(known @ ways.T).quantile(shares, dim=0) for ways in in_parts(self._ways)]
        low, high = torch.cat(ends, 1)
        own = (self.support.whitened(self.z) * self._ways).sum(1)
        middle = (low + high) / 2
        return middle, torch.maximum((high - low) / 2, (own - middle).abs()).clamp(min=1e-12)

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

    def strain(self, dose: float, rows: Tensor, shown: Tensor) -> Tensor:  # noqa: ARG002
        """Return the strain of the image that is shown."""
        return self.support.strain(self.fitted, shown)

    @property
    def length(self) -> Tensor:
        """Mean absolute change, in shares of the typical difference between two real images."""
        return self.change.abs().flatten(1).mean(1) / max(self.support.typical_difference, 1e-12)


def pasted(fitted: FittedGenerator, support: Support, x: Tensor, here: Tensor, there: Tensor) -> Tensor:
    """Return images with the way from their reconstructions `here` to the latents `there` laid over them; it has slopes."""
    made = fitted.decode(there)
    return support.within(x.to(made) + (made - here), x)
