"""A small convolutional autoencoder for signals, images and volumes of any number of channels."""

import itertools
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.errors import CannotExplain

__all__ = ["Coder"]

_CONVOLUTIONS: Mapping[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_LAYOUT = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
"""Twice as fast on a CPU as channels first."""

_SMALLEST = 8
_DEEPEST = 5
_GRID = 4
"""Pixels a side at which the encoder stops halving."""


def _normed(before: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(before, nn.GroupNorm(max(1, width // 8), width), nn.SiLU())


class Coder(nn.Module):
    """Images ``(N, C, *S)`` to the mean and log-variance of latents ``(N, D)``, and latents to images.

    Sizes that cannot be halved evenly are filled up at their far edge and cut again. Every channel is brought to about
    −1 to 1 by what `scale_to` saw.

    Parameters
    ----------
    shape
        ``(C, *S)``, one to three spatial axes of 8 pixels or more.
    latents
        Numbers a latent has.
    width
        Channels after the first halving.

    Raises
    ------
    CannotExplain
        When the shape is none that can be coded.
    """

    def __init__(self, shape: tuple[int, ...], *, latents: int, width: int = 24) -> None:
        super().__init__()
        channels, size = shape[0], shape[1:]
        if len(size) not in _CONVOLUTIONS or min(size) < _SMALLEST:
            raise CannotExplain(
                f"an autoencoder takes one to three spatial axes of {_SMALLEST} pixels or more, not images of shape {shape} "
                "(C, *S); take single frames of a film, or resize"
            )
        self.size, self.latents = size, latents
        depth = max(1, min(_DEEPEST, (min(size) // _GRID).bit_length() - 1))
        self.padded = tuple(-(-side // 2**depth) * 2**depth for side in size)
        grid = tuple(side // 2**depth for side in self.padded)
        widths = [min(width * 2**stage, 128) for stage in range(depth)]
        convolution = _CONVOLUTIONS[len(size)]
        self.encoder = nn.Sequential(
            *(
                _normed(convolution(before, after, 4, stride=2, padding=1), after)
                for before, after in zip([channels, *widths[:-1]], widths, strict=True)
            ),
            nn.Flatten(1),
            nn.Linear(widths[-1] * prod(grid), 2 * latents),
        )
        steps = [64, *[64] * (depth - 2), *[32] * min(1, depth - 1)]
        finest = _TRANSPOSED[len(size)](steps[-1], 16, 4, stride=2, padding=1)
        self.start = nn.Sequential(nn.Linear(latents, steps[0] * prod(grid)), nn.Unflatten(1, (steps[0], *grid)))
        self.decoder = nn.Sequential(
            nn.SiLU(),
            *(
                nn.Sequential(nn.Upsample(scale_factor=2), _normed(convolution(before, after, 3, padding=1), after))
                for before, after in itertools.pairwise(steps)
            ),
            finest,
            nn.SiLU(),
            convolution(16, channels, 3, padding=1),
        )
        self.register_buffer("centre", torch.zeros(1, channels, *[1] * len(size)))
        self.register_buffer("reach", torch.ones(1, channels, *[1] * len(size)))
        self.centre: Tensor
        self.reach: Tensor
        self.to(memory_format=_LAYOUT[len(size)])  # type: ignore[call-overload]

    def scale_to(self, images: Tensor) -> None:
        """Take the scale of every channel from images: all but one pixel in a hundred lie within −1 to 1."""
        drawn = images[:: max(1, len(images) // 256)].transpose(0, 1).flatten(1).double()
        ends = torch.stack([_ends(channel) for channel in drawn]).to(self.centre)
        self.centre.copy_((ends.sum(1) / 2).view_as(self.centre))
        self.reach.copy_(((ends[:, 1] - ends[:, 0]) / 2).view_as(self.reach))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance ``(N, D)`` of the latents of images."""
        scaled = (x - self.centre) / self.reach
        fill = [edge for side, padded in zip(self.size, self.padded, strict=True) for edge in (padded - side, 0)][::-1]
        if any(fill):
            scaled = functional.pad(scaled, fill, mode="replicate")
        code: Tensor = self.encoder(scaled.contiguous(memory_format=_LAYOUT[len(self.size)]))
        mean, spread = code.chunk(2, 1)
        return mean, spread.clamp(-12, 4)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents ``(N, D)``."""
        cut = tuple(slice(0, side) for side in self.size)
        coarse = self.start(z).contiguous(memory_format=_LAYOUT[len(self.size)])
        scaled: Tensor = self.decoder(coarse)[(slice(None), slice(None), *cut)]
        return scaled * self.reach + self.centre


def _ends(values: Tensor) -> Tensor:
    """Return the bounds of the middle 99 % of values, apart also where all are equal."""
    drawn = values[:: max(1, len(values) // 2**20)].sort().values
    low, high = drawn[int(0.005 * (len(drawn) - 1))], drawn[int(0.995 * (len(drawn) - 1))]
    if high <= low:
        low, high = drawn[0], drawn[-1]
    return torch.stack([low, high]) if high > low else torch.stack([low - 0.5, low + 0.5])
