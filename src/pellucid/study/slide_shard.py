"""One shard of a slide's map: its tiles read with a margin, explained, and written without it."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.attribution import explain
from pellucid.attribution.combine import combine
from pellucid.images.slide import Slide
from pellucid.images.tissue import TISSUE
from pellucid.models import Model
from pellucid.study.slide_grid import Corner, Tile
from pellucid.study.slide_map import STEPS, Array, SlideChoices, SlideMap, write_shard

__all__ = ["Keep", "explain_shard"]

Keep = Callable[[Tensor], bool]
"""Says of a tile's pixels ``(C, Y, X)``, margin included, whether it is explained."""


def explain_shard(
    where: Path,
    choices: SlideChoices,
    slide: Slide,
    model: Model,
    target: Any,
    corner: Corner,
    *,
    keep: Keep | None = None,
) -> None:
    """Explain the tiles of one shard and write it whole; tiles with equal windows go through the model together.

    Parameters
    ----------
    where
        The map, begun with `choices`.
    choices
        What decides its numbers.
    slide
        The slide, open at the pixel size of the map.
    model, target
        As `pellucid.explain` takes them.
    corner
        The shard.
    keep
        Which tiles are explained; None: those that hold tissue, where that was asked for.
    """
    grid = choices.grid
    end, side = grid.end(corner), grid.tile
    block = np.full((end[0] - corner[0], end[1] - corner[1]), np.nan, np.float32)
    outputs = np.full((-(-block.shape[0] // side), -(-block.shape[1] // side)), np.nan, np.float32)
    wanted = sorted(_with_tissue(where, choices, list(grid.inside(corner))), key=_order)
    for _, alike in groupby(wanted, key=lambda tile: tile.size):
        for tile, values, output in _in_batches(choices, slide, model, target, list(alike), keep):
            top, left = tile.rows.start - corner[0], tile.columns.start - corner[1]
            part = tile.inside(values)
            block[top : top + part.shape[0], left : left + part.shape[1]] = part
            outputs[top // side, left // side] = output
    write_shard(where, grid, corner, block, outputs)


def _with_tissue(where: Path, choices: SlideChoices, tiles: list[Tile]) -> list[Tile]:
    shares = SlideMap(where).tissue
    if shares is None:
        return tiles
    least = TISSUE.parse(choices.tissue).share
    return [tile for tile in tiles if shares[tile.place] >= least]


def _order(tile: Tile) -> tuple[tuple[int, int], int, int]:
    return tile.size, tile.rows.start, tile.columns.start


def _in_batches(
    choices: SlideChoices, slide: Slide, model: Model, target: Any, tiles: list[Tile], keep: Keep | None
) -> Iterator[tuple[Tile, Array, float]]:
    for start in range(0, len(tiles), choices.batch_size):
        yield from _explained(choices, slide, model, target, tiles[start : start + choices.batch_size], keep)


def _explained(
    choices: SlideChoices, slide: Slide, model: Model, target: Any, tiles: list[Tile], keep: Keep | None
) -> Iterator[tuple[Tile, Array, float]]:
    """Yield the map of each window and what the model said of it."""
    read = [(tile, slide.read(*tile.window)) for tile in tiles]
    kept = [(tile, pixels) for tile, pixels in read if keep is None or keep(pixels)]
    if not kept:
        return
    x = torch.stack([pixels for _, pixels in kept])
    ids = [tile.name for tile, _ in kept]
    found = explain(model, x, choices.method, target, ids=ids, seed=choices.seed, batch_size=choices.batch_size)
    steps = STEPS if found.tensors[0].shape[2:] != x.shape[2:] else STEPS[:1]
    values = combine(found, steps, x=x).values[:, 0].numpy()
    for (tile, _), one, output in zip(kept, values, found.output.tolist(), strict=True):
        yield tile, one, output
