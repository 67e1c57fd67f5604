"""Bright spots in an object: how many, how wide, how far above their surroundings."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pellucid.measure.surface import Array, Mask

__all__ = ["Spots", "find_spots"]


@dataclass(frozen=True)
class Spots:
    """The spots of one image.

    Attributes
    ----------
    labels
        Integer ``(*S)``: each spot's pixels at half height; 0 elsewhere.
    peaks
        ``(n, D)`` pixel of each spot's peak.
    brightness
        ``(n,)`` height over the surroundings.
    """

    labels: NDArray[np.int64]
    peaks: NDArray[np.int64]
    brightness: Array


def find_spots(grey: Array, mask: Mask, diameter: tuple[float, ...], *, contrast: float) -> Spots:
    """Find bright spots of about the given diameter.

    A spot is a local maximum of curvature that is curved in every direction (so that rims and edges are none), as
    strongly as a flat disc of that diameter and contrast, and rises by `contrast` over the object around it.

    Parameters
    ----------
    grey
        ``(*S)``.
    mask
        Boolean ``(*S)``: where to look, and what counts as surroundings.
    diameter
        Expected diameter in pixels along each axis.
    contrast
        Lowest height over the surroundings, in the image's own intensity.
    """
    blob, roundness = _blobness(grey, tuple(d / (2 * np.sqrt(grey.ndim)) for d in diameter))
    near = _ball(tuple(1.5 * d for d in diameter))
    highest = (blob == ndimage.maximum_filter(blob, footprint=near)) & mask
    peaks = np.argwhere(highest & (blob > contrast * _DISC_RESPONSE) & (roundness > _ROUND))
    labels, height = _heights(grey, mask, peaks, diameter)
    risen = height > contrast
    number = np.concatenate([[0], np.where(risen, np.cumsum(risen), 0)])
    return Spots(number[labels], peaks[risen], height[risen])


_DISC_RESPONSE = float(np.exp(-1))
"""Curvature at the centre of a flat disc of the expected diameter and height 1."""

_ROUND = 0.4
"""Least curvature along a spot relative to the curvature across it: a rim has next to none."""

_SURROUNDINGS = (0.9, 1.5)
"""Distance from a spot's peak, in diameters, of the pixels over which it rises."""


def _heights(
    grey: Array, mask: Mask, peaks: NDArray[np.int64], diameter: tuple[float, ...]
) -> tuple[NDArray[np.int64], Array]:
    """Return each peak's pixels at half height, numbered, and its height over the median of its surroundings."""
    if not len(peaks):
        return np.zeros(grey.shape, dtype=np.int64), np.zeros(0)
    markers = np.zeros(grey.shape, dtype=np.int64)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    away, nearest = ndimage.distance_transform_edt(
        markers == 0, sampling=[1 / d for d in diameter], return_indices=True
    )
    own = markers[tuple(nearest)]
    ring = np.where(mask & (away > _SURROUNDINGS[0]) & (away < _SURROUNDINGS[1]), own, 0)
    numbers = np.arange(1, len(peaks) + 1)
    floor = np.asarray(ndimage.labeled_comprehension(grey, ring, numbers, np.median, float, np.nan))
    top = ndimage.maximum_filter(grey, size=3)[tuple(peaks.T)]
    half = np.concatenate([[np.nan], 0.5 * (floor + top)])[own]
    return np.where((grey >= half) & (away < _SURROUNDINGS[0]), own, 0), top - floor


def _blobness(grey: Array, sigma: tuple[float, ...]) -> tuple[Array, Array]:
    """Return the scale-normalised downward curvature in the least curved direction, and its share of the greatest."""
    hessian = np.empty((*grey.shape, grey.ndim, grey.ndim))
    for i, j in product(range(grey.ndim), repeat=2):
        order = [0] * grey.ndim
        order[i] += 1
        order[j] += 1
        second = ndimage.gaussian_filter(grey, sigma, order=order, mode="nearest")
        hessian[..., i, j] = second * sigma[i] * sigma[j]
    curvatures = -np.linalg.eigvalsh(hessian)
    greatest = np.maximum(curvatures[..., 0], np.finfo(np.float64).tiny)
    return curvatures[..., -1], curvatures[..., -1] / greatest


def _ball(diameter: tuple[float, ...]) -> Mask:
    radii = [max(1, round(d / 2)) for d in diameter]
    grid = np.meshgrid(*(np.arange(-r, r + 1) / (r + 0.5) for r in radii), indexing="ij")
    return np.asarray(sum(axis**2 for axis in grid) <= 1.0)
