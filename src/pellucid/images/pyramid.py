"""A plane in several resolutions, read region by region: whole slides and pyramidal TIFF."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr

from pellucid.errors import BadImage
from pellucid.images.axes import Array
from pellucid.images.reader import Wanted, needed, refuse_too_large
from pellucid.images.tiff import BROKEN, TIFF, guarded, planar

__all__ = ["SLIDE_SUFFIXES", "Pyramid", "opened_pyramid"]

SLIDE_SUFFIXES = (".svs", ".ndpi", ".scn", ".bif", ".tif", ".tiff")


class Pyramid(Protocol):
    """Levels of one plane, the finest first; all cover the same ground."""

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Rows and columns of each level."""

    @property
    def steps(self) -> Sequence[float | None]:
        """Pixel size of each level in micrometres, None where the file states none."""

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Return the pixels of a region inside a level, (Y, X) or (Y, X, samples)."""


class _Tiff:
    """Levels of one series of a TIFF file."""

    def __init__(self, whole: Any, step: float | None, limit: int, path: Path) -> None:
        self.whole, self.axes, self.path, self.limit = whole, whole.axes, path, limit
        y, x = self.axes.index("Y"), self.axes.index("X")
        self.shapes = [(level.shape[y], level.shape[x]) for level in whole.levels]
        self.steps = [None if step is None else step * self.shapes[0][1] / width for _, width in self.shapes]

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Decode only the tiles that the region touches."""
        refuse_too_large(math.prod(self.whole.levels[level].keyframe.chunks), self.limit, self.path)
        window = {"Y": slice(y, y + height), "X": slice(x, x + width)}
        with self.whole.aszarr(level=level) as store:
            array = zarr.open_array(store, mode="r")
            part = np.asarray(array[tuple(window.get(axis, slice(None)) for axis in self.axes)])
        return np.moveaxis(part, self.axes.index("S"), -1) if "S" in self.axes else part


class _Slide:
    """Levels of a slide as tiffslide opens it."""

    def __init__(self, slide: Any) -> None:
        self.slide = slide
        self.shapes = [(height, width) for width, height in slide.level_dimensions]
        sizes = [slide.properties.get(f"tiffslide.mpp-{axis}") for axis in "xy"]
        known = all(size is not None and math.isfinite(float(size)) and float(size) > 0 for size in sizes)
        self.steps = [float(sizes[0]) * down if known else None for down in slide.level_downsamples]

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Read at a level; the slide counts places in pixels of the finest."""
        down = self.slide.level_downsamples[level]
        return np.asarray(
            self.slide.read_region((round(x * down), round(y * down)), level, (width, height), as_array=True)
        )


@contextmanager
def opened_pyramid(path: Path, wanted: Wanted) -> Iterator[Pyramid]:
    """Open a slide or a TIFF for reading by regions.

    Raises
    ------
    BadImage
        When the file is corrupt, holds no plane of grey or colours, or tiffslide is not installed where it is needed.
    """
    if not path.name.lower().endswith(SLIDE_SUFFIXES):
        raise BadImage(f"{path}: tiles are cut from whole slides and TIFF files ({', '.join(SLIDE_SUFFIXES)})")
    if path.name.lower().endswith(TIFF.suffixes):
        with guarded(path) as file:
            whole, step = planar(file, path, wanted)
            yield _Tiff(whole, step, wanted.limit, path)
        return
    tiffslide = needed("tiffslide", "slides", path)
    try:
        with tiffslide.TiffSlide(path) as slide:
            yield _Slide(slide)
    except BadImage:
        raise
    except (*BROKEN, Warning) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImage(
            f"{path}: the slide is corrupt, incomplete or of a kind that cannot be read ({reason})"
        ) from None
