"""Bring images and masks to one size."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from pellucid.errors import BadImage
from pellucid.images.axes import Array

__all__ = ["resized_image", "resized_mask", "resized_shape", "resized_spacing"]


def resized_shape(shape: Sequence[int], spatial: str, size: Sequence[int] | None) -> tuple[int, ...]:
    """Return the spatial shape after a resize of the last axes; time is never resized."""
    if size is None:
        return tuple(shape)
    lengths = spatial.lstrip("T")
    if not 0 < len(size) <= len(lengths):
        raise BadImage(
            f"size={tuple(size)} does not fit images of axes {spatial}: give one number for each of {lengths}"
        )
    return (*shape[: len(shape) - len(size)], *size)


def resized_image(array: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Resize ``(C, *S)`` to the spatial `shape`, linear, smoothed against aliasing where it shrinks."""
    if array.shape[1:] == tuple(shape):
        return array
    new: NDArray[np.float32] = resize(  # type: ignore[no-untyped-call]
        array, (array.shape[0], *shape), order=1, mode="reflect", anti_aliasing=True, preserve_range=True
    )
    return new.astype(np.float32, copy=False)


def resized_mask(array: Array, shape: Sequence[int]) -> Array:
    """Resize ``(*S)`` by taking the nearest label, so that no new label appears."""
    if array.shape == tuple(shape):
        return array
    nearest = [
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(array.shape, shape, strict=True)
    ]
    return array[np.ix_(*nearest)]


def resized_spacing(
    spacing: Sequence[float] | None, before: Sequence[int], after: Sequence[int]
) -> tuple[float, ...] | None:
    """Return the pixel size after a resize."""
    if spacing is None:
        return None
    return tuple(step * old / new for step, old, new in zip(spacing, before, after, strict=True))
