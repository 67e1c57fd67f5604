"""TIFF through tifffile: axes, pixel size and channel names as ImageJ, OME or the tags state them."""

import logging
import math
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.raster import opaque

__all__ = ["read_tiff"]

MICROMETRES = {
    **dict.fromkeys(("µm", "μm", "um", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
}
SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "µs": 1e-6, "min": 60.0, "h": 3600.0}
CENTIMETRE = 3
ALPHA = (1, 2)
PRINT_DPI = (72, 96, 100, 150, 200, 300, 400, 600, 1200)
BROKEN = (
    tifffile.TiffFileError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What tifffile raises on damaged files, found by damaging files of every kind at random."""


DAMAGE = re.compile(r"TiffTag (2[5-9]\d|[345]\d\d) @\d+> invalid|invalid page offset")
"""What tifffile logs when a standard tag or a page lies outside the file, and then reads less than was stored."""


class _Damage(logging.Handler):
    """Hears what tifffile logs in this thread; other threads read other files at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.thread, self.heard = threading.get_ident(), ""

    def emit(self, record: logging.LogRecord) -> None:
        found = DAMAGE.search(record.getMessage()) if record.thread == self.thread else None
        self.heard = self.heard or (found.group() if found else "")


def read_tiff(path: Path) -> RawImage:
    """Read a TIFF file with what it states about its axes, pixel size and channels.

    The pixel size comes from OME metadata, else from ImageJ's unit, else from resolution tags in centimetres; a
    resolution per inch, or one that equals a usual print resolution, is a print setting and says nothing.

    Raises
    ------
    BadImage
        When the file is corrupt or incomplete, holds several images, or stores colours that are not grey or RGB.
    """
    log, damage = logging.getLogger("tifffile"), _Damage()
    log.addHandler(damage)
    try:
        with tifffile.TiffFile(path) as file:
            raw = _read(file, path)
    except BadImage:
        raise
    except BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImage(f"{path}: the TIFF is corrupt, incomplete or of a kind that cannot be read ({reason})") from None
    finally:
        log.removeHandler(damage)
    if damage.heard:
        raise BadImage(f"{path}: the TIFF is corrupt or incomplete ({damage.heard})")
    return raw


def _read(file: tifffile.TiffFile, path: Path) -> RawImage:
    series = file.series
    if len(series) != 1:
        seen = ", ".join(f"{one.axes} {one.shape}" for one in series) or "none"
        raise BadImage(f"{path}: the file holds {len(series)} images ({seen}); save one image a file")
    whole = series[0]
    pages = list(whole.pages)
    if any(page is None for page in pages):
        missing = sum(page is None for page in pages)
        raise BadImage(f"{path}: {missing} of {len(pages)} planes lie in other files that are missing")
    _refuse_truncated(pages, path)
    _refuse_colours(file, whole.keyframe, path)
    array, axes = whole.asarray(), whole.axes
    _refuse_missing_planes(file, array, path)
    if "S" in axes and any(int(sample) in ALPHA for sample in whole.keyframe.extrasamples):
        array = opaque(np.moveaxis(array, axes.index("S"), -1), path)
        axes = axes.replace("S", "") + "S" * (array.ndim == len(axes))
    spacing, channels = _stated(file, whole.keyframe)
    if channels is None and "S" in axes and array.shape[axes.index("S")] == 3:
        channels = ("red", "green", "blue")
    return RawImage(_native(array), axes, spacing, channels)


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _refuse_truncated(pages: list[Any], path: Path) -> None:
    for page in pages:
        size = page.parent.filehandle.size
        segments = zip(page.dataoffsets, page.databytecounts, strict=True)
        if any(start + count > size for start, count in segments):
            raise BadImage(f"{path}: the TIFF is incomplete: its pixels end after the end of the file")


def _refuse_missing_planes(file: tifffile.TiffFile, array: Array, path: Path) -> None:
    """Compare with the size that the metadata states: tifffile reads a cut stack as a shorter one."""
    stated = None
    if file.is_ome:
        pixels = _ome_pixels(file.ome_metadata or "")
        stated = math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "CTZYX") if pixels else None
    elif file.is_imagej:
        plane = math.prod(file.series[0].keyframe.shape)
        stated = int((file.imagej_metadata or {}).get("images", 1)) * plane
    elif file.shaped_metadata:
        stated = math.prod(file.shaped_metadata[0].get("shape", array.shape))
    if stated is not None and stated != array.size:
        raise BadImage(
            f"{path}: the TIFF is incomplete: its metadata states {stated} values, but {array.size} of shape "
            f"{array.shape} are there"
        )


def _ome_pixels(xml: str) -> dict[str, Any]:
    images = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    pixels: dict[str, Any] = (images[0] if isinstance(images, list) else images).get("Pixels", {})
    return pixels


def _refuse_colours(file: tifffile.TiffFile, page: Any, path: Path) -> None:
    kind = tifffile.PHOTOMETRIC(page.photometric)
    readable = {tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR}
    if file.is_imagej:
        readable.add(tifffile.PHOTOMETRIC.PALETTE)  # ImageJ's look-up table is for display only
    if file.is_shaped and page.bitspersample == 1:
        readable.add(kind)  # tifffile declares so every array of truth values and keeps 1 for true
    elif kind == tifffile.PHOTOMETRIC.MINISWHITE:
        raise BadImage(f"{path}: the TIFF stores white as 0; invert it and save it with black as 0")
    if kind not in readable:
        raise BadImage(f"{path}: the TIFF's colours are {kind.name}, neither grey nor RGB; save it as one of these")


def _stated(file: tifffile.TiffFile, page: Any) -> tuple[dict[str, float], tuple[str, ...] | None]:
    if file.is_ome:
        return _from_ome(file.ome_metadata or "")
    if file.is_imagej:
        return _from_imagej(file.imagej_metadata or {}, page), None
    return _from_tags(page), None


def _from_ome(xml: str) -> tuple[dict[str, float], tuple[str, ...] | None]:
    pixels = _ome_pixels(xml)
    spacing = {}
    for axis in "XYZ":
        unit = MICROMETRES.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower())
        if unit is not None and f"PhysicalSize{axis}" in pixels:
            spacing[axis] = float(pixels[f"PhysicalSize{axis}"]) * unit
    unit = SECONDS.get(str(pixels.get("TimeIncrementUnit", "s")))
    if unit is not None and "TimeIncrement" in pixels:
        spacing["T"] = float(pixels["TimeIncrement"]) * unit
    channels = pixels.get("Channel", [])
    names = [channel.get("Name") for channel in (channels if isinstance(channels, list) else [channels])]
    return _positive(spacing), tuple(map(str, names)) if names and all(names) else None


