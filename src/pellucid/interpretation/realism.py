"""Whether a changed image still looks like the images that the model knows: a check of every edit."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.interpretation.sign_flips import units_of

__all__ = ["Realism"]

_Array = NDArray[np.float64]
_SCALES = (1.0, 2.0, 4.0)
_QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
_FAR = 0.99


@dataclass(frozen=True, eq=False)
class Realism:
    """How near a changed image lies to the nearest real one of another group than the image that was changed.

    Images are told by the spread of their values and by how much they vary at three scales, each channel for itself and
    each number standardised. An image is realistic that lies no farther from one of another group than 99 % of the real
    images do.

    Attributes
    ----------
    ids, groups
        Of the real images.
    features
        ``(N, F)`` standardised.
    middle, spread
        ``(F,)`` what was taken off and divided by.
    limit
        Distance within which 99 % of the real images have a neighbour of another group.
    """

    ids: tuple[str, ...]
    groups: NDArray[np.int64]
    features: _Array
    middle: _Array
    spread: _Array
    limit: float

    @classmethod
    def of(cls, images: Tensor, ids: Sequence[str], *, groups: Sequence[Hashable] | None = None) -> "Realism":
        """Learn what real images look like.

        Raises
        ------
        BadImage
            When there are fewer than five, or all are of one group.
        """
        units = units_of(groups, len(images))
        if len(images) < 5 or len(set(units.tolist())) < 2:
            raise BadImage(f"realism is judged by five real images of two groups or more, not by {len(images)}")
        raw = np.stack([_told(image) for image in images])
        middle, spread = raw.mean(0), raw.std(0)
        features = (raw - middle) / np.where(spread > 0, spread, 1.0)
        away = _apart(features, features)
        away[units[:, None] == units[None]] = np.inf
        limit = float(np.quantile(away.min(1), _FAR))
        return cls(tuple(ids), units, features, middle, np.where(spread > 0, spread, 1.0), limit)

    def distance(self, images: Tensor, origins: Sequence[str]) -> _Array:
        """Return each image's distance to the nearest real one of another group, as a share of the limit: 1 is as far as real ones."""
        found = (np.stack([_told(image) for image in images]) - self.middle) / self.spread
        place = dict(zip(self.ids, self.groups.tolist(), strict=True))
        own = np.array([place.get(origin, -1) for origin in origins])
        away = _apart(found, self.features)
        away[own[:, None] == self.groups[None]] = np.inf
        return np.asarray(away.min(1) / self.limit)


def _apart(one: _Array, other: _Array) -> _Array:
    return np.asarray(np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1)))


def _told(image: Tensor) -> _Array:
    pixels = image.detach().cpu().numpy().astype(np.float64)
    flat = pixels.reshape(len(pixels), -1)
    parts = [np.quantile(flat, _QUANTILES, axis=1).ravel(), flat.std(1)]
    finer = pixels
    for scale in _SCALES:
        coarser = np.stack([ndimage.gaussian_filter(channel, scale) for channel in pixels])
        parts.append(np.log(1e-6 + (finer - coarser).reshape(len(pixels), -1).std(1)))
        finer = coarser
    return np.concatenate(parts)
