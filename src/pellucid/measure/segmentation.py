"""Objects from intensity alone, for images without a mask."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed
from torch import Tensor

from pellucid.errors import BadImage

__all__ = ["segment"]


def segment(
    image: Tensor, *, smallest: int = 30, split_distance: int | None = None, dark_objects: bool = False
) -> Tensor:
    """Tell objects from background where no mask is given.

    The recipe: mean over channels; Gaussian blur of one pixel; Otsu's threshold; holes filled; objects under
    `smallest` pixels dropped; connected regions numbered, or, with `split_distance`, touching objects parted by a
    watershed on the distance to the background.

    Parameters
    ----------
    image
        ``(C, *S)`` with two or three spatial axes.
    smallest
        Fewest pixels of an object.
    split_distance
        Least distance in pixels between the centres of two touching objects, or None to leave them joined.
    dark_objects
        Whether objects are darker than the background.

    Returns
    -------
    Tensor
        Int64 ``(*S)``: 0 is background.

    Raises
    ------
    BadImage
        When the image has no spatial axes or only one grey level.
    """
    if image.ndim not in {3, 4}:
        raise BadImage(f"objects are told apart in (C, Y, X) or (C, Z, Y, X), not in {tuple(image.shape)}")
    grey = ndimage.gaussian_filter(image.mean(0).numpy().astype(np.float64), 1.0)
    if grey.min() == grey.max():
        raise BadImage("the image has one grey level only, so no object can be told from the background")
    grey = -grey if dark_objects else grey
    threshold = threshold_otsu(grey)  # type: ignore[no-untyped-call]
    bright = ndimage.binary_fill_holes(grey > threshold)
    labels, _ = ndimage.label(remove_small_objects(bright, max_size=smallest - 1))
    if split_distance is not None:
        labels = _parted(labels, split_distance)
    return torch.from_numpy(labels.astype(np.int64))


def _parted(labels: NDArray[Any], distance: int) -> NDArray[Any]:
    depth = ndimage.distance_transform_edt(labels > 0)
    peaks = peak_local_max(  # type: ignore[no-untyped-call]
        depth, min_distance=distance, labels=labels, exclude_border=False
    )
    markers = np.zeros(labels.shape, dtype=np.int64)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    parted = watershed(-depth, markers, mask=labels > 0)  # type: ignore[no-untyped-call]
    return np.asarray(parted)
