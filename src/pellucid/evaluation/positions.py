"""Positions of an image: the features that metrics hide and order; all channels of a position go together.

A map is read at image positions by the sum over its channels; a coarser map (CAM, a layer) is first brought to the
image's size by linear interpolation. Several inputs lie one after the other in one row of positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.attribution.steps import Scene, Step, pool_channels, upsample
from pellucid.hashing import hash_seed
from pellucid.models import Inputs

__all__ = ["Grid", "Placed", "orders", "place", "streams"]


@dataclass(frozen=True)
class Grid:
    """Where the positions of a batch lie: one spatial shape an input; an input ``(N, C)`` has C positions."""

    shapes: tuple[tuple[int, ...], ...]
    channels: tuple[bool, ...]

    @classmethod
    def of(cls, inputs: Inputs) -> "Grid":
        """Return the grid of prepared inputs."""
        return cls(
            tuple(tuple(x.shape[2:] if x.ndim > 2 else x.shape[1:]) for x in inputs),
            tuple(x.ndim > 2 for x in inputs),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of positions of each input."""
        return tuple(math.prod(shape) for shape in self.shapes)

    def __len__(self) -> int:
        return sum(self.sizes)

    def split(self, mask: Tensor) -> Inputs:
        """Return a row of positions ``(B, P)`` as one tensor an input that broadcasts over its channels."""
        parts = torch.split(mask, list(self.sizes), dim=1)
        return tuple(
            part.reshape(len(mask), *((1,) if wide else ()), *shape)
            for part, shape, wide in zip(parts, self.shapes, self.channels, strict=True)
        )


@dataclass(frozen=True)
class Placed:
    """A map at image positions ``(N, P)`` with what was done to it, or the reason why it has no place."""

    values: Tensor
    step: str
    reason: str = ""


def place(values: Inputs, grid: Grid) -> Placed:
    """Bring raw maps to the positions of the images: sum over channels, then linear interpolation where coarser."""
    nowhere = Placed(values[0].new_empty(0), "")
    if len(values) != len(grid.shapes):
        return Placed(nowhere.values, "", f"{len(values)} maps cannot be placed on {len(grid.shapes)} inputs")
    parts: list[Tensor] = []
    steps: list[str] = []
    for tensor, shape, wide in zip(values, grid.shapes, grid.channels, strict=True):
        found = tuple(tensor.shape[2:] if wide else tensor.shape[1:])
        if len(found) != len(shape) or (found != shape and not wide):
            reason = f"a map of shape {tuple(tensor.shape[1:])} has no place on images of axes {shape}"
            return Placed(nowhere.values, "", reason)
        chosen: list[Step] = [pool_channels(how="sum")] if wide else []
        chosen += [upsample(shape=shape)] if found != shape else []
        steps += [str(step) for step in chosen]
        pooled = tensor.double()
        for step in chosen:
            pooled = step.apply(pooled, Scene())
        parts.append(pooled.to(tensor.dtype).flatten(1))
    return Placed(torch.cat(parts, 1), "; ".join(dict.fromkeys(steps)))


def streams(seeds: Sequence[int], purpose: str) -> list[torch.Generator]:
    """Return one fresh CPU generator a row for one purpose, apart from those that methods draw from."""
    return [torch.Generator().manual_seed(hash_seed("evaluation", purpose, seed)) for seed in seeds]


def orders(values: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return the place of every position of ``(N, P)`` when removed most relevant first; int32, 0 is the first.

    Ties (windows, superpixels, zeros) fall in an order drawn once an image, the same for every map of that image.
    """
    length = values.shape[1]
    drawn = torch.stack([torch.randperm(length, generator=stream) for stream in streams(seeds, "ties")])
    drawn = drawn.to(values.device)
    first = values.gather(1, drawn).argsort(dim=1, descending=True, stable=True)
    removed = drawn.gather(1, first)
    places = torch.arange(length, dtype=torch.int32, device=values.device).expand_as(removed)
    return torch.empty_like(places).scatter(1, removed, places)
