"""A slide explained tile by tile: read with a margin, written without one, shard by shard, so that memory stays flat."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from pellucid.attribution import METHODS, Method, explain
from pellucid.attribution.combine import combine
from pellucid.errors import BadStudy
from pellucid.images.multiscale import build_levels, create_pyramid
from pellucid.images.slide import Slide, open_slide
from pellucid.models import Model
from pellucid.study.store import writing

__all__ = ["SlideMap", "explain_slide"]

Array = NDArray[np.float32]

_STEPS = ('pool_channels(how="sum")', "upsample")
_OUTPUTS = "outputs"


@dataclass(frozen=True)
class SlideMap:
    """The map of a slide on disk.

    Attributes
    ----------
    path
        An OME-Zarr image ``(1, Y, X)`` with coarser levels: signed relevance, channels added up; NaN where a tile was left out.
    """

    path: Path

    def read(self, level: int = 0) -> Array:
        """Return a level ``(Y, X)``; 0 is the finest."""
        return np.asarray(zarr.open_array(self.path / str(level), mode="r")[0], dtype=np.float32)

    @property
    def outputs(self) -> Array:
        """What the model said of the explained target in each tile ``(rows, columns)``; NaN where a tile was left out."""
        return np.asarray(zarr.open_array(self.path / _OUTPUTS, mode="r")[...], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Every choice that decides the numbers: a map that was begun with others is not gone on with."""

    method: str
    definition: str
    target: str
    um_per_px: float | None
    tile: int
    halo: int
    shard: int
    seed: int
    batch_size: int
    shape: tuple[int, ...]
    model: str

    @property
    def told(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape), "values": "raw, signed", "steps": list(_STEPS)}


@dataclass(frozen=True)
class _Tile:
    """A square of the map and the window that is read for it, cut off where the slide ends."""

    rows: slice
    columns: slice
    window: tuple[slice, slice]

    @property
    def name(self) -> str:
        return f"{self.rows.start}_{self.columns.start}"

    @property
    def size(self) -> tuple[int, int]:
        return self.window[0].stop - self.window[0].start, self.window[1].stop - self.window[1].start

    def inside(self, values: Array) -> Array:
        """Return the part of a window's map that is written."""
        top, left = self.rows.start - self.window[0].start, self.columns.start - self.window[1].start
        return values[
            top : top + self.rows.stop - self.rows.start, left : left + self.columns.stop - self.columns.start
        ]


