"""An autoencoder laid over the principal components of its images: what is linear need not be learnt."""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.counterfactual.coder import Coder

__all__ = ["PrincipalCoder"]

_MOST_VALUES = 2**16
_MOST_IMAGES = 2048
_SPARE, _ROUNDS = 16, 3
_FLOOR = 1e-3
_FIRST_SPREAD = -3.0
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class PrincipalCoder(Coder):
    """A `Coder` whose convolutions correct a linear code of the same latents: the principal components, each of variance 1.

    The components are taken by `scale_to` (randomised SVD, Halko et al., SIAM Review 2011), and before the first step nothing
    is corrected. Small bright structures that convolutions alone learn to draw in many thousands of steps are there from the
    start. Images of more than 65536 values are coded linearly at half, a quarter, ... of their size.

    Parameters
    ----------
    shape, latents, width
        As for `Coder`.
    mirrors
        Whether mirror images count among the images, along every spatial axis.
    """

    def __init__(self, shape: tuple[int, ...], *, latents: int, width: int, mirrors: bool) -> None:
        super().__init__(shape, latents=latents, width=width)
        self.mirrors = mirrors
        factor = 1
        while shape[0] * prod(-(-side // factor) for side in shape[1:]) > _MOST_VALUES:
            factor *= 2
        self.coarse = (shape[0], *(-(-side // factor) for side in shape[1:]))
        self.register_buffer("middle", torch.zeros(prod(self.coarse)))
        self.register_buffer("axes", torch.zeros(latents, prod(self.coarse)))
        self.register_buffer("lengths", torch.ones(latents))
        self.middle: Tensor
        self.axes: Tensor
        self.lengths: Tensor
        code, drawn = self.encoder[-1], self.decoder[-1]
        for parameter in (*code.parameters(), *drawn.parameters()):
            nn.init.zeros_(parameter)
        *_, bias = code.parameters()
        nn.init.constant_(bias[latents:], _FIRST_SPREAD)

    def scale_to(self, images: Tensor) -> None:
        """Take the scale of every channel, and the principal components, from images."""
        super().scale_to(images)
        known = images[:: -(-len(images) // _MOST_IMAGES)]
        if self.mirrors:
            known = torch.cat([known, *(known.flip(axis) for axis in range(2, images.ndim))])
        rows = self._flat(known.to(self.centre))
        self.middle.copy_(rows.mean(0))
        rows = rows - self.middle
        size = min(self.latents + _SPARE, *rows.shape)
        _, lengths, axes = torch.svd_lowrank(rows, q=size, niter=_ROUNDS)
        count = min(size, self.latents)
        lengths = lengths[:count] / len(rows) ** 0.5
        self.axes[:count].copy_(axes.T[:count])
        self.lengths[:count].copy_(lengths.clamp(min=_FLOOR * float(lengths.max().clamp(min=1e-12))))

    def _flat(self, x: Tensor) -> Tensor:
        scaled = (x - self.centre) / self.reach
        if self.coarse[1:] != self.size:
            scaled = functional.interpolate(scaled, list(self.coarse[1:]), mode="area")
        return scaled.flatten(1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance ``(N, D)`` of the latents of images."""
        mean, log_variance = super().encode(x)
        return mean + (self._flat(x) - self.middle) @ self.axes.T / self.lengths, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents ``(N, D)``."""
        drawn = (self.middle + (z * self.lengths) @ self.axes).view(-1, *self.coarse)
        if self.coarse[1:] != self.size:
            drawn = functional.interpolate(drawn, list(self.size), mode=_LINEAR[len(self.size)], align_corners=False)
        return super().decode(z) + drawn * self.reach
