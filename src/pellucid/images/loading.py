"""One image on demand, checked against what its set holds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage, ValueKind, arrange, scaled, value_kind
from pellucid.images.decode import decode
from pellucid.images.imageset import ImageRecord
from pellucid.images.levels import TOLERANCE
from pellucid.images.reader import Wanted
from pellucid.images.resize import resized_image, resized_shape, resized_spacing

__all__ = ["FileSource", "ImageLoader", "Picture", "Reading", "Source", "take_picture"]

Source = Callable[[str], RawImage]


@dataclass(frozen=True)
class FileSource:
    """Opens the file of an image id."""

    files: Mapping[str, str]
    wanted: Wanted

    def __call__(self, image: str) -> RawImage:
        """Return the image as stored."""
        return decode(Path(self.files[image]), wanted=self.wanted)


@dataclass(frozen=True)
class Reading:
    """What the user says of all images of a set: axes in file order, size in pixels or µm a pixel, spacing, channels."""

    axes: str | None = None
    size: tuple[int, ...] | None = None
    um_per_px: float | None = None
    spacing: tuple[float, ...] | None = None
    channels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Picture:
    """One image ready for use: float32 ``(C, *S)``, its record and how its numbers came to float32."""

    values: NDArray[np.float32]
    record: ImageRecord
    kind: ValueKind


def take_picture(raw: RawImage, reading: Reading, name: str) -> Picture:
    """Arrange, scale and resize one stored image.

    Raises
    ------
    BadImage
        When axes, values, size, spacing or channel names do not fit; the sentence names the file.
    """
    array, axes = arrange(raw, axes=reading.axes, name=name)
    if 0 in array.shape:
        raise BadImage(f"{name}: the image of axes {axes} and shape {array.shape} is empty")
    kind = value_kind(array, name)
    before = array.shape[1:]
    spacing = _spacing(raw, reading, axes[1:], name)
    size = reading.size if reading.um_per_px is None else _physical(before, axes[1:], spacing, reading.um_per_px, name)
    after = resized_shape(before, axes[1:], size)
    values = resized_image(scaled(array, name), after)
    record = ImageRecord(
        axes=axes,
        channels=_channels(raw, reading, axes, array.shape, name),
        spacing=resized_spacing(spacing, before, after),
        display_range=raw.window if raw.window and kind == "float" else _display_range(values, kind),
        source=name,
        crop=raw.crop,
        affine=None if raw.placing is None else raw.placing.affine(axes[1:], before=before, after=after),
    )
    return Picture(np.ascontiguousarray(values), record, kind)


def _physical(
    shape: tuple[int, ...], spatial: str, spacing: tuple[float, ...] | None, um_per_px: float, name: str
) -> tuple[int, ...]:
    """Return the size, (Y, X), at which a pixel is as large as was asked."""
    steps = dict(zip(spatial, spacing or (math.nan,) * len(spatial), strict=True))
    lengths = dict(zip(spatial, shape, strict=True))
    plane = [axis for axis in "YX" if axis in spatial]
    for axis in plane:
        if math.isnan(steps[axis]):
            raise BadImage(f"{name}: um_per_px={um_per_px:g} needs the pixel size along {axis}; give spacing=")
        if steps[axis] > um_per_px * TOLERANCE:
            raise BadImage(
                f"{name}: um_per_px={um_per_px:g} is finer than the image, whose pixels are {steps[axis]:g} µm along "
                f"{axis}; nothing between them is known"
            )
    return tuple(max(1, round(lengths[axis] * steps[axis] / um_per_px)) for axis in plane)


def _channels(raw: RawImage, reading: Reading, axes: str, shape: tuple[int, ...], name: str) -> tuple[str, ...]:
    names = reading.channels or raw.channels
    if names is None:
        return ("grey",) if shape[0] == 1 else tuple(f"channel_{number}" for number in range(shape[0]))
    if reading.channels and len(names) != shape[0]:
        raise BadImage(f"{name}: {len(names)} channel names were given for axes {axes} of shape {shape}")
    if len(names) != shape[0]:
        return _channels(replace(raw, channels=None), reading, axes, shape, name)
    return names


def _spacing(raw: RawImage, reading: Reading, spatial: str, name: str) -> tuple[float, ...] | None:
    if reading.spacing is not None:
        lengths = spatial if len(reading.spacing) == len(spatial) else spatial.lstrip("T")
        if len(reading.spacing) != len(lengths):
            raise BadImage(f"{name}: spacing={reading.spacing} has not one number for each of the axes {spatial}")
        stated = (math.nan,) * (len(spatial) - len(lengths)) + reading.spacing
    else:
        stated = tuple(raw.spacing.get(letter, math.nan) for letter in spatial)
    return None if all(map(math.isnan, stated)) else stated


def _display_range(values: NDArray[np.float32], kind: ValueKind) -> tuple[float, float]:
    if kind != "float":
        return (-1.0, 1.0) if kind == "signed" else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if low >= -1 and high <= 1:
        return (0.0 if low >= 0 else -1.0, 1.0)
    return (low, high if high > low else low + 1)


@dataclass(frozen=True)
class ImageLoader:
    """Reads one image of a set and refuses it when it differs from what the set holds."""

    source: Source
    reading: Reading
    record: ImageRecord
    shape: tuple[int, ...]
    kind: ValueKind

    def __call__(self, image: str) -> Tensor:
        """Return float32 ``(C, *S)``, or refuse the file in one sentence."""
        picture = take_picture(self.source(image), self.reading, image)
        seen, held = picture.record, self.record
        if (seen.axes, picture.values.shape) != (held.axes, self.shape):
            raise BadImage(
                f"{image}: axes {seen.axes} of shape {picture.values.shape}, but the set has {held.axes} of shape "
                f"{self.shape}{_cure(picture.values.shape, self.shape)}"
            )
        if picture.kind != self.kind:
            raise BadImage(
                f"{image}: its values are {picture.kind}, but the set's are {self.kind}; save all in one type"
            )
        if seen.channels != held.channels:
            raise BadImage(
                f"{image}: its channels are {', '.join(seen.channels)}, but the set's are {', '.join(held.channels)}; "
                "put them in one order, or give channels="
            )
        if not _same_spacing(seen.spacing, held.spacing):
            raise BadImage(
                f"{image}: its pixel size is {_told(seen.spacing)}, but the set's is {_told(held.spacing)}; "
                "resample it, or give spacing= (NaN for unknown)"
            )
        return torch.from_numpy(picture.values)

    def describe(self, image: str) -> ImageRecord:
        """Return the record of one image, its own source and place in the patient with it."""
        return take_picture(self.source(image), self.reading, image).record


def _cure(seen: tuple[int, ...], held: tuple[int, ...]) -> str:
    return "; give size= to bring all to one" if len(seen) == len(held) and seen[0] == held[0] else ""


def _told(spacing: tuple[float, ...] | None) -> str:
    return "unknown" if spacing is None else " × ".join(f"{step:g}" for step in spacing) + " µm"


def _same_spacing(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=0.01, atol=0, equal_nan=True))
