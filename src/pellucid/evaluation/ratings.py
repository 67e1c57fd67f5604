"""How far experts agree who rated the same cases: kappa of pairs, Krippendorff's alpha, intraclass correlation."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import cohen_kappa_score

from pellucid.errors import ShapeError
from pellucid.intervals import Interval, or_null, resampled_interval

__all__ = ["Level", "RatingAgreement", "rating_agreement"]

Level = Literal["nominal", "ordinal", "interval"]
"""What differences between ratings mean: only whether they are equal, their order, or how far apart they lie."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RatingAgreement:
    """How far raters agree.

    Attributes
    ----------
    alpha
        Krippendorff's alpha: 1 for perfect agreement, 0 for that of chance, below it for less.
    single, average
        Intraclass correlation, two-way random, absolute agreement: of one rater, ICC(2,1), and of the mean of all, ICC(2,k); over
        cases that all have rated; NaN for nominal ratings.
    pairs
        One row a pair of raters: ``rater``, ``other``, ``kappa`` (weighted by squared distance unless nominal; null where one
        of them gave one rating only), ``n``.
    """

    alpha: Interval
    single: Interval
    average: Interval
    pairs: pa.Table


def rating_agreement(
    ratings: ArrayLike,
    *,
    level: Level = "ordinal",
    raters: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> RatingAgreement:
    """Measure how far experts agree, with intervals over whole groups of cases.

    Parameters
    ----------
    ratings
        ``(raters, cases)`` numbers, NaN where a rater did not see a case.
    level
        What a difference between two ratings means.
    raters
        Names; default ``"1"``, ``"2"``, ...
    groups
        The independent unit (patient) of each case; default: every case is one.
    draws, seed
        Of the bootstrap.

    Raises
    ------
    ShapeError
        When there are fewer than two raters, no case was rated twice, or names or groups do not fit.

    References
    ----------
    Krippendorff 2011, Computing Krippendorff's alpha-reliability; Shrout and Fleiss 1979, Psychological Bulletin 86, 420-428;
    Cohen 1968, Psychological Bulletin 70, 213-220.
    """
    table = np.asarray(ratings, dtype=np.float64)
    names = [str(place + 1) for place in range(len(table))] if raters is None else list(raters)
    _check(table, names, groups)
    units: Sequence[Hashable] = range(table.shape[1]) if groups is None else groups

    def over(measure: Callable[[Array], float]) -> Interval:
        return resampled_interval(lambda cases: measure(table[:, cases]), units, draws=draws, seed=seed)

    return RatingAgreement(
        alpha=over(lambda part: _alpha(part, level)),
        single=over(lambda part: _intraclass(part, level)[0]),
        average=over(lambda part: _intraclass(part, level)[1]),
        pairs=pa.Table.from_pylist([_pair(table, names, level, *pair) for pair in combinations(range(len(table)), 2)]),
    )


def _check(table: Array, names: Sequence[str], groups: Sequence[Hashable] | None) -> None:
    if table.ndim != 2 or len(table) < 2:
        raise ShapeError(f"ratings are (raters, cases) of at least two raters, not {table.shape}")
    if not (np.isfinite(table).sum(0) > 1).any():
        raise ShapeError(f"no case of the {table.shape[1]} was rated by two raters: there is nothing to agree on")
    if len(names) != len(table):
        raise ShapeError(f"{len(names)} names were given for {len(table)} raters")
    if groups is not None and len(groups) != table.shape[1]:
        raise ShapeError(f"{len(groups)} groups were given for {table.shape[1]} cases")


def _alpha(table: Array, level: Level) -> float:
    """Return 1 less observed over expected disagreement, from the coincidences of values within cases."""
    seen = np.isfinite(table)
    counts = seen.sum(0)
    table, seen, counts = table[:, counts > 1], seen[:, counts > 1], counts[counts > 1]
    values = np.unique(table[seen])
    if len(values) < 2:
        return float("nan")
    held = np.stack([(table == value).sum(0) for value in values]).astype(float)
    within = (held / (counts - 1)) @ held.T - np.diag((held / (counts - 1)).sum(1))
    totals = within.sum(1)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    distance = _distances(values, totals, level)
    return float(1 - (within * distance).sum() / (expected * distance).sum())


def _distances(values: Array, totals: Array, level: Level) -> Array:
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.asarray((values[:, None] - values) ** 2)
    middles = np.cumsum(totals) - 0.5 * totals
    return np.asarray((middles[:, None] - middles) ** 2)


def _intraclass(table: Array, level: Level) -> tuple[float, float]:
    whole = table[:, np.isfinite(table).all(0)].T
    cases, raters = whole.shape
    if level == "nominal" or cases < 2:
        return float("nan"), float("nan")
    mean = whole.mean()
    by_case = raters * ((whole.mean(1) - mean) ** 2).sum() / (cases - 1)
    by_rater = cases * ((whole.mean(0) - mean) ** 2).sum() / (raters - 1)
    rest = whole - whole.mean(1, keepdims=True) - whole.mean(0, keepdims=True) + mean
    error = (rest**2).sum() / ((cases - 1) * (raters - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        single = (by_case - error) / (by_case + (raters - 1) * error + raters * (by_rater - error) / cases)
        average = (by_case - error) / (by_case + (by_rater - error) / cases)
    return float(single), float(average)


def _pair(table: Array, names: Sequence[str], level: Level, one: int, other: int) -> dict[str, Any]:
    both = np.isfinite(table[[one, other]]).all(0)
    left, right = table[one, both], table[other, both]
    known, places = np.unique([left, right], return_inverse=True)
    kappa = float("nan")
    if len(known) > 1:
        codes = places.reshape(2, -1)
        kappa = cohen_kappa_score(*codes, weights=None if level == "nominal" else "quadratic")
    return {"rater": names[one], "other": names[other], "kappa": or_null(kappa), "n": int(both.sum())}
