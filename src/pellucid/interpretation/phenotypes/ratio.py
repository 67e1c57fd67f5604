"""Ratios of two means over images, with intervals over whole groups."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pellucid.intervals import Interval, widening

__all__ = ["FEWEST_GROUPS", "ratio_interval"]

FEWEST_GROUPS = 3
"""Groups below which no interval is told."""

_DRAWS = 2000
_TAIL = 0.025


def ratio_interval(
    above: ArrayLike, below: ArrayLike, groups: Sequence[Hashable], *, seed: int = 0, draws: int = _DRAWS
) -> Interval:
    """Return Σ above / Σ below with a bootstrap interval over groups.

    No bounds are given from fewer than three groups, or where Σ below is 0 in more than 2.5 % of the draws.

    Parameters
    ----------
    above, below
        One number an image; images with NaN in either are left out.
    groups
        The independent unit of each image.
    draws, seed
        Of the bootstrap.
    """
    top, bottom = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    known = np.isfinite(top) & np.isfinite(bottom)
    names = np.array([str(group) for group in groups])[known]
    if not known.any() or bottom[known].sum() == 0:
        return Interval(np.nan, np.nan, np.nan, int(known.sum()), len(set(names)))
    places = np.unique(names, return_inverse=True)[1]
    sums = np.stack([np.bincount(places, weights=part[known]) for part in (top, bottom)]).astype(np.float64)
    value, count = float(sums[0].sum() / sums[1].sum()), sums.shape[1]
    if count < FEWEST_GROUPS:
        return Interval(value, np.nan, np.nan, int(known.sum()), count)
    low, high = _bounds(sums, value, np.random.default_rng(seed), draws)
    return Interval(value, low, high, int(known.sum()), count)


def _bounds(sums: NDArray[np.float64], value: float, random: np.random.Generator, draws: int) -> tuple[float, float]:
    count = sums.shape[1]
    drawn = random.multinomial(count, np.full(count, 1 / count), size=draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn @ sums[0]) / (drawn @ sums[1])
    told = ratios[np.isfinite(ratios)]
    if len(told) < (1 - _TAIL) * draws:
        return np.nan, np.nan
    low, high = np.quantile(told, [_TAIL, 1 - _TAIL])
    wider = widening(count)
    return float(value + wider * (low - value)), float(value + wider * (high - value))
