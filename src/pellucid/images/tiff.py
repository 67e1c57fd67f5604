"""TIFF through tifffile: axes, pixel size and channel names as ImageJ, OME or the tags state them."""

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.levels import chosen_level, chosen_series
from pellucid.images.ome import OmeImage, companion_xml, ome_images
from pellucid.images.raster import opaque
from pellucid.images.reader import Reader, Wanted, named, refuse_too_large
from pellucid.images.tiff_chain import refuse_endless
from pellucid.images.tiff_checks import (
    refuse_colours,
    refuse_large_segments,
    refuse_later_part,
    refuse_missing_planes,
    refuse_truncated,
)
from pellucid.images.units import MICROMETRES, positive

__all__ = ["TIFF", "guarded", "planar"]

CENTIMETRE = 3
ALPHA = (1, 2)
PRINT_DPI = (72, 96, 100, 150, 200, 300, 400, 600, 1200)
LOGGED = re.compile(r"TiffTag (2[5-9]\d|[345]\d\d) @\d+> invalid|invalid page offset")
"""What tifffile logs when a standard tag or a page lies outside the file, and then reads less than was stored."""


class _Damage(logging.Handler):
    """Hears what tifffile logs in this thread; other threads read other files at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.thread, self.heard = threading.get_ident(), ""

    def emit(self, record: logging.LogRecord) -> None:
        found = LOGGED.search(record.getMessage()) if record.thread == self.thread else None
        self.heard = self.heard or (found.group() if found else "")


@contextmanager
def guarded(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF; whatever tifffile raises or logs of damage while it is open becomes one sentence.

    Raises
    ------
    BadImage
        When the file is corrupt or incomplete.
    """
    log, damage = logging.getLogger("tifffile"), _Damage()
    log.addHandler(damage)
    what = "the TIFF is corrupt, incomplete or of a kind that cannot be read"
    try:
        with named(path, what, tifffile.TiffFileError):
            refuse_endless(path)
            with tifffile.TiffFile(path) as file, _with_companion(file, path) as whole:
                yield whole
    finally:
        log.removeHandler(damage)
    if damage.heard:
        raise BadImage(f"{path}: the TIFF is corrupt or incomplete ({damage.heard})")


def _with_companion(file: tifffile.TiffFile, path: Path) -> AbstractContextManager[tifffile.TiffFile]:
    """Return the file as its companion describes it, where it leaves its metadata to one that lies beside it."""
    xml = companion_xml(file.ome_metadata or "", path) if file.is_ome else None
    return nullcontext(file) if xml is None else tifffile.TiffFile(path, omexml=xml)


def _read_tiff(path: Path, wanted: Wanted) -> RawImage:
    """Read a TIFF file with what it states about its axes, pixel size and channels.

    The pixel size comes from OME metadata, else from ImageJ's unit, else from resolution tags in centimetres; a
    resolution per inch, or one that equals a usual print resolution, is a print setting and says nothing.
    """
    with guarded(path) as file:
        return _read(file, path, wanted)


def _read(file: tifffile.TiffFile, path: Path, wanted: Wanted) -> RawImage:
    stated = ome_images(file.ome_metadata or "", path) if file.is_ome else ()
    number = chosen_series(
        [one.name for one in file.series], wanted, path,
        told=[f"{one.name} {one.axes} {one.shape}".strip() for one in file.series],
    )  # fmt: skip
    whole = file.series[number]
    image = stated[number] if len(stated) == len(file.series) else None
    refuse_later_part(image, path)
    spacing = _spacing(file, whole.keyframe, image)
    level = chosen_level(_steps(whole, spacing), wanted, path)
    chosen = whole.levels[level]
    refuse_too_large(math.prod(chosen.shape), wanted.limit, path)
    pages = list(chosen.pages)
    if any(page is None for page in pages):
        missing = sum(page is None for page in pages)
        raise BadImage(f"{path}: {missing} of {len(pages)} planes lie in other files that are missing")
    refuse_truncated(pages, path)
    refuse_large_segments(pages, wanted, path)
    refuse_colours(file, whole.keyframe, path)
    refuse_missing_planes(file, whole, image, path)
    array, axes = chosen.asarray(), chosen.axes
    if "S" in axes and any(int(sample) in ALPHA for sample in whole.keyframe.extrasamples):
        array = opaque(np.moveaxis(array, axes.index("S"), -1), path)
        axes = axes.replace("S", "") + "S" * (array.ndim == len(axes))
    channels = image.channels if image is not None else None
    if channels is None and _coloured(whole.keyframe) and dict(zip(axes, array.shape, strict=True)).get("C", 3) == 3:
        channels = ("red", "green", "blue")
    return RawImage(_native(array), axes, _coarser(spacing, whole, level), channels)


