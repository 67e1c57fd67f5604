"""Pixels of a DICOM file: decoded, in the modality's own unit, colours as red, green and blue."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import Array
from pellucid.images.reader import refuse_too_large

__all__ = ["open_dataset", "pixels_of", "refuse_inflated"]

GREY = ("MONOCHROME1", "MONOCHROME2")
DEFLATED = "1.2.840.10008.1.2.1.99"
BLOCK = 2**20


def open_dataset(pydicom: Any, path: Path, name: str, limit: int, **how: Any) -> Any:
    """Read a file's data set; one that inflates to more than its pixels could need is refused first."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            raise BadImage(f"{name}: the file does not begin as a DICOM file does")
    refuse_inflated(pydicom, path, name, limit)
    return pydicom.dcmread(path, **how)


def refuse_inflated(pydicom: Any, path: Path, name: str, limit: int) -> None:
    """Refuse a deflated file of boundless content, a piece at a time."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    most = 4 * limit + BLOCK
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        packed, size = file.read(), 0
    try:
        while packed and not unpack.eof:
            size += len(unpack.decompress(packed, BLOCK))
            packed = unpack.unconsumed_tail
            if size > most:
                raise BadImage(
                    f"{name}: the file inflates to more than {most:.3g} bytes; give limit= if it really holds so much"
                )
    except zlib.error:
        raise BadImage(f"{name}: the deflated file is corrupt") from None


def pixels_of(pydicom: Any, dataset: Any, limit: int, name: str) -> tuple[Array, bool]:
    """Return frames (where there are several), rows and columns, and whether the last axis is red, green and blue.

    Grey values are those after the modality's look-up table or slope and intercept, as floats in the modality's unit;
    where white is stored as the lowest value and no unit is stated, they are turned round.

    Raises
    ------
    BadImage
        When there are no pixels, too many, or colours that cannot be read.
    """
    kind = str(dataset.get("PhotometricInterpretation", ""))
    samples, frames = int(dataset.get("SamplesPerPixel", 1)), int(dataset.get("NumberOfFrames", 1) or 1)
    sizes = [int(dataset.get(key, 0) or 0) for key in ("Rows", "Columns")]
    if not any(key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")) or min(sizes) < 1:
        raise BadImage(f"{name}: the DICOM file holds no picture")
    refuse_too_large(math.prod(sizes) * samples * max(frames, 1), limit, name)
    stored = pydicom.pixels.pixel_array(dataset)
    if kind == "PALETTE COLOR":
        return pydicom.pixels.apply_color_lut(stored, dataset), True
    if samples == 3:
        return stored, True
    if kind not in GREY:
        raise BadImage(f"{name}: its colours are {kind or 'not stated'}, neither grey, RGB, YBR nor a palette")
    return _quantity(pydicom, dataset, stored, kind, name), False


def _quantity(pydicom: Any, dataset: Any, stored: Array, kind: str, name: str) -> Array:
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None and "RescaleSlope" not in dataset:
        values, unit = _by_frame(dataset, stored, name)
    else:
        values, unit = pydicom.pixels.apply_modality_lut(stored, dataset), str(dataset.get("RescaleType", "") or "")
        rescaled = "ModalityLUTSequence" in dataset or (
            dataset.get("RescaleSlope", 1),
            dataset.get("RescaleIntercept", 0),
        ) != (1, 0)
        unit = unit or ("stated" if rescaled else "")
    if "DoseGridScaling" in dataset:
        values = values * float(dataset.DoseGridScaling)
    if kind == "MONOCHROME1" and unit in ("", "US"):
        values = _turned(dataset, values)
    return np.asarray(values).astype(np.float32)


def _turned(dataset: Any, values: Array) -> Array:
    """Turn round values of which the lowest is shown white, within the range that their bits allow."""
    bits, signed = int(dataset.get("BitsStored", 8)), int(dataset.get("PixelRepresentation", 0)) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    turned: Array = (low + high) - values.astype(np.float64)
    return turned


def _by_frame(dataset: Any, stored: Array, name: str) -> tuple[Array, str]:
    """Apply each frame's own slope and intercept, as multi-frame files of newer kinds have them."""
    frames = stored.reshape(-1, *stored.shape[-2:])
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != len(frames):
        raise BadImage(f"{name}: the file describes {len(groups)} frames and holds {len(frames)}")
    found = [_transform(group) or _transform(shared) for group in groups]
    if not any(found):
        return stored, ""
    told = [one or (1.0, 0.0, "") for one in found]
    slopes, offsets = (np.array([one[place] for one in told]).reshape(-1, 1, 1) for place in (0, 1))
    units = {str(one[2]) for one in told}
    return (frames * slopes + offsets).reshape(stored.shape), units.pop() if len(units) == 1 else "stated"


def _transform(group: Any) -> tuple[float, float, str] | None:
    found = (group.get("PixelValueTransformationSequence") if group is not None else None) or []
    if not found:
        return None
    return (
        float(found[0].get("RescaleSlope", 1)),
        float(found[0].get("RescaleIntercept", 0)),
        str(found[0].get("RescaleType", "")),
    )
