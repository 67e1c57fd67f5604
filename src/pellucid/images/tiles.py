"""Whole slides in tiles: a grid at a stated pixel size, the tiles that hold tissue, pixels read when asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from skimage.transform import integral_image

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.coarse import cut, small_picture
from pellucid.images.levels import chosen_level
from pellucid.images.listing import Listing
from pellucid.images.pyramid import Pyramid, opened_pyramid
from pellucid.images.reader import Wanted
from pellucid.images.tissue import TISSUE, Tissue

__all__ = ["TileSource", "Tiles", "TissueShares", "tiled"]


@dataclass(frozen=True)
class Tiles:
    """How a slide is cut.

    Attributes
    ----------
    size
        Rows and columns of a tile, in pixels of the size asked for.
    overlap
        Pixels that neighbours share: a halo of half as many round each tile's own ground.
    tissue
        Which tiles are kept, or None for all.
    """

    size: tuple[int, int]
    overlap: int = 0
    tissue: Tissue | None = None

    @classmethod
    def of(cls, size: int | Sequence[int], overlap: int, tissue: str | None) -> "Tiles":
        """Check what the user gave.

        Raises
        ------
        BadImage
            When the size is not two whole numbers above the overlap.
        """
        lengths = (size, size) if isinstance(size, int) else tuple(size)
        if (
            len(lengths) != 2
            or any(not isinstance(one, int) or one < 1 for one in lengths)
            or not 0 <= overlap < min(lengths)
        ):
            raise BadImage(f"tile={size}, overlap={overlap}: give (Y, X) in pixels and an overlap below both")
        return cls(lengths, overlap, None if tissue is None else TISSUE.parse(tissue))


@dataclass(frozen=True)
class TileSource:
    """Opens the slide of a tile and reads the tile's region."""

    places: Mapping[str, tuple[str, int, int]]
    size: tuple[int, int]
    wanted: Wanted

    def __call__(self, image: str) -> RawImage:
        """Return the tile at the pixel size asked for."""
        slide, y, x = self.places[image]
        with opened_pyramid(Path(slide), self.wanted) as pyramid:
            level, factor, step = _scale(pyramid, self.wanted, slide)
            array, channels = cut(pyramid, level, factor, (y, x), self.size), pyramid.channels
        spacing = {} if step is None else {"Y": step, "X": step}
        return RawImage(array, "YXS"[: array.ndim], spacing, channels, crop=(y, x))


def _scale(pyramid: Pyramid, wanted: Wanted, name: str) -> tuple[int, float, float | None]:
    """Return the level to read, its pixels in one of those asked for, and the size of the latter in µm."""
    if wanted.um_per_px is None and wanted.level is None:
        raise BadImage(f"{name}: tiles are cut at a pixel size; give um_per_px=")
    level = chosen_level(pyramid.steps, wanted, name)
    step = pyramid.steps[level]
    if wanted.um_per_px is None or step is None:
        return level, 1.0, step
    return level, max(1.0, wanted.um_per_px / step), wanted.um_per_px


def tiled(listing: Listing, tiles: Tiles, wanted: Wanted) -> Listing:
    """Return the tiles of every slide of a listing; ids are ``slide/y_x`` in pixels of the size asked for.

    The columns ``slide``, ``y``, ``x`` and, with a tissue recipe, ``tissue``, the share of the tile that is tissue, are
    added; labels and other columns are the slide's.

    Raises
    ------
    BadImage
        When a slide is smaller than a tile, or no tile is kept.
    """
    if listing.masks or listing.drawn:
        raise BadImage("masks of whole slides are not cut into tiles; leave masks= out")
    places: dict[str, tuple[str, int, int]] = {}
    rows: list[tuple[int, str, int, int, float]] = []
    for row, (name, path) in enumerate(listing.files.items()):
        for y, x, share in _kept(Path(path), tiles, wanted):
            places[f"{name}/{y}_{x}"] = (path, y, x)
            rows.append((row, name, y, x, share))
    if not rows:
        raise BadImage(f"tissue={tiles.tissue}: no tile of {len(listing.files)} slides holds so much tissue")
    take = pa.array([row for row, *_ in rows], pa.int64())
    table = listing.metadata.take(take) if listing.metadata.num_columns else pa.table({})
    columns: dict[str, list[Any]] = {
        "slide": [row[1] for row in rows],
        "y": [row[2] for row in rows],
        "x": [row[3] for row in rows],
    }
    if tiles.tissue is not None:
        columns["tissue"] = [row[4] for row in rows]
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values)) if table.num_columns else pa.table({name: values})
    return replace(
        listing,
        files={image: path for image, (path, _, _) in places.items()},
        labels=None if listing.labels is None else tuple(listing.labels[row] for row, *_ in rows),
        metadata=table,
        source=TileSource(places, tiles.size, wanted),
    )


