"""The latents of a generator brought to one scale, and real images moved in them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.counterfactual import FittedGenerator
from pellucid.counterfactual.support import LIMIT, Whitening
from pellucid.errors import ShapeError

__all__ = ["Space"]

_FAINT = 0.02
"""Share of the strongest axis's mark on the images under which an axis is not drawn."""

_LOOKED, _FEWEST = 32, 20


@dataclass(frozen=True, eq=False)
class Space:
    """Latents with mean 0 and covariance 1 over the images that it was measured on; lengths are Mahalanobis lengths.

    Attributes
    ----------
    generator
        The fitted generator.
    centre, axes
        ``(D,)`` and ``(D, D)``: a latent is centre + axes @ point. A step along the first axis changes what is drawn as much
        as any can, along the second as much as any at right angles to it, and so on.
    marks
        ``(D,)`` how strongly each axis marks the images that are drawn; their squares have mean 1. Points times these lie
        apart as their images do. 0 where next to nothing is drawn: such an axis may tell of an image, as the encoder leaves
        much in it, but a step along it shows nothing.
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
        turn, marks = _strongest_first(generator, latents, white.colour)
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


@torch.no_grad()
def _strongest_first(generator: FittedGenerator, latents: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Return the turn ``(D, D)`` of points to the axes that change most of what is drawn, and how much each marks it."""
    looked = latents[:: -(-len(latents) // _LOOKED)]
    drawn = torch.zeros_like(colour)
    for z in looked:
        ends = torch.cat([z + colour, z - colour]).float()
        up, down = generator.decode(ends).flatten(1).double().cpu().chunk(2)
        drawn += (up - down) @ (up - down).T
    values, turn = torch.linalg.eigh(drawn)
    marks = values.flip(0).clamp(min=0).sqrt()
    marks = torch.where(marks < _FAINT * marks[0], 0.0, marks)
    return turn.flip(1), marks / marks.square().mean().sqrt().clamp(min=1e-12)