def _from_imagej(metadata: dict[str, Any], page: Any) -> dict[str, float]:
    unit = MICROMETRES.get(str(metadata.get("unit", "")).lower())
    spacing = _from_tags(page)
    if not spacing and unit is not None:
        spacing = {axis: unit / density for axis, density in _densities(page)}
    if unit is not None and "spacing" in metadata:
        spacing["Z"] = abs(float(metadata["spacing"])) * unit
    if "finterval" in metadata:
        spacing["T"] = float(metadata["finterval"])
    return _positive(spacing)


def _from_tags(page: Any) -> dict[str, float]:
    if "ResolutionUnit" not in page.tags or page.tags["ResolutionUnit"].value != CENTIMETRE:
        return {}
    densities = dict(_densities(page))
    if any(math.isclose(density * 2.54, dpi, rel_tol=0.01) for density in densities.values() for dpi in PRINT_DPI):
        return {}
    return _positive({axis: 1e4 / density for axis, density in densities.items()})


def _densities(page: Any) -> Iterator[tuple[str, float]]:
    for axis in "YX":
        if f"{axis}Resolution" in page.tags:
            dots, units = page.tags[f"{axis}Resolution"].value
            if dots and units:
                yield axis, dots / units


def _positive(spacing: dict[str, float]) -> dict[str, float]:
    return {axis: step for axis, step in spacing.items() if math.isfinite(step) and step > 0}
