"""Regions of one image from its own content, in one to three spatial axes: superpixels, basins, intensity bands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_gradient_magnitude
from skimage import segmentation
from torch import Tensor

__all__ = ["COMPACTNESS", "REGIONS", "NamedRegions", "Spacing", "basins", "intensity_bands", "superpixels"]

COMPACTNESS = (0.1, 0.3, 1.0, 3.0)
"""Tried from the most faithful to edges to the most regular, until SLIC keeps about the number asked for."""

Spacing = tuple[float, ...] | None
"""Physical distance of neighbouring pixels along each axis, in any one unit; None where it is the same along all."""

Image = NDArray[np.float64]
"""One image ``(C, *S)``."""


def _scaled(image: Image) -> Image:
    """Return the image clipped to its 1st to 99th percentile and scaled on its own, channels last."""
    flat = image.reshape(len(image), -1)
    low, high = np.percentile(flat, (1, 99), axis=1)
    axes = (-1, *[1] * (image.ndim - 1))
    clipped = np.clip(image, low.reshape(axes), high.reshape(axes)) - low.reshape(axes)
    scaled: Image = np.moveaxis(clipped / max(float((high - low).max()), np.finfo(np.float64).tiny), 0, -1)
    return scaled


def _steps(spacing: Spacing, axes: int) -> Image:
    """Return the spacing relative to its geometric mean, so that only proportions count."""
    given = np.asarray(spacing if spacing is not None else (1.0,) * axes, dtype=np.float64)
    relative: Image = given / np.exp(np.log(given).mean())
    return relative


def _dense(labels: NDArray[np.int64]) -> Tensor:
    return torch.as_tensor(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))


def superpixels(image: Image, count: int, spacing: Spacing = None) -> Tensor | None:
    """Return about `count` SLIC superpixels (supervoxels in 3-D), or None where no compactness keeps so many.

    References
    ----------
    Achanta et al. 2012, SLIC superpixels compared to state-of-the-art superpixel methods.
    """
    scaled, steps = _scaled(image), _steps(spacing, image.ndim - 1)
    if image.ndim == 2:  # SLIC wants two axes at least
        scaled, steps = scaled[None], np.array([1.0, 1.0])
    run: Callable[..., NDArray[np.int64]] = segmentation.slic
    for compactness in COMPACTNESS:
        labels = run(
            scaled, count, compactness=compactness, sigma=1, spacing=steps, convert2lab=False, start_label=0, channel_axis=-1
        )  # fmt: skip
        dense = _dense(labels.reshape(image.shape[1:]))
        if count / 2 <= int(dense.max()) + 1 <= 2 * count:
            return dense
    return None


def basins(image: Image, count: int, spacing: Spacing = None) -> Tensor | None:
    """Return about `count` watershed basins of the edge strength, each grown from a seed of a regular grid.

    References
    ----------
    Beucher & Lantuéjoul 1979, Use of watersheds in contour detection.
    """
    scaled, sigma = _scaled(image), 1 / _steps(spacing, image.ndim - 1)
    edges = [gaussian_gradient_magnitude(channel, sigma) for channel in np.moveaxis(scaled, -1, 0)]
    run: Callable[..., NDArray[np.int64]] = segmentation.watershed
    dense = _dense(run(np.sqrt(np.square(edges).sum(0)), markers=count))
    return dense if count / 2 <= int(dense.max()) + 1 <= 2 * count else None


def intensity_bands(image: Image, count: int, spacing: Spacing = None) -> Tensor:  # noqa: ARG001  # no distances here
    """Return `count` bands of equal area by the mean over channels, darkest first; fewer where values are tied."""
    mean = image.mean(0)
    edges = np.quantile(mean, np.arange(1, count) / count)
    return _dense(np.searchsorted(edges, mean, side="right"))


@dataclass(frozen=True)
class NamedRegions:
    """Regions that have a name: their meaning, and how they are made of an image, a count and the pixels' spacing."""

    meaning: str
    make: Callable[[Image, int, Spacing], Tensor | None]


REGIONS: Mapping[str, NamedRegions] = MappingProxyType(
    {
        "slic": NamedRegions("SLIC superpixels, supervoxels in 3-D", superpixels),
        "watershed": NamedRegions("basins of the edge strength round regular seeds", basins),
        "quantiles": NamedRegions("bands of equal area by intensity, wherever they lie", intensity_bands),
    }
)
"""Regions by name; each is made of one row alone and without any randomness."""
