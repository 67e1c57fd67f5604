"""Intervals for shares and means, by image or by group: no number is reported without one."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, t

__all__ = ["Interval", "mean_interval", "or_null", "resampled_interval", "share_interval", "widening"]

_TAIL = 0.025
_CHUNK = 2**19


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, from `n` images in `groups` independent groups.

    The bounds are NaN where there are fewer than two groups: one alone cannot tell how much groups differ.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3g} [no interval from {self.groups} group{'' if self.groups == 1 else 's'}]"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def or_null(value: float) -> float | None:
    """Return a number, or None where it is NaN: tables hold nulls, not NaN."""
    return None if np.isnan(value) else float(value)


def mean_interval(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` with a bootstrap interval over whole groups.

    Parameters
    ----------
    values
        One number an image.
    groups
        The independent unit (patient, plate) of each image; default: every image is one.
    bounds
        Lowest and highest value that the mean can take, such as (0, 1) for a share.
    draws, seed
        Of the bootstrap.
    """
    numbers = np.asarray(values, dtype=float)
    if not len(numbers):
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    place = np.arange(len(numbers)) if groups is None else np.unique([str(g) for g in groups], return_inverse=True)[1]
    sizes, totals = np.bincount(place), np.bincount(place, weights=numbers)
    value, count = float(numbers.mean()), len(sizes)
    if count < 2:
        return Interval(value, np.nan, np.nan, len(numbers), count)
    low, high = np.quantile(_resampled(totals, sizes, draws, seed), [_TAIL, 1 - _TAIL])
    wider = widening(count)
    low, high = np.clip([value + wider * (low - value), value + wider * (high - value)], *bounds)
    return Interval(value, float(low), float(high), len(numbers), count)


def resampled_interval(
    measure: Callable[[NDArray[np.int64]], float], groups: Sequence[Hashable], *, draws: int = 1000, seed: int = 0
) -> Interval:
    """Return any number that is measured on images, with a bootstrap interval over whole groups.

    Parameters
    ----------
    measure
        Gives the number for some rows, repeated as often as they were drawn; NaN where it cannot be told.
    groups
        The independent unit of each row.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    Interval
        Of the percentiles, stretched as `widening` says; NaN bounds under two groups, or where fewer than half the draws tell.
    """
    place = np.unique([str(group) for group in groups], return_inverse=True)[1]
    members = [np.flatnonzero(place == group) for group in range(int(place.max(initial=-1)) + 1)]
    value, count = float(measure(np.arange(len(place)))), len(members)
    if count < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan, len(place), count)
    random = np.random.default_rng(seed)
    drawn = np.array(
        [measure(np.concatenate([members[one] for one in random.integers(count, size=count)])) for _ in range(draws)]
    )
    told = drawn[np.isfinite(drawn)]
    if 2 * len(told) < draws:
        return Interval(value, np.nan, np.nan, len(place), count)
    low, high = np.quantile(told, [_TAIL, 1 - _TAIL])
    wider = widening(count)
    return Interval(
        value, float(value + wider * (low - value)), float(value + wider * (high - value)), len(place), count
    )


def widening(groups: int) -> float:
    """Return by what to stretch a percentile interval of a mean over so few `groups`, two at least.

    Percentiles of resampled means are too narrow there: Student's t and the unbiased variance ask for more.
    """
    return float(t.ppf(1 - _TAIL, groups - 1) / norm.ppf(1 - _TAIL) * np.sqrt(groups / (groups - 1)))


def _resampled(totals: NDArray[Any], sizes: NDArray[Any], draws: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of each of `draws` samples of groups with replacement, in blocks of bounded size."""
    count, random = len(sizes), np.random.default_rng(seed)
    block = max(1, _CHUNK // count)
    means = []
    for start in range(0, draws, block):
        drawn = random.multinomial(count, np.full(count, 1 / count), size=min(block, draws - start))
        means.append((drawn @ totals) / (drawn @ sizes))
    return np.concatenate(means)


def share_interval(successes: int, trials: int) -> Interval:
    """Return a share with its Wilson interval (Wilson 1927, JASA 22, 209-212)."""
    if not trials:
        return Interval(np.nan, 0.0, 1.0, 0, 0)
    bounds = binomtest(successes, trials).proportion_ci(method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high), trials, trials)
