"""Regular grids over spatial axes: how many cells an axis has, and which cell a pixel or a segment lies in."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pellucid.errors import ShapeError

__all__ = ["Cells", "Grid", "cells_along", "labels_of", "regular"]

Cells = Annotated[int, Field(ge=1)]

Grid = Cells | tuple[Cells, ...] | None
"""Annotation of a recipe's number of cells: one number, one an axis (Y, X), or None for its default."""


def cells_along(asked: str, grid: int | tuple[int, ...] | None, space: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the number of cells of each spatial axis; by default near-cubic ones, about `count` in all.

    Raises
    ------
    ShapeError
        When the grid that `asked` gives does not fit the axes.
    """
    if grid is None:
        return regular(min(count, math.prod(space)), space)
    cells = (grid,) * len(space) if isinstance(grid, int) else grid
    if len(cells) != len(space) or any(cell > size for cell, size in zip(cells, space, strict=True)):
        raise ShapeError(
            f"{asked}: grid {cells} does not fit the spatial axes {space}: one number an axis, none above its size"
        )
    return cells


def regular(count: int, space: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of near-cubic cells an axis that come nearest to `count`."""
    edge = (math.prod(space) / count) ** (1 / len(space))
    return tuple(min(size, max(1, round(size / edge))) for size in space)


def labels_of(cells: tuple[int, ...], space: tuple[int, ...]) -> Tensor:
    """Return the cell of each pixel, integers ``(*S)`` in row-major order."""
    labels = torch.zeros(space, dtype=torch.long)
    for axis, (cell, size) in enumerate(zip(cells, space, strict=True)):
        places = torch.arange(size) * cell // size
        labels = labels * cell + places.view(-1, *[1] * (len(space) - axis - 1))
    return labels
