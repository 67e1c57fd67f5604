"""Lay a mask on the grid of its image by where both lie in the patient."""

from dataclasses import replace

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage, arrange
from pellucid.images.placing import Placing

__all__ = ["laid_on"]

OFF = 0.05
"""Two grids that differ by more than this share of a voxel are not the same."""


def laid_on(image: RawImage, mask: RawImage, name: str) -> RawImage:
    """Return the mask on the image's voxels: slices it leaves out are background, axes that run backwards are turned.

    Parameters
    ----------
    image, mask
        Both with the place that their files state.
    name
        The mask's file, for the sentence of a refusal.

    Raises
    ------
    BadImage
        When the voxels of the two do not coincide, or labels lie outside the image.
    """
    if image.placing is None or mask.placing is None:
        return mask
    whole, letters = arrange(image, axes=None, name=name)
    part, own = arrange(mask, axes=None, name=name)
    if part.shape[0] != 1 or "T" in letters + own:
        return mask
    part, placing = _with_depth(part[0], own[1:], mask.placing)
    shape = tuple(dict(zip(letters, whole.shape, strict=True)).get(axis, 1) for axis in "ZYX")
    part, start = _aligned(part, placing, image.placing, letters[1:], name)
    laid = _placed(part, start, shape, name)
    return replace(mask, array=laid if "Z" in letters else laid[0], axes=letters[1:], placing=None)


def _with_depth(array: Array, axes: str, placing: Placing) -> tuple[Array, Placing]:
    return (array, placing) if "Z" in axes else (array[np.newaxis], placing)


def _aligned(part: Array, own: Placing, image: Placing, axes: str, name: str) -> tuple[Array, tuple[int, int, int]]:
    """Turn the axes of the mask that run against the image's and return where its first voxel falls."""
    shift = np.array(own.origin) - np.array(image.origin)
    for place, axis in enumerate("ZYX"):
        if axis not in axes or axis not in own.steps:
            continue
        step, target = np.array(own.steps[axis]), np.array(image.steps[axis])
        if np.allclose(step, -target, atol=OFF / max(part.shape[place], 1) * np.linalg.norm(target)):
            part, shift, step = np.flip(part, place), shift + step * (part.shape[place] - 1), -step
        if np.abs(step - target).max() * part.shape[place] > OFF * np.linalg.norm(target) * 2:
            raise BadImage(
                f"{name}: the mask's voxels along {axis} step by {_told(own.steps[axis])} mm, its image's by {_told(image.steps[axis])}; "
                "resample the mask on its image"
            )
    steps = np.stack([np.array(image.steps[axis]) for axis in axes if axis in "ZYX"], axis=1)
    found, *_ = np.linalg.lstsq(steps, shift, rcond=None)
    off = np.linalg.norm(steps @ np.round(found) - shift)
    if off > OFF * np.linalg.norm(steps, axis=0).min():
        raise BadImage(
            f"{name}: the mask lies {off:.3g} mm beside the voxels of its image; resample the mask on its image"
        )
    whole = dict(zip((axis for axis in axes if axis in "ZYX"), np.round(found).astype(int), strict=True))
    return part, tuple(int(whole.get(axis, 0)) for axis in "ZYX")  # type: ignore[return-value]


def _told(step: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{one:.4g}" for one in step) + ")"


def _placed(part: Array, start: tuple[int, ...], shape: tuple[int, ...], name: str) -> Array:
    laid = np.zeros(shape, part.dtype)
    here = tuple(
        slice(max(0, first), min(length, first + size))
        for first, length, size in zip(start, shape, part.shape, strict=True)
    )
    there = tuple(
        slice(one.start - first, max(one.stop, one.start) - first) for one, first in zip(here, start, strict=True)
    )
    inside = part[there]
    if np.count_nonzero(part) != np.count_nonzero(inside):
        raise BadImage(
            f"{name}: {np.count_nonzero(part) - np.count_nonzero(inside)} labelled voxels of the mask lie outside its image of shape {shape}"
        )
    if inside.size:
        laid[here] = inside
    return laid
