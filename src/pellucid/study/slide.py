"""A slide explained tile by tile: read with a margin, written without one, shard by shard, so that memory stays flat."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import track
from torch import nn

from pellucid.attribution import METHODS, Method
from pellucid.images.multiscale import build_levels
from pellucid.images.slide import open_slide
from pellucid.images.tissue import TISSUE
from pellucid.models import Model
from pellucid.study.slide_grid import Grid
from pellucid.study.slide_map import SlideChoices, SlideMap, begin_map, missing
from pellucid.study.slide_shard import Keep, explain_shard
from pellucid.study.writing import writing

__all__ = ["SlideMap", "explain_slide"]


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
    keep: Keep | None = None,
    tissue: str | None = None,
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
        Says of a tile's pixels ``(C, Y, X)`` whether it is explained; None: every tile is.
    tissue
        Which tiles are explained, by a recipe such as ``"saturation(share=0.1)"``; None: every tile is.
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
    Grid((0, 0), tile, halo, shard)
    recipe, net = METHODS.parse(method), model if isinstance(model, Model) else Model(model)
    where = Path(out) if out is not None else Path(path).with_name(f"{Path(path).name.split('.')[0]}.map.ome.zarr")
    with open_slide(path, um_per_px=um_per_px, series=series) as slide, writing(where):
        choices = SlideChoices.of(
            recipe, net, slide, target=target, tile=tile, halo=halo, shard=shard, seed=seed, batch_size=batch_size,
            tissue="" if tissue is None else str(TISSUE.parse(tissue)),
        )  # fmt: skip
        begin_map(where, choices, slide)
        for corner in track(missing(where, choices.grid), "explaining the slide", disable=not progress):
            explain_shard(where, choices, slide, net, target, corner, keep=keep)
        build_levels(where)
    return SlideMap(where)
