"""Grey-level co-occurrence within an object: contrast, correlation, angular second moment."""

import numpy as np
from skimage.feature import graycomatrix, graycoprops

from pellucid.measure.surface import Array, Mask

__all__ = ["LEVELS", "texture"]

LEVELS = 32
"""Grey levels between the two ends of the display range."""


def texture(grey: Array, mask: Mask, display_range: tuple[float, float]) -> tuple[float, float, float]:
    """Return contrast, correlation and angular second moment of neighbouring pixels, both inside the object.

    The mean over four directions at a distance of one pixel (Haralick, Shanmugam & Dinstein 1973), of `LEVELS` grey
    levels over the display range, so that images of one set compare.

    Parameters
    ----------
    grey
        ``(Y, X)``.
    mask
        Boolean ``(Y, X)``; pairs that leave it are not counted.
    display_range
        Values of the lowest and the highest grey level; values beyond are clipped.
    """
    low, high = display_range
    share = np.clip((grey - low) / (high - low), 0.0, 1.0)
    levels = np.where(mask, 1 + np.minimum((share * LEVELS).astype(np.uint8), LEVELS - 1), 0).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = graycomatrix(  # type: ignore[no-untyped-call]
        levels, [1], angles, levels=LEVELS + 1, symmetric=True
    )[1:, 1:].astype(np.float64)
    total = pairs.sum((0, 1), keepdims=True)
    if not total.all():
        return (np.nan, np.nan, np.nan)
    found = [
        graycoprops(pairs / total, name).mean()  # type: ignore[no-untyped-call]
        for name in ("contrast", "correlation", "ASM")
    ]
    return (float(found[0]), float(found[1]), float(found[2]))