def _kept(path: Path, tiles: Tiles, wanted: Wanted) -> Iterator[tuple[int, int, float]]:
    """Yield the place of each tile and its share of tissue, row by row."""
    with opened_pyramid(path, wanted) as pyramid:
        level, factor, step = _scale(pyramid, wanted, str(path))
        whole = [int(length / factor + 1e-6) for length in pyramid.shapes[level]]
        if any(length < one for length, one in zip(whole, tiles.size, strict=True)):
            raise BadImage(
                f"{path}: at this pixel size the slide has {whole[0]} × {whole[1]} pixels, fewer than a tile of {tiles.size}"
            )
        shares = None if tiles.tissue is None else TissueShares(pyramid, tiles.tissue, step, wanted, path)
    for y in _starts(whole[0], tiles.size[0], tiles.overlap):
        for x in _starts(whole[1], tiles.size[1], tiles.overlap):
            share = 1.0 if shares is None else shares(y, x, tiles.size)
            if tiles.tissue is None or share >= tiles.tissue.share:
                yield y, x, share


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Return where tiles begin; the last ends where the slide does, so that every pixel is in one."""
    starts = list(range(0, length - size + 1, size - overlap))
    return starts if starts[-1] + size == length else [*starts, length - size]


class TissueShares:
    """The share of a tile that is tissue, from one coarse picture of the slide."""

    def __init__(self, pyramid: Pyramid, tissue: Tissue, step: float | None, wanted: Wanted, path: Path) -> None:
        if step is None:
            raise BadImage(f"{path}: tissue={tissue} needs a pixel size and the file states none")
        finest = float(pyramid.steps[0] or step)
        size = max(tissue.um_per_px, finest)
        level, factor, _ = _scale(pyramid, replace(wanted, um_per_px=size, level=None), str(path))
        colours = small_picture(pyramid, level, factor)
        if colours.ndim != 3 or colours.shape[-1] != 3:
            raise BadImage(
                f"{path}: tissue={tissue} needs red, green and blue, but the slide has the shape {colours.shape}"
            )
        top = np.iinfo(colours.dtype).max if colours.dtype.kind in "iu" else 1.0
        recipe = tissue.replace(um_per_px=size)
        inside = recipe.mask(colours / top)
        self.sum: Array = np.pad(integral_image(inside.astype(np.int64)), ((1, 0), (1, 0)))  # type: ignore[no-untyped-call]
        self.ratio = step / size

    def __call__(self, y: int, x: int, size: tuple[int, int]) -> float:
        """Return the share of a tile's ground."""
        rows, columns = self.sum.shape[0] - 1, self.sum.shape[1] - 1
        top, left = min(int(y * self.ratio), rows - 1), min(int(x * self.ratio), columns - 1)
        bottom = min(max(round((y + size[0]) * self.ratio), top + 1), rows)
        right = min(max(round((x + size[1]) * self.ratio), left + 1), columns)
        total = self.sum[bottom, right] - self.sum[top, right] - self.sum[bottom, left] + self.sum[top, left]
        return float(total) / int((bottom - top) * (right - left))
