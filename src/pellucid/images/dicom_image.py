"""One image of DICOM files: a picture, the frames of one file, or the slices of a series."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.dicom_geometry import Plane, Stack, plane_of, stacked
from pellucid.images.dicom_identity import nameless
from pellucid.images.dicom_pixels import open_dataset, pixels_of
from pellucid.images.reader import Wanted, needed, refuse_too_large
from pellucid.images.units import positive

__all__ = ["read_file", "read_series"]

RGB = ("red", "green", "blue")
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def read_file(path: Path, wanted: Wanted, name: str) -> RawImage:
    """Read the picture or the frames of one file; `name` is what errors call it.

    Raises
    ------
    BadImage
        When the file is corrupt, holds no picture, or its frames do not say what they follow.
    """
    pydicom = needed("pydicom", "medical", name)
    with nameless(name):
        return _raw(pydicom, open_dataset(pydicom, path, name, wanted.limit), wanted, name)


def read_series(files: Sequence[Path], wanted: Wanted, name: str) -> RawImage:
    """Read parallel slices, one a file, as one volume sorted by their position.

    Raises
    ------
    BadImage
        When slices are turned, missing, doubled, of different shapes or values.
    """
    pydicom = needed("pydicom", "medical", name)
    with nameless(name):
        headers = [open_dataset(pydicom, file, name, wanted.limit, stop_before_pixels=True) for file in files]
        stack = stacked([plane_of(header) for header in headers], name)
        refuse_too_large(
            sum(int(one.get("Rows", 0)) * int(one.get("Columns", 0)) for one in headers), wanted.limit, name
        )
        slices = [_raw(pydicom, pydicom.dcmread(files[place]), wanted, name) for place in stack.order]
    shapes = {(one.array.shape, one.axes, one.array.dtype) for one in slices}
    if len(shapes) > 1:
        seen = ", ".join(sorted(f"{axes} {shape} {dtype}" for shape, axes, dtype in shapes))
        raise BadImage(f"{name}: its slices differ ({seen}); a volume has slices of one kind")
    first = slices[0]
    windows = [one.window for one in slices if one.window is not None]
    window = (min(low for low, _ in windows), max(high for _, high in windows)) if windows else None
    whole = RawImage(
        np.stack([one.array for one in slices]), "Z" + str(first.axes), channels=first.channels, window=window
    )
    return replace(whole, spacing=positive(stack.spacing), placing=stack.placing)


def _raw(pydicom: Any, dataset: Any, wanted: Wanted, name: str) -> RawImage:
    if str(dataset.get("SOPClassUID", "")) == SEGMENTATION:
        raise BadImage(f"{name}: it is a segmentation, not an image; give it with masks=")
    array, colour = pixels_of(pydicom, dataset, wanted.limit, name)
    axes = "YXS" if colour else "YX"
    plane, window = plane_of(dataset), _window(dataset, colour=colour)
    channels = RGB if colour else None
    if array.ndim == len(axes):
        return RawImage(array, axes, positive(plane.spacing()), channels, plane.placing(), window)
    found = _frames(dataset, len(array), plane, name)
    if isinstance(found, Stack):
        return RawImage(array[list(found.order)], "Z" + axes, positive(found.spacing), channels, found.placing, window)
    letter, spacing = found
    return RawImage(array, letter + axes, positive(plane.spacing() | spacing), channels, window=window)


def _frames(dataset: Any, count: int, plane: Plane, name: str) -> Stack | tuple[str, dict[str, float]]:
    """Return what the frames of one file follow: positions, offsets along the normal, time, or nothing that it says."""
    if count == 1:
        groups = _planes(dataset)
        one = groups[0] if groups else plane
        return Stack((0,), one.spacing(), None)
    groups = _planes(dataset)
    if groups and len(groups) == count:
        return stacked(groups, name)
    offsets = dataset.get("GridFrameOffsetVector")
    if offsets is not None and len(offsets) == count and plane.along is not None and plane.origin is not None:
        normal = np.cross(plane.along[0], plane.along[1])
        return stacked([replace(plane, origin=plane.origin + float(step) * normal) for step in offsets], name)
    if "FrameTime" in dataset or "FrameTimeVector" in dataset:
        steps = [float(one) for one in dataset.get("FrameTimeVector", [])[1:]] or [float(dataset.get("FrameTime"))]
        return "T", {"T": steps[0] / 1e3} if np.allclose(steps, steps[0], rtol=0.01) else {}
    return "Q", {}


def _planes(dataset: Any) -> list[Plane]:
    """Return the plane of each frame as the functional groups state it, or none where they do not."""
    shared = _group((dataset.get("SharedFunctionalGroupsSequence") or [{}])[0])
    found = [plane_of(shared | _group(group)) for group in dataset.get("PerFrameFunctionalGroupsSequence") or ()]
    return found if all(plane.origin is not None for plane in found) else []


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    places = {
        "ImagePositionPatient": "PlanePositionSequence",
        "ImageOrientationPatient": "PlaneOrientationSequence",
        "PixelSpacing": "PixelMeasuresSequence",
    }
    found = {key: (group.get(sequence) or [{}])[0].get(key) for key, sequence in places.items()}
    return {key: value for key, value in found.items() if value is not None}


def _window(dataset: Any, *, colour: bool) -> tuple[float, float] | None:
    """Return the values that the file asks to be shown, from its first window."""
    found = [dataset.get(key) for key in ("WindowCenter", "WindowWidth")]
    if colour or None in found:
        return None
    centre, width = (float(one[0] if hasattr(one, "__len__") and not isinstance(one, str) else one) for one in found)
    return (centre - width / 2, centre + width / 2) if width > 0 and np.isfinite([centre, width]).all() else None
