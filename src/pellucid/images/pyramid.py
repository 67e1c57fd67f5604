"""A plane in several resolutions, read region by region: whole slides, pyramidal TIFF, OME-Zarr."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
import zarr

from pellucid.errors import BadImage
from pellucid.images.axes import Array
from pellucid.images.ome_zarr import image_path, level_array, multiscale, opened
from pellucid.images.quiet import quiet
from pellucid.images.reader import Wanted, named, needed, refuse_too_large
from pellucid.images.tiff import TIFF, guarded, planar
from pellucid.images.ventana import ventana_step

__all__ = ["SLIDE_SUFFIXES", "Pyramid", "opened_pyramid"]

SLIDE_SUFFIXES = (".svs", ".ndpi", ".scn", ".bif", ".tif", ".tiff")

_COLOURS = ("red", "green", "blue")
_BOUNDS = ("x", "y", "width", "height")


class Pyramid(Protocol):
    """Levels of one plane, the finest first; all cover the same ground."""

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Rows and columns of each level."""

    @property
    def steps(self) -> Sequence[float | None]:
        """Pixel size of each level in micrometres, None where the file states none."""

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Names of the samples of a pixel, None where the file names none."""

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Return the pixels of a region inside a level, (Y, X) or (Y, X, samples)."""


class _Tiff:
    """Levels of one series of a TIFF file."""

    def __init__(
        self, whole: Any, step: float | None, channels: tuple[str, ...] | None, limit: int, path: Path
    ) -> None:
        self.whole, self.axes, self.path, self.limit = whole, whole.axes, path, limit
        colours = "S" in self.axes and whole.shape[self.axes.index("S")] == len(_COLOURS)
        self.channels = _COLOURS if colours else channels
        y, x = self.axes.index("Y"), self.axes.index("X")
        self.shapes = [(level.shape[y], level.shape[x]) for level in whole.levels]
        self.steps = [None if step is None else step * self.shapes[0][1] / width for _, width in self.shapes]

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Decode only the tiles that the region touches."""
        refuse_too_large(math.prod(self.whole.levels[level].keyframe.chunks), self.limit, self.path)
        window = {"Y": slice(y, y + height), "X": slice(x, x + width)}
        with self.whole.aszarr(level=level) as store:
            return _plane(zarr.open_array(store, mode="r"), self.axes, window)


class _Zarr:
    """Levels of an OME-Zarr image."""

    def __init__(self, path: Path, limit: int) -> None:
        found = multiscale(path)
        self.path, self.axes, self.channels = path, found.axes, found.channels
        self.levels = [level_array(path, found, level, limit) for level in range(len(found.paths))]
        _refuse_several_planes(path, self.axes, self.levels[0].shape)
        y, x = self.axes.index("Y"), self.axes.index("X")
        self.shapes = [(level.shape[y], level.shape[x]) for level in self.levels]
        self.steps = [spacing.get("X") for spacing in found.spacings]

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Read only the chunks that the region touches."""
        with opened(self.path):
            return _plane(self.levels[level], self.axes, {"Y": slice(y, y + height), "X": slice(x, x + width)})


def _plane(array: Any, axes: str, window: Mapping[str, slice]) -> Array:
    """Return a region with its samples last; axes T and Z of one plane are dropped."""
    where = tuple(0 if axis in "TZ" else window.get(axis, slice(None)) for axis in axes)
    part, left = np.asarray(array[where]), [axis for axis in axes if axis not in "TZ"]
    samples = next((place for place, axis in enumerate(left) if axis in "SC"), None)
    return part if samples is None else np.moveaxis(part, samples, -1)


def _refuse_several_planes(path: Path, axes: str, shape: Sequence[int]) -> None:
    several = [axis for axis, length in zip(axes, shape, strict=True) if axis in "TZ" and length > 1]
    if several or set(axes) - set("TCZYX") or not set("YX") <= set(axes):
        raise BadImage(f"{path}: axes {axes} of shape {tuple(shape)} are no plane; tiles are cut from one")


class _Slide:
    """Levels of a slide as tiffslide opens it: of what was scanned, where the file tells that from the glass round it."""

    def __init__(self, slide: Any, step: float | None = None) -> None:
        self.slide, self.channels = slide, _COLOURS
        left, top, width, height = (slide.properties.get(f"tiffslide.bounds-{side}") for side in _BOUNDS)
        self.corner = (int(left or 0), int(top or 0))
        scanned = slide.dimensions if width is None or height is None else (int(width), int(height))
        self.shapes = [
            (round(scanned[1] / down), round(scanned[0] / down)) if scanned != slide.dimensions else (rows, columns)
            for (columns, rows), down in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        ]
        sizes = [step] * 2 if step else [slide.properties.get(f"tiffslide.mpp-{axis}") for axis in "xy"]
        known = all(size is not None and math.isfinite(float(size)) and float(size) > 0 for size in sizes)
        self.steps = [float(sizes[0]) * down if known else None for down in slide.level_downsamples]

    def region(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        """Read at a level; the slide counts places in pixels of the finest."""
        down = self.slide.level_downsamples[level]
        left, top = self.corner
        place = (left + math.ceil(x * down), top + math.ceil(y * down))  # it is divided again and cut off below
        return np.asarray(self.slide.read_region(place, level, (width, height), as_array=True))


@contextmanager
def opened_pyramid(path: Path, wanted: Wanted) -> Iterator[Pyramid]:
    """Open a slide or a TIFF for reading by regions.

    Raises
    ------
    BadImage
        When the file is corrupt, holds no plane of grey or colours, or tiffslide is not installed where it is needed.
    """
    if path.is_dir():
        with opened(path):
            pyramid = _Zarr(image_path(path, wanted), wanted.limit)
        yield pyramid
        return
    if not path.name.lower().endswith(SLIDE_SUFFIXES):
        raise BadImage(
            f"{path}: tiles are cut from OME-Zarr, whole slides and TIFF files ({', '.join(SLIDE_SUFFIXES)})"
        )
    if path.name.lower().endswith(TIFF.suffixes):
        with guarded(path) as file:
            whole, step, channels = planar(file, path, wanted)
            yield _Tiff(whole, step, channels, wanted.limit, path)
        return
    tiffslide = needed("tiffslide", "slides", path)
    what = "the slide is corrupt, incomplete or of a kind that cannot be read"
    with named(path, what, tifffile.TiffFileError):
        with quiet("tifffile", "tiffslide"):
            step = _ventana(path)
            slide = tiffslide.TiffSlide(path)
        with slide:
            with quiet("tifffile", "tiffslide"):
                levels = _Slide(slide, step)
            yield levels


def _ventana(path: Path) -> float | None:
    if path.suffix.lower() != ".bif":
        return None
    with tifffile.TiffFile(path) as file:
        return ventana_step(file.pages, path)
