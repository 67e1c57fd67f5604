"""The latents of a generator brought to one scale, and real images moved in them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.counterfactual import FittedGenerator
from pellucid.counterfactual.support import LIMIT, Whitening
from pellucid.errors import ShapeError

__all__ = ["Space"]

_FAINT = 1e-2
"""Share of the strongest axis's mark on the images below which an axis counts no less."""

_FEWEST = 20


@dataclass(frozen=True, eq=False)
class Space:
    """Latents with mean 0 and covariance 1 over the images that it was measured on; lengths are Mahalanobis lengths.

    Attributes
    ----------
    generator
        The fitted generator.
    centre, axes
        ``(D,)`` and ``(D, D)``: a latent is centre + axes @ point. The first axis goes with as much of the images' variance
        as any can, the second with as much as any at right angles to it, and so on.
    marks
        ``(D,)`` how strongly each axis marks the images; their squares have mean 1. Points times these lie apart as their
        images do.
    limit
        Length within which 99 % of the images lie.
    low, high
        ``(1, C, 1, ...)`` extreme values of the images by channel; what is made never leaves them.
    """

    generator: FittedGenerator
    centre: Tensor
    axes: Tensor
    marks: Tensor
    limit: float
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, generator: FittedGenerator, images: Tensor) -> "Space":
        """Measure the latents of images ``(N, C, *S)``.

        Raises
        ------
        ShapeError
            When there are fewer than 20 images.
        """
        if len(images) < _FEWEST:
            raise ShapeError(f"the latents are measured on {_FEWEST} images or more, not on {len(images)}")
        with torch.no_grad():
            latents = generator.encode(images).double().cpu()
        white = Whitening.of(latents)
        points = (latents - white.centre) @ white.whiten
        turn, marks = _strongest_first(points, images)
        rest = (0, *range(2, images.ndim))
        low, high = images.amin(rest, keepdim=True), images.amax(rest, keepdim=True)
        limit = float(points.norm(dim=1).quantile(LIMIT))
        return cls(generator, white.centre, white.colour @ turn, marks, limit, low, high)

    def _white(self, latents: Tensor) -> Tensor:
        points: Tensor = torch.linalg.solve(self.axes, (latents - self.centre).T).T
        return points

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the points ``(N, D)``, float64, of images."""
        return self._white(self.generator.encode(images).double().cpu())

    def decode(self, points: Tensor) -> Tensor:
        """Return the images of points; differentiable."""
        latents = self.centre + points @ self.axes.T
        return self.generator.decode(latents.float()).cpu()

    def moved(self, images: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Return real images with what differs between the decoded points `before` and `after` laid on; differentiable."""
        return self.laid(images - self.decode(before), after)

    def laid(self, rest: Tensor, points: Tensor) -> Tensor:
        """Return the images of points with what the generator cannot paint of the real images laid on; differentiable."""
        return torch.minimum(torch.maximum(rest + self.decode(points), self.low), self.high)

    def inside(self, start: Tensor, points: Tensor) -> Tensor:
        """Say which points ``(N,)`` lie where images are, or no farther out than the image that they started from."""
        reach = start.norm(dim=1).clamp(min=self.limit)
        inside: Tensor = points.norm(dim=1) <= reach + 1e-9
        return inside


def _strongest_first(points: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the turn ``(D, D)`` of points to the axes that images go with most, and how much each marks them."""
    flat = images.flatten(1).cpu()
    alike = (flat @ flat.T).double()
    alike = alike - alike.mean(0) - alike.mean(1, keepdim=True) + alike.mean()
    values, turn = torch.linalg.eigh(points.T @ alike @ points)
    marks = values.flip(0).clamp(min=0).sqrt()
    marks = marks.clamp(min=_FAINT * max(float(marks[0]), 1e-12))
    return turn.flip(1), marks / marks.square().mean().sqrt()
