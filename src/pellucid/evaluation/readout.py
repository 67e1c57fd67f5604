"""Does a number that is meant to say how far a call can be trusted say it: against the errors that were made."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.intervals import or_null, resampled_interval

__all__ = ["explanation_spread", "readout_quality", "risk_coverage"]

Array = NDArray[np.float64]


def risk_coverage(trust: ArrayLike, correct: ArrayLike) -> pa.Table:
    """Return the share of errors among the calls that are kept when the least trusted are left out first.

    Parameters
    ----------
    trust
        ``(N,)`` larger means that the call is to be trusted more.
    correct
        ``(N,)`` whether the call was right.

    Returns
    -------
    pyarrow.Table
        ``coverage`` (share of the images that are kept, rising to 1) and ``risk``; calls of equal trust are kept together in the
        mean over their orders.

    References
    ----------
    Geifman and El-Yaniv 2017, Selective classification for deep neural networks, NeurIPS.
    """
    values, right = _checked("trust", trust, correct)
    coverage, risk = _curve(values, ~right)
    return pa.table({"coverage": coverage, "risk": risk})


def readout_quality(
    readouts: Mapping[str, ArrayLike],
    correct: ArrayLike,
    *,
    baseline: str,
    groups: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """Compare readouts of trust (confidence, agreement of nets, distance from the training images, steadiness of maps).

    Parameters
    ----------
    readouts
        Name to ``(N,)`` numbers; larger means more to be trusted.
    correct
        ``(N,)`` whether each call was right.
    baseline
        The readout that the others have to beat, mostly the softmax confidence.
    groups
        The independent unit of each image.
    draws, seed
        Of the paired bootstrap.

    Returns
    -------
    pyarrow.Table
        One row a readout: ``auroc`` (of telling right calls from wrong ones; 0.5 is chance) and ``aurc`` (area under risk against
        coverage; lower is better), each with ``_low`` and ``_high``; ``gain`` (the baseline's area less the readout's, on the same
        draws) with its interval, and ``beats``: whether the whole interval lies above 0. Null where all calls are right or all wrong.

    Raises
    ------
    ShapeError
        When a readout does not have one number an image, or there is no such baseline.

    References
    ----------
    Geifman et al. 2019, Bias-reduced uncertainty estimation for deep neural classifiers, ICLR.
    """
    if baseline not in readouts:
        raise ShapeError(f"baseline={baseline!r} is none of the readouts; there are {', '.join(readouts)}")
    units: Sequence[Hashable] = range(len(np.asarray(correct))) if groups is None else groups
    known = {name: _checked(name, values, correct) for name, values in readouts.items()}
    start, _ = known[baseline]
    rows = []
    for name, (values, right) in known.items():

        def gain(at: NDArray[np.int64], own: Array = values, hit: NDArray[np.bool_] = right) -> float:
            return _area(start[at], ~hit[at]) - _area(own[at], ~hit[at])

        measures = {
            "auroc": lambda at, own=values, hit=right: _auroc(own[at], hit[at]),
            "aurc": lambda at, own=values, hit=right: _area(own[at], ~hit[at]),
            "gain": gain,
        }
        row: dict[str, object] = {"readout": name, "n": len(values), "errors": int((~right).sum())}
        for measure, function in measures.items():
            found = resampled_interval(function, units, draws=draws, seed=seed)
            row |= {
                measure: or_null(found.value),
                f"{measure}_low": or_null(found.low),
                f"{measure}_high": or_null(found.high),
            }
        low = row["gain_low"]
        row["beats"] = None if name == baseline or low is None else bool(low > 0)  # type: ignore[operator]  # a float here
        rows.append(row)
    return pa.Table.from_pylist(rows)


def explanation_spread(maps: Sequence[Tensor]) -> Tensor:
    """Return how far several maps of the same images differ, one number an image.

    Maps of other seeds, settings, noisy copies or nets; each is scaled to unit norm, so that 0 is perfect agreement and 1 is
    what maps have that know nothing of each other.

    Parameters
    ----------
    maps
        Two or more, each ``(N, ...)`` of the same shape.

    Returns
    -------
    Tensor
        ``(N,)`` float64: the mean squared distance of the maps from their mean, times k / (k − 1); NaN where a map is zero.

    Raises
    ------
    ShapeError
        When there are fewer than two, or their shapes differ.
    """
    if len(maps) < 2 or len({tuple(one.shape) for one in maps}) != 1:
        shapes = ", ".join(str(tuple(one.shape)) for one in maps)
        raise ShapeError(f"a spread needs two maps or more of one shape, not {shapes or 'none'}")
    flat = torch.stack([one.detach().double().flatten(1) for one in maps])
    unit = flat / flat.norm(dim=2, keepdim=True)
    spread: Tensor = unit.var(0).sum(1)
    return spread


def _checked(name: str, values: ArrayLike, correct: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    numbers, right = np.asarray(values, dtype=np.float64), np.asarray(correct, dtype=bool)
    if numbers.ndim != 1 or numbers.shape != right.shape or not np.isfinite(numbers).all():
        raise ShapeError(f"{name} needs one finite number an image, {right.shape}; it has shape {numbers.shape}")
    return numbers, right


def _curve(trust: Array, wrong: NDArray[np.bool_]) -> tuple[Array, Array]:
    order = np.argsort(-trust, kind="stable")
    tied = np.unique(-trust, return_inverse=True)[1]
    share = np.bincount(tied, weights=wrong) / np.bincount(tied)
    kept = np.arange(1, len(trust) + 1)
    return kept / len(trust), np.cumsum(share[tied[order]]) / kept


def _area(trust: Array, wrong: NDArray[np.bool_]) -> float:
    return float(_curve(trust, wrong)[1].mean())


def _auroc(trust: Array, right: NDArray[np.bool_]) -> float:
    hits, misses = int(right.sum()), int((~right).sum())
    if not hits or not misses:
        return float("nan")
    return float((rankdata(trust)[right].sum() - hits * (hits + 1) / 2) / (hits * misses))
