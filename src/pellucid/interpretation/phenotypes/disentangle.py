"""How far each latent is one thing: mutual information gap and DCI, with intervals."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.ensemble import RandomForestRegressor

from pellucid.errors import ShapeError
from pellucid.interpretation.phenotypes.heads import folds_of
from pellucid.intervals import or_null

__all__ = ["disentanglement"]

Array = NDArray[np.float64]

_BINS = 10
_TREES = 40
_LEAF = 5
_PARTS = 8
"""Parts of the images that are left out in turn for an interval."""

_FEWEST = 3 * _PARTS
_TAIL = 0.025


def disentanglement(
    latents: Array,
    factors: Array,
    names: Sequence[str],
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Score how far each latent follows one factor and each factor one latent.

    Parameters
    ----------
    latents
        ``(n, D)``.
    factors
        ``(n, P)`` measured or known, one name a column.
    names
        Of the factors.
    groups
        The independent unit of each row; parts of the groups are left out in turn for the intervals (jackknife).
    seed
        Of the parts and the forests.

    Returns
    -------
    pyarrow.Table
        ``score``, ``factor`` (a name, or ``all``), ``value``, ``low``, ``high``. ``mig``: gap between the two latents that
        tell most of a factor, in parts of its entropy. ``disentanglement``: 1 where each latent is used for one factor.
        ``completeness``: 1 where each factor uses one latent. ``informativeness``: share of the factor's variance that a
        forest on all latents tells of rows it has not seen.

    Raises
    ------
    ShapeError
        When rows do not match or are fewer than 24.

    References
    ----------
    Chen et al. 2018, Isolating sources of disentanglement in VAEs; Eastwood & Williams 2018, A framework for the
    quantitative evaluation of disentangled representations.
    """
    if len(latents) != len(factors) or factors.shape[1] != len(names) or len(latents) < _FEWEST:
        raise ShapeError(
            f"disentanglement(): latents {latents.shape}, factors {factors.shape} and {len(names)} names do not match, or there "
            f"are fewer than {_FEWEST} rows"
        )
    units = list(range(len(latents))) if groups is None else list(groups)
    parts = folds_of(units, seed, _PARTS)
    score: Callable[[NDArray[np.bool_]], Array] = lambda kept: _scores(latents[kept], factors[kept], seed)  # noqa: E731
    whole = score(np.ones(len(parts), dtype=bool))
    without = np.stack([score(parts != part) for part in np.unique(parts)])
    return pa.Table.from_pylist(_rows(whole, without, names))


def _rows(whole: Array, without: Array, names: Sequence[str]) -> list[dict[str, Any]]:
    count = len(without)
    wide = np.full(len(whole), np.nan)
    if count > 2:
        error = np.sqrt((count - 1) / count * ((without - without.mean(0)) ** 2).sum(0))
        wide = float(student.ppf(1 - _TAIL, count - 1)) * error
    keys = [("mig", name) for name in (*names, "all")]
    keys += [("disentanglement", "all"), ("completeness", "all")]
    keys += [("informativeness", name) for name in (*names, "all")]
    return [
        {"score": score, "factor": factor, "value": or_null(value), "low": or_null(max(value - reach, -1.0)),
         "high": or_null(min(value + reach, 1.0))}
        for (score, factor), value, reach in zip(keys, whole, wide, strict=True)
    ]  # fmt: skip


def _scores(latents: Array, factors: Array, seed: int) -> Array:
    gaps = np.array([_gap(latents, column) for column in factors.T])
    weights, told = zip(*(_importance(latents, column, seed) for column in factors.T), strict=True)
    importance = np.stack(weights, 1)
    return np.array([
        *gaps, gaps.mean(), _concentration(importance), _concentration(importance.T), *told, float(np.mean(told)),
    ])  # fmt: skip


def _gap(latents: Array, factor: Array) -> float:
    known = np.isfinite(factor)
    binned = _binned(factor[known])
    own = _entropy(np.bincount(binned))
    shared = sorted(_information(_binned(column), binned) for column in latents[known].T)
    second = shared[-2] if len(shared) > 1 else 0.0
    return float((shared[-1] - second) / own) if own > 0 else np.nan


def _binned(values: Array) -> NDArray[np.int64]:
    """Return equally filled bins; equal values share one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.asarray(np.searchsorted(edges, values, side="right"))


def _entropy(counts: NDArray[Any]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum() + (len(share) - 1) / (2 * counts.sum()))  # Miller and Madow's correction


def _information(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    joint = np.histogram2d(one, other, bins=(np.arange(one.max() + 2), np.arange(other.max() + 2)))[0]
    return max(0.0, _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint.ravel()))


def _importance(latents: Array, factor: Array, seed: int) -> tuple[Array, float]:
    """Return how much a forest uses each latent to tell a factor, and how much it tells of rows left out of its trees."""
    known = np.isfinite(factor)
    forest = RandomForestRegressor(
        _TREES, min_samples_leaf=_LEAF, oob_score=True, random_state=seed, n_jobs=1
    ).fit(latents[known], factor[known])
    return np.asarray(forest.feature_importances_), float(forest.oob_score_)


def _concentration(importance: Array) -> float:
    """Return 1 less the entropy of each row, in parts of the greatest, weighted by the row's sum."""
    total = importance.sum(1, keepdims=True)
    share = importance / np.maximum(total, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(share > 0, share * np.log(share), 0.0).sum(1)
    greatest = np.log(max(importance.shape[1], 2))
    return float(((1 - entropy / greatest) * total[:, 0]).sum() / max(float(total.sum()), 1e-12))
