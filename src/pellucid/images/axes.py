"""What a file states about its axes, and the one order in which pellucid keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.util import img_as_float32

from pellucid.errors import BadImage
from pellucid.images.imageset import SPATIAL_AXES
from pellucid.images.placing import Placing

__all__ = ["Array", "RawImage", "ValueKind", "arrange", "check_axes", "in_order", "scaled", "value_kind"]

Array = NDArray[Any]
ValueKind = Literal["unsigned", "signed", "float"]

ORDER = "CTZYX"


@dataclass(frozen=True)
class RawImage:
    """One image as it is stored, with what its file states about it.

    Attributes
    ----------
    array
        The stored numbers, dimensions in file order.
    axes
        One letter a dimension as the file states it (``S``, samples, is a channel), or None when it states nothing.
    spacing
        Axis letter to pixel size in micrometres (``T``: seconds between frames), as far as stated.
    channels
        Channel names, or None when not stated.
    placing
        Where the image lies in the patient, or None when not stated.
    window
        Lowest and highest value that the file asks to be shown, in its values' units, or None.
    crop
        Offset of the image in its source, in pixels of its own size, one number an axis of Y and X, or None.
    """

    array: Array
    axes: str | None = None
    spacing: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    placing: Placing | None = None
    window: tuple[float, float] | None = None
    crop: tuple[int, ...] | None = None


def check_axes(axes: str) -> str:
    """Return axes given by the user with ``S`` spelt ``C``, or refuse them."""
    letters = axes.upper().replace("S", "C")
    unknown = "".join(letter for letter in letters if letter not in ORDER)
    if unknown:
        raise BadImage(f"axes={axes!r}: {unknown!r} is no axis; the letters are C, T, Z, Y and X")
    if len(set(letters)) != len(letters):
        raise BadImage(f"axes={axes!r} names an axis twice")
    if in_order(letters).lstrip("C") not in SPATIAL_AXES:
        raise BadImage(f"axes={axes!r}: the axes beside C must be one of {', '.join(SPATIAL_AXES)} in any order")
    return letters


def in_order(letters: str) -> str:
    """Return axis letters in the order in which pellucid keeps them."""
    return "".join(letter for letter in ORDER if letter in letters)


def arrange(raw: RawImage, *, axes: str | None, name: str) -> tuple[Array, str]:
    """Bring an array into the order ``(C, *S)``; an array without channels gets one.

    Where the file names the axes, a time or depth of length one is dropped: five-dimensional formats state it always.

    Parameters
    ----------
    raw
        The array with what its file states.
    axes
        One letter a dimension in file order, checked by `check_axes`; replaces what the file states.
    name
        The file's name, for the sentence of a refusal.

    Returns
    -------
    tuple
        The array and its axes, such as ``"CYX"``.

    Raises
    ------
    BadImage
        When the axes cannot be told; the sentence names the axes and the shape seen.
    """
    array, letters = _named(raw, name) if axes is None else (raw.array, axes)
    if len(letters) != array.ndim:
        raise BadImage(
            f"{name}: axes={letters!r} names {len(letters)} dimensions, but the file holds {array.ndim} of shape "
            f"{array.shape}"
        )
    order = in_order(letters)
    if order.lstrip("C") not in SPATIAL_AXES:
        raise BadImage(
            f"{name}: axes {letters} of shape {array.shape} are none of {', '.join(SPATIAL_AXES)} with or without C; "
            "give axes= in file order"
        )
    array = array.transpose([letters.index(letter) for letter in order])
    return (array, order) if order[0] == "C" else (array[np.newaxis], "C" + order)


def _named(raw: RawImage, name: str) -> tuple[Array, str]:
    if raw.axes is None:
        raise BadImage(
            f"{name}: the file does not name the axes of its shape {raw.array.shape}; "
            f'give axes= in file order, such as axes="{"ZCYX"[-raw.array.ndim :] or "YX"}"'
        )
    letters = raw.axes
    spare = [
        place
        for place, letter in enumerate(letters)
        if raw.array.shape[place] == 1 and (letter not in "CSYX" or (letter in "CS" and {"C", "S"} <= set(letters)))
    ]
    if len(spare) == 2 and {"C", "S"} == {letters[place] for place in spare}:
        spare = spare[:1]
    array = raw.array.squeeze(axis=tuple(spare))
    letters = "".join(letter for place, letter in enumerate(letters) if place not in spare)
    unknown = "".join(letter for letter in letters if letter not in ORDER + "S")
    if unknown:
        raise BadImage(
            f"{name}: the file names its axes {raw.axes} for shape {raw.array.shape} and does not say what "
            f'{unknown} is; give axes= in file order, such as axes="{letters.replace(unknown, "Z", 1)}"'
        )
    if {"C", "S"} <= set(letters):
        raise BadImage(
            f"{name}: axes {letters} of shape {array.shape} hold colour samples (S) within channels (C); "
            "save the samples as channels"
        )
    return array, letters.replace("S", "C")


def value_kind(array: Array, name: str) -> ValueKind:
    """Say how numbers of this type are brought to float32, or refuse them."""
    if array.dtype.kind in "iu" and array.dtype.itemsize > 4:
        raise BadImage(
            f"{name}: {array.dtype} has no range that images use; save it as 8 or 16 bit integers or as floats"
        )
    if array.dtype.kind not in "biuf":
        raise BadImage(f"{name}: values of type {array.dtype} are no image; save integers or floats")
    kinds: dict[str, ValueKind] = {"i": "signed", "f": "float"}
    return kinds.get(array.dtype.kind, "unsigned")


def scaled(array: Array, name: str) -> NDArray[np.float32]:
    """Bring stored numbers to float32: integers by their type's own range, floats unchanged.

    Raises
    ------
    BadImage
        When a value is not finite.
    """
    value_kind(array, name)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = img_as_float32(array)  # type: ignore[no-untyped-call]
    if array.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise BadImage(f"{name}: {bad} of {values.size} values are not finite in float32 (NaN, infinite or too large)")
    return values
