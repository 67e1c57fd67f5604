"""A small U-Net that takes noise off images, told how much noise there is and, by a latent, what the image shows."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.counterfactual.engines.networks import CONVOLUTIONS, perceptron

__all__ = ["Denoiser"]

_WAVES = 32


class _Block(nn.Module):
    """Two convolutions, the second normalised as the latent and the time say, and a way past them."""

    def __init__(self, dims: int, before: int, after: int, told: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dims]
        self.first = nn.Sequential(
            nn.GroupNorm(max(1, before // 8), before), nn.SiLU(), convolution(before, after, 3, padding=1)
        )
        self.norm = nn.GroupNorm(max(1, after // 8), after)
        self.told = nn.Linear(told, 2 * after)
        self.second = nn.Sequential(nn.SiLU(), convolution(after, after, 3, padding=1))
        self.past = nn.Identity() if before == after else convolution(before, after, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told).view(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        found: Tensor = self.past(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)
        return found


class Denoiser(nn.Module):
    """A U-Net for one to three spatial axes of any size.

    Parameters
    ----------
    channels, dims
        Of the images.
    latents
        Numbers a latent has.
    width
        Channels at full size, a multiple of 8 or below 8; they double with every halving.
    stages
        How often the size is halved.
    """

    def __init__(self, channels: int, dims: int, *, latents: int, width: int, stages: int) -> None:
        super().__init__()
        told = 4 * width
        widths = [width * 2**stage for stage in range(stages + 1)]
        convolution = CONVOLUTIONS[dims]
        self.time, self.latent = perceptron(2 * _WAVES, told, told), nn.Linear(latents, told)
        self.enter = convolution(channels, width, 3, padding=1)
        self.down = nn.ModuleList(_Block(dims, here, here, told) for here in widths[:-1])
        self.halve = nn.ModuleList(convolution(here, below, 3, stride=2, padding=1) for here, below in pairwise(widths))
        self.middle = _Block(dims, widths[-1], widths[-1], told)
        self.up = nn.ModuleList(
            _Block(dims, here + below, here, told) for here, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.leave = nn.Sequential(
            nn.GroupNorm(max(1, width // 8), width), nn.SiLU(), convolution(width, channels, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor, z: Tensor) -> Tensor:
        """Return what is predicted of noisy images ``(N, C, *S)`` at times ``(N,)`` in 0 … 1, given latents ``(N, D)``."""
        told = functional.silu(self.time(_waves(time)) + self.latent(z))
        x, kept = self.enter(x), []
        for block, halve in zip(self.down, self.halve, strict=True):
            x = block(x, told)
            kept.append(x)
            x = halve(x)
        x = self.middle(x, told)
        for block in self.up:
            there = kept.pop()
            x = functional.interpolate(x, size=there.shape[2:], mode="nearest")
            x = block(torch.cat([there, x], 1), told)
        found: Tensor = self.leave(x)
        return found


def _waves(time: Tensor) -> Tensor:
    """Return sines and cosines of a time, of wavelengths from 6 to a 160th of it."""
    rates = torch.exp(torch.linspace(0.0, math.log(1000.0), _WAVES, device=time.device))
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
