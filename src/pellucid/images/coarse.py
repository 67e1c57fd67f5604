"""Regions of a slide at a pixel size between its levels, and the whole slide as one small picture."""

import numpy as np

from pellucid.images.axes import Array
from pellucid.images.pyramid import Pyramid
from pellucid.images.resize import resized_image

__all__ = ["cut", "small_picture"]

_HELD = 1 << 24
"""Pixels of a level that are held at once."""


def small_picture(pyramid: Pyramid, level: int, factor: float) -> Array:
    """Return the whole of a level, each pixel the mean of `factor` by `factor`; strip by strip, so that memory stays flat."""
    rows, columns = (max(1, round(length / factor)) for length in pyramid.shapes[level])
    strip = max(1, int(_HELD / (pyramid.shapes[level][1] * factor)))
    parts = [
        cut(pyramid, level, factor, (start, 0), (min(strip, rows - start), columns)) for start in range(0, rows, strip)
    ]
    return np.concatenate(parts)


def cut(pyramid: Pyramid, level: int, factor: float, place: tuple[int, int], size: tuple[int, int]) -> Array:
    """Return a region of a slide in a size.

    Parameters
    ----------
    pyramid, level
        What is read.
    factor
        Pixels of the level along the side of one that is given out, at least 1; it need not be whole.
    place, size
        First row and column, and rows and columns, in pixels that are given out.
    """
    whole = pyramid.shapes[level]
    lengths = [min(length, max(1, round(one * factor))) for one, length in zip(size, whole, strict=True)]
    start = [min(round(at * factor), length - one) for at, one, length in zip(place, lengths, whole, strict=True)]
    region = pyramid.region(level, start[0], start[1], lengths[0], lengths[1])
    return _resized(region, size)


def _resized(region: Array, size: tuple[int, int]) -> Array:
    """Bring a region to a size in its own type of numbers."""
    if region.shape[:2] == size:
        return region
    colours = region[..., np.newaxis] if region.ndim == 2 else region
    new = resized_image(np.moveaxis(colours, -1, 0).astype(np.float32), size)
    back = np.moveaxis(new, 0, -1).reshape(*size, *region.shape[2:])
    return np.rint(back).astype(region.dtype) if region.dtype.kind in "iu" else back.astype(region.dtype)
