"""The latents of a generator brought to one scale, and real images moved in them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.counterfactual import FittedGenerator
from pellucid.counterfactual.support import LIMIT
from pellucid.errors import ShapeError

__all__ = ["Space"]

_FLOOR = 1e-3
"""Directions of a smaller share of the largest variance are scaled as if they had it: nothing is seen in them."""

_FEWEST = 20


@dataclass(frozen=True, eq=False)
class Space:
    """Latents with mean 0 and covariance 1 over the images that it was measured on; lengths are Mahalanobis lengths.

    Attributes
    ----------
    generator
        The fitted generator.
    centre, axes
        ``(D,)`` and ``(D, D)``: a latent is centre + axes @ point.
    limit
        Length within which 99 % of the images lie.
    low, high
        ``(1, C, 1, ...)`` extreme values of the images by channel; what is made never leaves them.
    """

    generator: FittedGenerator
    centre: Tensor
    axes: Tensor
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
        centre = latents.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(latents.T).reshape(len(centre), len(centre)))
        axes = vectors * values.clamp(min=max(float(values.max()), 1e-12) * _FLOOR).sqrt()
        rest = (0, *range(2, images.ndim))
        found = cls(generator, centre, axes, 0.0, images.amin(rest, keepdim=True), images.amax(rest, keepdim=True))
        limit = float(found._white(latents).norm(dim=1).quantile(LIMIT))
        return cls(generator, centre, axes, limit, found.low, found.high)

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
