"""Intervals for shares and means, by image or by group: no number is reported without one."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

__all__ = ["Interval", "mean_interval", "resampled_rows", "share_interval"]


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, from `n` images in `groups` independent groups."""

    value: float
    low: float
    high: float
    n: int
    groups: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def resampled_rows(
    rows: int, *, groups: Sequence[Hashable] | None = None, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Draw bootstrap weights: whole groups with replacement where groups exist, else single rows.

    Returns
    -------
    weights
        ``(draws, rows)`` how often each row is in each draw.
    count
        The number of independent groups.
    """
    labels = np.arange(rows) if groups is None else np.unique([str(group) for group in groups], return_inverse=True)[1]
    count = int(labels.max()) + 1 if rows else 0
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=draws) if count else np.zeros((draws, 0), int)
    return drawn[:, labels], count


def mean_interval(
    values: ArrayLike, *, groups: Sequence[Hashable] | None = None, draws: int = 2000, seed: int = 0
) -> Interval:
    """Return the mean of `values` with a percentile bootstrap interval, clustered by `groups`."""
    numbers = np.asarray(values, dtype=float)
    if not len(numbers):
        return Interval(float("nan"), float("nan"), float("nan"), 0, 0)
    weights, count = resampled_rows(len(numbers), groups=groups, draws=draws, seed=seed)
    total = weights.sum(1)
    means = (weights @ numbers)[total > 0] / total[total > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers), count)


def share_interval(successes: int, trials: int) -> Interval:
    """Return a share with its Wilson interval (Wilson 1927, JASA 22, 209-212)."""
    if not trials:
        return Interval(float("nan"), 0.0, 1.0, 0, 0)
    bounds = binomtest(successes, trials).proportion_ci(method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high), trials, trials)