def explain_slide(
    model: Model | nn.Module | Callable[..., Any],
    path: str | Path,
    method: str | Method,
    out: str | Path | None = None,
    *,
    target: Any = None,
    um_per_px: float | None = None,
    series: int | str | None = None,
    tile: int = 512,
    halo: int = 64,
    shard: int = 2048,
    keep: Callable[[Tensor], bool] | None = None,
    batch_size: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> SlideMap:
    """Explain a whole slide and write the map beside it; what is on disk is not repeated.

    The model sees a tile with its margin and is asked about that window. Where its answer is a sum over places and the margin is
    twice the reach of a place (a net of local layers), the map is that of the whole slide at once, without a seam. A net that
    looks at a patch as a whole is explained patch by patch, and the values say what speaks for the target in each.

    Parameters
    ----------
    model, method, target
        As `pellucid.explain` takes them; the target is no sequence.
    path
        A slide, see `pellucid.images.slide.open_slide`.
    out
        The map; default ``NAME.map.ome.zarr`` beside the slide.
    um_per_px
        Pixel size at which the model looks, in micrometres: that of a level or a multiple; None: that of the file.
    series
        Which image of a file that holds several.
    tile, halo
        Side of a tile and of the margin round it, in pixels of that size.
    shard
        Side of what is written at once, in pixels: a whole number of tiles. A killed run loses at most one.
    keep
        Says of a tile's pixels ``(C, Y, X)`` whether it is explained, such as "there is tissue"; None: every tile is.
    batch_size
        Tiles at once.
    seed
        Of methods that sample; each tile has a stream of its own.
    progress
        Whether to show a bar.

    Raises
    ------
    BadImage
        When the slide cannot be read or has no such pixel size.
    BadStudy
        When the sizes do not fit each other, `out` holds something else, or it cannot be written.
    """
    if tile < 1 or halo < 0 or shard % tile:
        raise BadStudy(f"shard={shard} is no whole number of tiles of {tile} pixels, or halo={halo} is below 0")
    recipe, net = METHODS.parse(method), model if isinstance(model, Model) else Model(model)
    where = Path(out) if out is not None else Path(path).with_name(f"{Path(path).name.split('.')[0]}.map.ome.zarr")
    with open_slide(path, um_per_px=um_per_px, series=series) as slide, writing(where):
        asked = _Asked(
            method=str(recipe), definition=recipe.definition, target=str(target), um_per_px=slide.um_per_px, tile=tile, halo=halo,
            shard=shard, seed=seed, batch_size=batch_size, shape=slide.shape, model=(net.source.sha256 if net.source else None) or "",
        )  # fmt: skip
        _begin(where, asked, slide)
        for corner in track(_left(where, asked), "explaining the slide", disable=not progress):
            _shard(where, asked, slide, net, target, keep, corner)
        build_levels(where)
    return SlideMap(where)


def _begin(where: Path, asked: _Asked, slide: Slide) -> None:
    """Make the empty map, or check that the one that is there was begun with the same choices."""
    if where.exists() and any(where.iterdir()):
        begun = zarr.open_group(where, mode="r").attrs.get("pellucid") if (where / "zarr.json").is_file() else None
        if not isinstance(begun, dict):
            raise BadStudy(f"{where} holds something that is no map of a slide; choose another out=")
        for key, value in asked.told.items():
            if begun.get(key) != value:
                raise BadStudy(
                    f"{where} was begun with {key} = {begun.get(key)!r} and is now asked for {value!r}; choose another out="
                )
        return
    partial = where.with_name(f".{where.name}.partial")
    _, height, width = asked.shape
    spacing = None if slide.um_per_px is None else (slide.um_per_px, slide.um_per_px)
    create_pyramid(
        partial, (1, height, width), axes="CYX", dtype="float32", name=f"{slide.path.name}: {asked.method}", spacing=spacing,
        channels=(asked.method,), about=asked.told, chunk=asked.tile, shard=asked.shard, fill=float("nan"),
    )  # fmt: skip
    tiles, shards = (-(-height // asked.tile), -(-width // asked.tile)), asked.shard // asked.tile
    zarr.open_group(partial, mode="r+").create_array(
        _OUTPUTS, shape=tiles, chunks=(shards, shards), dtype="float32", fill_value=float("nan")
    )
    partial.rename(where)


def _left(where: Path, asked: _Asked) -> list[tuple[int, int]]:
    """Return the corners of the shards that are not on disk: a shard is put in place whole."""
    _, height, width = asked.shape
    corners = product(range(0, height, asked.shard), range(0, width, asked.shard))
    return [
        at
        for at in corners
        if not (where / "0" / "c" / "0" / str(at[0] // asked.shard) / str(at[1] // asked.shard)).is_file()
    ]


def _tiles(asked: _Asked, corner: tuple[int, int]) -> Iterator[_Tile]:
    """Yield the tiles of a shard."""
    sides = asked.shape[1:]
    ends = [min(start + asked.shard, side) for start, side in zip(corner, sides, strict=True)]
    for top, left in product(range(corner[0], ends[0], asked.tile), range(corner[1], ends[1], asked.tile)):
        own = [slice(start, min(start + asked.tile, side)) for start, side in zip((top, left), sides, strict=True)]
        seen = [
            slice(max(0, part.start - asked.halo), min(side, part.stop + asked.halo))
            for part, side in zip(own, sides, strict=True)
        ]
        yield _Tile(own[0], own[1], (seen[0], seen[1]))


def _shard(
    where: Path,
    asked: _Asked,
    slide: Slide,
    net: Model,
    target: Any,
    keep: Callable[[Tensor], bool] | None,
    corner: tuple[int, int],
) -> None:
    """Explain the tiles of one shard and write it whole; tiles with equal windows go through the model together."""
    ends = [min(start + asked.shard, side) for start, side in zip(corner, asked.shape[1:], strict=True)]
    block = np.full((ends[0] - corner[0], ends[1] - corner[1]), np.nan, np.float32)
    side = asked.shard // asked.tile
    outputs = np.full((side, side), np.nan, np.float32)
    for _, alike in groupby(sorted(_tiles(asked, corner), key=_order), key=lambda tile: tile.size):
        waiting = list(alike)
        for start in range(0, len(waiting), asked.batch_size):
            for tile, values, output in _explained(
                asked, slide, net, target, keep, waiting[start : start + asked.batch_size]
            ):
                top, left = tile.rows.start - corner[0], tile.columns.start - corner[1]
                part = tile.inside(values)
                block[top : top + part.shape[0], left : left + part.shape[1]] = part
                outputs[top // asked.tile, left // asked.tile] = output
    table = zarr.open_array(where / _OUTPUTS, mode="r+")
    row, column = corner[0] // asked.tile, corner[1] // asked.tile
    height, width = (min(side, whole - first) for whole, first in zip(table.shape, (row, column), strict=True))
    table[row : row + height, column : column + width] = outputs[:height, :width]
    zarr.open_array(where / "0", mode="r+", config={"write_empty_chunks": True})[
        0, corner[0] : ends[0], corner[1] : ends[1]
    ] = block


def _order(tile: _Tile) -> tuple[tuple[int, int], int, int]:
    return tile.size, tile.rows.start, tile.columns.start


def _explained(
    asked: _Asked, slide: Slide, net: Model, target: Any, keep: Callable[[Tensor], bool] | None, tiles: list[_Tile]
) -> Iterator[tuple[_Tile, Array, float]]:
    """Yield the map of each window and what the model said of it."""
    read = [(tile, slide.read(*tile.window)) for tile in tiles]
    kept = [(tile, pixels) for tile, pixels in read if keep is None or keep(pixels)]
    if not kept:
        return
    x = torch.stack([pixels for _, pixels in kept])
    found = explain(
        net, x, asked.method, target, ids=[tile.name for tile, _ in kept], seed=asked.seed, batch_size=asked.batch_size
    )
    steps = _STEPS if found.tensors[0].shape[2:] != x.shape[2:] else _STEPS[:1]
    values = combine(found, steps, x=x).values[:, 0].numpy()
    for (tile, _), one, output in zip(kept, values, found.output.tolist(), strict=True):
        yield tile, one, output
