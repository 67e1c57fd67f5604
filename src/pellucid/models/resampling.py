"""How sure any number drawn from images is, by resampling whole groups."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "clusters_of", "percentile", "resamples", "unbiased"]

Array = NDArray[np.float64]

_RESAMPLES = 2000
_CHUNK = 2**19


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def clusters_of(groups: Sequence[Hashable] | None, images: int) -> tuple[NDArray[np.int64], int]:
    """Return the cluster number of every image; an image without a group stands for itself."""
    if groups is None:
        return np.arange(images), images
    keys = [("image", row) if group is None else ("group", group) for row, group in enumerate(groups)]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys]), len(number)


def resamples(cluster: NDArray[np.int64], clusters: int, seed: int) -> Iterator[Array]:
    """Yield ``(B, N)`` how often each image is drawn, in blocks of bounded size, when whole clusters are drawn."""
    draw = np.random.default_rng(seed)
    rows = max(1, min(_RESAMPLES, _CHUNK // max(len(cluster), clusters)))
    for start in range(0, _RESAMPLES, rows):
        size = min(rows, _RESAMPLES - start)
        counts = draw.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        yield counts[:, cluster].astype(np.float64)


def percentile(value: float, drawn: Array) -> Estimate:
    """Return the middle 95 % of the resampled values; those that are not a number (a class not drawn) are left out."""
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(known):
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def unbiased(value: float, drawn: Array) -> Estimate:
    """Return the interval moved by the bias that resampling adds: drawing images twice makes any model look worse calibrated."""
    bias = float(drawn.mean()) - value
    found = percentile(value, drawn - bias)
    return Estimate(value, max(0.0, found.low), min(1.0, found.high))
