"""Which part of the image a token is: the grid of patches, and the class tokens and registers beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

__all__ = ["PatchGrid", "Tokens", "last_grid"]

PatchGrid = tuple[Annotated[int, Field(ge=1)], ...] | None
"""Annotation of a recipe's ``grid``: patches along each axis of the image, where a net does not show them itself."""


@dataclass(frozen=True)
class Tokens:
    """The layout of a sequence of tokens.

    Attributes
    ----------
    count
        Tokens in all, T.
    grid
        Spatial shape of the patches, row-major.
    first
        Place of the first patch; tokens before and behind the patches are class tokens or registers.
    assumed
        What the layout supposes beyond what was seen, as a sentence, or "".
    """

    count: int
    grid: tuple[int, ...]
    first: int = 0
    assumed: str = ""

    @classmethod
    def behind(cls, count: int, grid: tuple[int, ...], assumed: str = "") -> "Tokens":
        """Return the layout of `count` tokens of which the last are the patches."""
        return cls(count, grid, count - math.prod(grid), assumed)

    @property
    def patches(self) -> slice:
        """Places of the patches."""
        return slice(self.first, self.first + math.prod(self.grid))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader of a map must know of the layout."""
        return (self.assumed,) if self.assumed else ()

    @property
    def extra(self) -> tuple[int, ...]:
        """Places of the tokens that are no patches."""
        inside = range(self.patches.start, self.patches.stop)
        return tuple(place for place in range(self.count) if place not in inside)

    def image(self, values: Tensor) -> Tensor:
        """Lay numbers of each token ``(N, C, T)`` out as maps ``(N, C, *grid)``; extra tokens are dropped."""
        return values[..., self.patches].reshape(*values.shape[:-1], *self.grid)


def last_grid(grids: Sequence[tuple[int, ...]], patches: range) -> tuple[int, ...] | None:
    """Return the last of the grids that a forward showed which has so many places, or None."""
    return next((grid for grid in reversed(grids) if math.prod(grid) in patches), None)
