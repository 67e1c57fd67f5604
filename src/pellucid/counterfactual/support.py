"""Where a generator has seen images: how far a latent or an image may go before nothing real vouches for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.guidance import one_input
from pellucid.counterfactual.parts import encoded, in_parts
from pellucid.errors import ShapeError
from pellucid.models import Model, Passes

__all__ = ["LIMIT", "Support", "Whitening"]

LIMIT = 0.99
"""Share of the training images that lie within the limits."""

_RIDGE = 1e-3
_LEAST = 8


@dataclass(frozen=True)
class Whitening:
    """Latents on one scale, each direction by how far images lie apart in it.

    Attributes
    ----------
    centre
        ``(D,)`` mean of every latent number.
    whiten, colour
        ``(D, D)``, symmetric and each other's inverse: a latent less the centre, times the first, has covariance 1; of all
        such turns this one moves the axes least.
    """

    centre: Tensor
    whiten: Tensor
    colour: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> "Whitening":
        """Measure latents ``(N, D)``; directions that no image uses weigh as the weakest that one does."""
        exact = latents.double()
        centre = exact.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(exact.T, correction=0).reshape(len(centre), len(centre)))
        floor = float(values.max().clamp(min=1e-12)) * _RIDGE
        lengths = values.clamp(min=floor).sqrt()
        return cls(
            *(part.to(latents) for part in (centre, (vectors / lengths) @ vectors.T, (vectors * lengths) @ vectors.T))
        )


@dataclass(frozen=True)
class Support:
    """The envelope of the images that a generator was fitted to.

    Attributes
    ----------
    latents
        ``(N, D)`` of the training images.
    outputs
        ``(N, K)`` or ``(N, K, *S)``: what the model says of them.
    centre, spread
        ``(D,)`` mean of every latent number, and its standard deviation; 0 for one that may not be moved.
    whiten, colour
        ``(D, D)``: a latent less the centre, times the first, has covariance 1; steps of covariance 1, times the second, are as
        large as the latents vary, and move nothing that may not be moved.
    distance_limit
        Mahalanobis distance within which 99 % of the training latents lie.
    error_limit
        Mean absolute error of the reconstruction within which 99 % of the training images lie.
    low, high
        ``(1, C, 1, ...)`` least and highest value of every channel; what is shown never leaves them.
    typical_difference
        Median over pairs of training images of their mean absolute difference: how far one real image is from another.
    """

    latents: Tensor
    outputs: Tensor
    centre: Tensor
    spread: Tensor
    whiten: Tensor
    colour: Tensor
    distance_limit: float
    error_limit: float
    low: Tensor
    high: Tensor
    typical_difference: float

    @classmethod
    def of(cls, fitted: FittedGenerator, model: Model, images: Tensor, *, batch_size: int | None = None) -> "Support":
        """Measure the envelope on training images ``(N, C, *S)`` in their own units.

        Raises
        ------
        ShapeError
            When there are fewer than 8 images.
        """
        if len(images) < _LEAST:
            raise ShapeError(f"Support.of() needs {_LEAST} images or more, not {tuple(images.shape)}")
        with torch.no_grad(), Passes(model, batch_size=batch_size) as passes:
            latents = encoded(fitted, images)
            errors = _errors(fitted, images, latents)
            outputs = passes.outputs((one_input(model, images),)).clone()
        axes = (0, *range(2, images.ndim))
        spread = _spread(latents, fitted.movable)
        white = Whitening.of(latents)
        distances = ((latents - white.centre) @ white.whiten).norm(dim=1)
        return cls(
            latents, outputs, white.centre, spread, white.whiten, _movable(latents, spread > 0, white.colour), float(distances.quantile(LIMIT)),
            float(errors.quantile(LIMIT)), images.amin(axes, keepdim=True), images.amax(axes, keepdim=True), _typical(images),
        )  # fmt: skip

    def whitened(self, z: Tensor) -> Tensor:
        """Return latents ``(N, D)`` brought to mean 0 and covariance 1 over the training images."""
        return (z - self.centre) @ self.whiten

    def distance(self, z: Tensor) -> Tensor:
        """Return the Mahalanobis distance ``(N,)`` of latents from the training images', in shares of its limit."""
        lengths: Tensor = self.whitened(z).norm(dim=1)
        return lengths / max(self.distance_limit, 1e-12)

    @torch.no_grad()
    def strain(self, fitted: FittedGenerator, images: Tensor) -> Tensor:
        """Return how near images come to the limits ``(N,)``: 1 is at one, more is outside.

        The greater of the latent's distance and of the error of its reconstruction, each in shares of its limit.
        """
        z = encoded(fitted, images)
        return torch.maximum(self.distance(z), _errors(fitted, images, z) / max(self.error_limit, 1e-12))

    def within(self, changed: Tensor, x: Tensor) -> Tensor:
        """Return changed images whose values stay in the range of the training images, or of the image `x` they come from."""
        axes = tuple(range(2, x.ndim))
        own = x.to(changed)
        low, high = own.amin(axes, keepdim=True), own.amax(axes, keepdim=True)
        return changed.clamp(torch.minimum(low, self.low.to(changed)), torch.maximum(high, self.high.to(changed)))


def _errors(fitted: FittedGenerator, images: Tensor, latents: Tensor) -> Tensor:
    parts = zip(in_parts(images), in_parts(latents), strict=True)
    return torch.cat([(fitted.decode(z) - part.to(z)).abs().flatten(1).mean(1) for part, z in parts])


def _spread(latents: Tensor, movable: Tensor | None) -> Tensor:
    spread = latents.std(0, correction=0)
    free = spread > 0 if movable is None else (spread > 0) & movable.to(spread.device)
    return torch.where(free, spread, torch.zeros_like(spread))


def _movable(latents: Tensor, free: Tensor, every: Tensor) -> Tensor:
    """Return what colours steps of covariance 1 where only some numbers are `free` to move; `every` colours all."""
    if bool(free.all()):
        return every
    colour = torch.zeros_like(every)
    if bool(free.any()):
        colour[torch.outer(free, free)] = Whitening.of(latents[:, free]).colour.flatten()
    return colour


def _typical(images: Tensor) -> float:
    """Return the median difference between each image and another, half the set away."""
    drawn = images[:: max(1, len(images) // 512)]
    return float((drawn - drawn.roll(len(drawn) // 2, 0)).abs().flatten(1).mean(1).median())