def planar(file: tifffile.TiffFile, path: Path, wanted: Wanted) -> tuple[Any, float | None, tuple[str, ...] | None]:
    """Return the series of one plane that is meant, the size of its pixels in micrometres and the channel names of OME.

    Raises
    ------
    BadImage
        When there are several and none was chosen, or it holds more than a plane.
    """
    stated = ome_images(file.ome_metadata or "", path) if file.is_ome else ()
    number = chosen_series([one.name for one in file.series], wanted, path)
    whole = file.series[number]
    if whole.axes not in ("YX", "YXS", "SYX", "CYX"):
        raise BadImage(f"{path}: axes {whole.axes} of shape {whole.shape} are no plane; tiles are cut from one")
    refuse_colours(file, whole.keyframe, path)
    image = stated[number] if len(stated) == len(file.series) else None
    spacing = _spacing(file, whole.keyframe, image)
    return whole, spacing.get("X"), None if image is None else image.channels


def _steps(whole: Any, spacing: dict[str, float]) -> list[float | None]:
    """Return the pixel size of each level: the levels of a pyramid cover the same ground."""
    return [_coarser(spacing, whole, level).get("X") for level in range(len(whole.levels))]


def _coarser(spacing: dict[str, float], whole: Any, level: int) -> dict[str, float]:
    fine = dict(zip(whole.axes, whole.shape, strict=True))
    coarse = dict(zip(whole.levels[level].axes, whole.levels[level].shape, strict=True))
    return {
        axis: step * fine[axis] / coarse[axis] if axis in "YX" and coarse.get(axis) else step
        for axis, step in spacing.items()
    }


def _coloured(page: Any) -> bool:
    """Whether a page holds red, green and blue, whether its file calls them samples or channels."""
    kinds = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    return page.photometric in kinds and page.samplesperpixel - len(page.extrasamples) == 3


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _spacing(file: tifffile.TiffFile, page: Any, image: OmeImage | None) -> dict[str, float]:
    if image is not None or file.is_ome:
        return {} if image is None else dict(image.spacing)
    if file.is_imagej:
        return _from_imagej(file.imagej_metadata or {}, page)
    return _from_tags(page)


def _from_imagej(metadata: dict[str, Any], page: Any) -> dict[str, float]:
    unit = MICROMETRES.get(str(metadata.get("unit", "")).lower())
    spacing = _from_tags(page)
    if not spacing and unit is not None:
        spacing = {axis: unit / density for axis, density in _densities(page)}
    if unit is not None and "spacing" in metadata:
        spacing["Z"] = abs(float(metadata["spacing"])) * unit
    if "finterval" in metadata:
        spacing["T"] = float(metadata["finterval"])
    return positive(spacing)


def _from_tags(page: Any) -> dict[str, float]:
    if "ResolutionUnit" not in page.tags or page.tags["ResolutionUnit"].value != CENTIMETRE:
        return {}
    densities = dict(_densities(page))
    if any(math.isclose(density * 2.54, dpi, rel_tol=0.01) for density in densities.values() for dpi in PRINT_DPI):
        return {}
    return positive({axis: 1e4 / density for axis, density in densities.items()})


def _densities(page: Any) -> Iterator[tuple[str, float]]:
    for axis in "YX":
        if f"{axis}Resolution" in page.tags:
            dots, units = page.tags[f"{axis}Resolution"].value
            if dots and units:
                yield axis, dots / units


TIFF = Reader(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    read=_read_tiff,
    reads="OME-TIFF, ImageJ and plain TIFF: integers up to 32 bit and floats, grey or RGB, channels, stacks, time series, pyramids; "
    "axes, pixel size and channel names from OME-XML, its companion file, ImageJ or the resolution in centimetres; a stack kept in several files by the first",
    refuses="several images in one file unless `series=` chooses one; axes that the file does not name; white stored as 0; "
    "CMYK and palettes; alpha that is not opaque; missing planes; the other files of such a stack",
    takes=frozenset({"series", "level"}),
)
