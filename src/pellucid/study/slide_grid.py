"""How a slide is cut for its map: tiles that are written, wider windows that are read, shards that one task owns."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from numpy.typing import NDArray

from pellucid.errors import BadStudy

__all__ = ["Corner", "Grid", "Tile"]

Corner = tuple[int, int]
"""First row and column of a shard, in pixels."""


@dataclass(frozen=True)
class Tile:
    """A square of the map and the window that is read for it, cut off where the slide ends.

    Attributes
    ----------
    place
        Row and column of the tile among all tiles of the slide.
    rows, columns
        What is written, in pixels of the slide.
    window
        Rows and columns that the model sees.
    """

    place: tuple[int, int]
    rows: slice
    columns: slice
    window: tuple[slice, slice]

    @property
    def name(self) -> str:
        """Its id: random streams belong to it."""
        return f"{self.rows.start}_{self.columns.start}"

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.window[0].stop - self.window[0].start, self.window[1].stop - self.window[1].start

    def inside(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the part of a window's map that is written."""
        top, left = self.rows.start - self.window[0].start, self.columns.start - self.window[1].start
        height, width = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        return values[top : top + height, left : left + width]


@dataclass(frozen=True)
class Grid:
    """Tiles, margins and shards over a slide.

    Attributes
    ----------
    shape
        Rows and columns of the slide.
    tile, halo, shard
        Sides of a tile, of the margin round it and of a shard, in pixels.
    """

    shape: tuple[int, int]
    tile: int
    halo: int
    shard: int

    def __post_init__(self) -> None:
        if self.tile < 1 or self.halo < 0 or self.shard < 1 or self.shard % self.tile:
            raise BadStudy(
                f"shard={self.shard} is no whole number of tiles of {self.tile} pixels, or halo={self.halo} is below 0"
            )

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.shape[0] // self.tile), -(-self.shape[1] // self.tile)

    @property
    def side(self) -> int:
        """Tiles along the side of a shard."""
        return self.shard // self.tile

    def corners(self) -> list[Corner]:
        """Return the shards."""
        return list(product(range(0, self.shape[0], self.shard), range(0, self.shape[1], self.shard)))

    def end(self, corner: Corner) -> tuple[int, int]:
        """Return the row and column after the last of a shard."""
        return min(corner[0] + self.shard, self.shape[0]), min(corner[1] + self.shard, self.shape[1])

    def inside(self, corner: Corner) -> Iterator[Tile]:
        """Yield the tiles of a shard, row by row."""
        ends = self.end(corner)
        for top, left in product(range(corner[0], ends[0], self.tile), range(corner[1], ends[1], self.tile)):
            yield self.at(top // self.tile, left // self.tile)

    def at(self, row: int, column: int) -> Tile:
        """Return one tile."""
        own = [
            slice(place * self.tile, min((place + 1) * self.tile, side))
            for place, side in zip((row, column), self.shape, strict=True)
        ]
        seen = [
            slice(max(0, part.start - self.halo), min(side, part.stop + self.halo))
            for part, side in zip(own, self.shape, strict=True)
        ]
        return Tile((row, column), own[0], own[1], (seen[0], seen[1]))
