"""NIfTI and MGH through nibabel: scaled values, millimetres as micrometres, and the place in the patient."""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.placing import Placing
from pellucid.images.quiet import quiet
from pellucid.images.reader import Reader, Wanted, needed, refuse_too_large
from pellucid.images.units import positive

__all__ = ["NIFTI"]

LENGTHS = {"mm": 1e3, "micron": 1.0, "meter": 1e6}
TIMES = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
BROKEN = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError, zlib.error,
)  # fmt: skip


def _read(path: Path, wanted: Wanted) -> RawImage:
    nibabel = needed("nibabel", "medical", path)
    own = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        with quiet("nibabel.global"):
            return _raw(nibabel.load(path), path, wanted)
    except BadImage:
        raise
    except (*own, *BROKEN) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImage(f"{path}: the file is corrupt, incomplete or no NIfTI ({reason})") from None


def _raw(image: Any, path: Path, wanted: Wanted) -> RawImage:
    shape = tuple(map(int, image.shape))
    if not 2 <= len(shape) <= 5 or min(shape) < 1:
        raise BadImage(f"{path}: the header states the shape {shape}; two to five dimensions are read")
    refuse_too_large(math.prod(shape), wanted.limit, path)
    array = np.asarray(image.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    axes = "XYZTC"[: array.ndim]
    if array.ndim == 5 and array.shape[3] == 1:
        array, axes = array[:, :, :, 0], "XYZC"
    if array.dtype.names:
        array, axes = np.stack([array[name] for name in array.dtype.names], -1), axes + "S"
    elif not wanted.mask:
        array = _quantity(array)
    stated = _stated(image)
    zooms = dict(zip("XYZT", map(float, image.header.get_zooms()), strict=False))
    units = dict.fromkeys("XYZ", stated.length) | {"T": stated.time}
    spacing = {axis: zooms[axis] * unit for axis, unit in units.items() if axis in axes and axis in zooms and unit}
    placing = None
    if stated.placed and "Z" in axes:
        placing = Placing.from_affine(_millimetres(image.affine, stated.length or 1e3), "XYZ")
    return RawImage(array, axes, positive(spacing), placing=placing)


def _quantity(array: Array) -> Array:
    """Return values as floats: the unit of a scan does not depend on the type that it was stored in."""
    return array.astype(np.float32) if array.dtype.kind in "iub" else array


def _millimetres(affine: Array, length: float) -> Array:
    return np.vstack([affine[:3] * (length / 1e3), affine[3:]])


@dataclass(frozen=True)
class _Stated:
    """Whether the header places the image, and its units in µm and seconds, None where unknown."""

    placed: bool
    length: float | None
    time: float | None


def _stated(image: Any) -> _Stated:
    """Return what the header says; a placed image of unknown unit is in millimetres, as every tool takes it."""
    header = image.header
    if not hasattr(header, "get_xyzt_units"):
        return _Stated(bool(header["goodRASFlag"] > 0), 1e3, 1e-3)
    length, time = header.get_xyzt_units()
    placed = bool(header["qform_code"] > 0 or header["sform_code"] > 0)
    return _Stated(placed, LENGTHS.get(length, 1e3 if placed else None), TIMES.get(time))


NIFTI = Reader(
    name="NIfTI",
    suffixes=(".nii", ".nii.gz", ".mgz", ".mgh"),
    read=_read,
    extra="medical",
    reads="NIfTI-1 and -2 and MGH, plain or gzipped: XYZ, time, vectors, RGB; values scaled by slope and intercept and kept as they "
    "are; affine in RAS; label maps as masks",
    refuses="complex numbers; more than five dimensions; a mask that lies on another grid than its image",
)
