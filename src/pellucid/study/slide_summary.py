"""What a finished map of a slide says: its tiles in numbers, the slide in a row, and the pictures that a report needs."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from pellucid.images.slide import Slide
from pellucid.study.slide_map import SlideMap

__all__ = ["TILES", "highest", "pictures", "slide_row", "tile_table"]

EDGE, TILE_EDGE = 640, 192
"""Longest sides of the pictures of a slide and of a tile."""

TILES = pa.schema(
    [("slide", pa.string()), *((name, pa.int64()) for name in ("y", "x", "height", "width")), ("tissue", pa.float64()),
     ("output", pa.float64()), ("relevance", pa.float64())]
)  # fmt: skip
"""One row a tile: place and size in pixels of the map, share of tissue (null where nothing was asked), what the model said of the
window and the sum of the map over the tile (both null where the tile was left out)."""


def tile_table(found: SlideMap, name: str) -> pa.Table:
    """Return one row a tile."""
    grid, outputs, tissue = found.grid, found.outputs, found.tissue
    rows = []
    for place in np.ndindex(*grid.tiles):
        tile, output = grid.at(*place), float(outputs[place])
        known = np.isfinite(output)
        rows.append({
            "slide": name, "y": tile.rows.start, "x": tile.columns.start, "height": tile.rows.stop - tile.rows.start,
            "width": tile.columns.stop - tile.columns.start, "tissue": None if tissue is None else float(tissue[place]),
            "output": output if known else None,
            "relevance": float(found.region(tile.rows, tile.columns).sum(dtype=np.float64)) if known else None,
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=TILES)


def slide_row(found: SlideMap, tiles: pa.Table, name: str, kept: str) -> dict[str, Any]:
    """Return what was explained of a slide, in one row."""
    rows, about = tiles.to_pylist(), found.about
    outputs = [row["output"] for row in rows if row["output"] is not None]
    areas = np.array([row["height"] * row["width"] for row in rows], float)
    shares = [row["tissue"] for row in rows]
    return {
        "slide": name, "kept": kept, "rows": about["shape"][1], "columns": about["shape"][2], "um_per_px": about["um_per_px"],
        "method": about["method"], "target": about["target"], "tile": about["tile"], "halo": about["halo"],
        "recipe": about["tissue"], "tiles": len(rows), "explained": len(outputs),
        "tissue": None if None in shares else float(np.average(shares, weights=areas)),
        "mean": float(np.mean(outputs)) if outputs else None, "highest": max(outputs, default=None),
        "lowest": min(outputs, default=None),
    }  # fmt: skip


def pictures(found: SlideMap, slide: Slide, tiles: pa.Table, shown: int) -> dict[str, Tensor]:
    """Return small pictures: the whole slide and its map, and the tiles with the highest answers and theirs.

    Returns
    -------
    dict
        ``slide`` and ``tile0``, ``tile1``, ... ``(C, Y, X)``; ``map`` and ``map0``, ``map1``, ... ``(Y, X)``, NaN where a tile was
        left out.
    """
    made = {"slide": slide.overview(EDGE), "map": _whole(found)}
    for number, row in enumerate(highest(tiles, shown)):
        rows, columns = slice(row["y"], row["y"] + row["height"]), slice(row["x"], row["x"] + row["width"])
        made[f"tile{number}"] = _small(slide.read(rows, columns), TILE_EDGE)
        made[f"map{number}"] = _small(torch.from_numpy(found.region(rows, columns))[None], TILE_EDGE)[0]
    return made


def highest(tiles: pa.Table, count: int) -> list[dict[str, Any]]:
    """Return the tiles of which the model said most, ties in the order of the slide."""
    rows = [row for row in tiles.to_pylist() if row["output"] is not None]
    return sorted(rows, key=lambda row: (-row["output"], row["y"], row["x"]))[:count]


def _whole(found: SlideMap) -> Tensor:
    """Return the whole map, from the coarsest level that is as large as the picture, each pixel the mean of what it stands for."""
    sides = found.grid.shape
    level = max(place for place in range(found.levels) if place == 0 or max(sides) >> place >= EDGE)
    values: NDArray[np.float32] = found.read(level)
    return _small(torch.from_numpy(values)[None], EDGE)[0]


def _small(picture: Tensor, edge: int) -> Tensor:
    """Return a picture no larger than `edge`, each pixel the mean of those it stands for."""
    longest = max(picture.shape[-2:])
    if longest <= edge:
        return picture
    size = [max(1, round(side * edge / longest)) for side in picture.shape[-2:]]
    small: Tensor = interpolate(picture[None], size=size, mode="area")[0]
    return small
