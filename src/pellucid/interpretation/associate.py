"""Which measures go with which outcomes, beyond stated confounders, over independent groups, and by how much."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, rankdata, t

from pellucid.errors import ShapeError
from pellucid.interpretation.sign_flips import sign_flips, units_of
from pellucid.intervals import or_null

__all__ = ["associate"]

_Array = NDArray[np.float64]
_TAIL = 0.025
_BLOCKS = 50
"""Most parts of the images that are left out in turn for an interval."""
_FLAT = 1e-9
"""Spread of residual ranks, as a share of the spread of the ranks, below which nothing of a variable is left."""
_SCHEMA = pa.schema(
    [("measure", pa.string()), ("outcome", pa.string()), ("value", pa.float64()), ("low", pa.float64()),
     ("high", pa.float64()), ("p", pa.float64()), ("q", pa.float64()), ("spearman", pa.float64()), ("n", pa.int64()),
     ("groups", pa.int64()), ("confounders", pa.string())]
)  # fmt: skip


def associate(
    measures: Mapping[str, ArrayLike] | pa.Table,
    outcomes: Mapping[str, ArrayLike] | pa.Table,
    *,
    confounders: Mapping[str, ArrayLike] | pa.Table | None = None,
    groups: Sequence[Hashable] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> pa.Table:
    """Correlate every measure with every outcome by ranks, beyond the confounders, and say how sure that is.

    The value is Spearman's rank correlation; with confounders, the partial one: what is left of both after a linear fit
    of their ranks on the confounders. Its interval leaves whole groups out in turn (jackknife of Fisher's z, Student's t).
    Its p-value flips the sign of whole groups' contributions to the correlation, standardised for the fit, so that images
    of one patient or plate never count as independent (Hemerik, Goeman & Finos 2020, J. R. Stat. Soc. B 82, 841-864; De
    Santis et al. 2022, arXiv:2209.13918); all flips are tried where they are few. The q-value is Benjamini and Hochberg's
    over all pairs of the table.

    Parameters
    ----------
    measures, outcomes
        Named columns of one number a row; rows are images or objects and match. Missing values (None, NaN) leave their row
        out of that column's pairs only.
    confounders
        Named columns to hold fixed: numbers go in by rank, everything else (batch, plate, patient) as categories.
    groups
        The independent unit of each row (patient, plate, smear); default: every row is one.
    draws
        Sign flips, where not all of them can be tried.
    seed
        Of the flips and of the parts that are left out.

    Returns
    -------
    pyarrow.Table
        A row a pair: measure, outcome, value, low, high, p, q, spearman (without confounders), n, groups, confounders.
        Numbers are null where a column is constant, where the confounders leave nothing of it, and, for the interval and
        p-value, where there are fewer than three groups. With groups fewer than ten beyond the number of confounder
        categories, p-values are somewhat too small.

    Raises
    ------
    ShapeError
        When columns differ in length or hold text where numbers are needed.
    """
    left, right = _numbers(measures, "measures"), _numbers(outcomes, "outcomes")
    held = {} if confounders is None else _columns(confounders)
    count = _length([*left.values(), *right.values(), *held.values()], groups)
    units = units_of(groups, count)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for rows, pairs in _alike(left, right, _complete(held, count)):
        x, y = (
            np.stack([columns[pair[side]][rows] for pair in pairs], 1) for side, columns in enumerate((left, right))
        )
        space = _space({name: column[rows] for name, column in held.items()}, int(rows.sum()))
        found |= dict(zip(pairs, _numbers_of(x, y, space, units[rows], draws, seed), strict=True))
    table = [
        {"measure": m, "outcome": o, "confounders": ", ".join(held)} | found[m, o] for m, o in product(left, right)
    ]
    told = [row for row in table if row["p"] is not None]
    for row, q in zip(told, false_discovery_control([row["p"] for row in told]) if told else [], strict=True):
        row["q"] = float(q)
    return pa.Table.from_pylist(table, schema=_SCHEMA)


def _length(columns: Sequence[NDArray[Any]], groups: Sequence[Hashable] | None) -> int:
    lengths = {len(column) for column in columns} | (set() if groups is None else {len(groups)})
    if len(lengths) > 1:
        raise ShapeError(
            f"associate: measures, outcomes, confounders and groups have {sorted(lengths)} rows; give one value each a row"
        )
    return lengths.pop() if lengths else 0


def _complete(held: Mapping[str, NDArray[np.object_]], count: int) -> NDArray[np.bool_]:
    """Return the rows of which every confounder is known."""
    known = np.ones(count, dtype=bool)
    for column in held.values():
        known &= [value is not None and value == value for value in column]
    return known


def _columns(table: Mapping[str, ArrayLike] | pa.Table) -> dict[str, NDArray[np.object_]]:
    if isinstance(table, pa.Table):
        return {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}
    return {name: np.array(list(column), dtype=object) for name, column in table.items()}  # type: ignore[arg-type]


def _numbers(table: Mapping[str, ArrayLike] | pa.Table, what: str) -> dict[str, _Array]:
    try:
        columns = {name: column.astype(np.float64) for name, column in _columns(table).items()}
    except (TypeError, ValueError) as error:
        raise ShapeError(f"associate: {what} must be columns of numbers, one a row ({error})") from error
    deep = {name: column.shape for name, column in columns.items() if column.ndim != 1}
    if deep:
        raise ShapeError(f"associate: {what} must be columns of one number a row, not {deep}")
    return columns


def _alike(
    left: Mapping[str, _Array], right: Mapping[str, _Array], known: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.bool_], list[tuple[str, str]]]]:
    """Yield each set of rows that some pairs have complete, with those pairs."""
    pairs: dict[bytes, list[tuple[str, str]]] = {}
    for m, o in product(left, right):
        rows = known & np.isfinite(left[m]) & np.isfinite(right[o])
        pairs.setdefault(rows.tobytes(), []).append((m, o))
    for key, alike in pairs.items():
        yield np.frombuffer(key, dtype=bool), alike


def _space(held: Mapping[str, NDArray[np.object_]], count: int) -> _Array:
    """Return an orthonormal basis ``(n, k)`` of the constant and the confounders."""
    terms = [np.ones((count, 1))]
    for column in held.values():
        if all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in column):
            terms.append(rankdata(column.astype(np.float64))[:, None])
        else:
            categories = np.unique([str(value) for value in column], return_inverse=True)[1]
            terms.append(np.eye(int(categories.max(initial=0)) + 1)[categories])
    basis, sizes, _ = np.linalg.svd(np.concatenate(terms, 1), full_matrices=False)
    return np.asarray(basis[:, sizes > 1e-9 * sizes.max(initial=0)])


def _numbers_of(
    x: _Array, y: _Array, space: _Array, units: NDArray[np.int64], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Return what the table says of each pair of columns ``(n, pairs)``."""
    units = np.unique(units, return_inverse=True)[1]
    count, independent = len(units), int(units.max(initial=-1)) + 1
    value, plain = _correlation(x, y, space), _correlation(x, y, _space({}, count))
    low = high = p = np.full(x.shape[1], np.nan)
    if independent > 2 and count > space.shape[1] + 1:
        low, high = _interval(x, y, space, value, units, seed)
        p = np.where(np.isnan(value), np.nan, _p_values(x, y, space, units, draws, seed))
    return [
        {"value": or_null(v), "low": or_null(a), "high": or_null(b), "p": or_null(c), "spearman": or_null(r)}
        | {"n": count, "groups": independent}
        for v, a, b, c, r in zip(value, low, high, p, plain, strict=True)
    ]


def _left_over(values: _Array, space: _Array) -> _Array:
    """Return what of the columns' ranks the space does not hold, of norm 1; NaN where nothing is left."""
    if not len(values):
        return np.full(values.shape, np.nan)
    ranks = rankdata(values, axis=0)
    ranks = ranks - ranks.mean(0)
    rest = ranks - space @ (space.T @ ranks)
    size, whole = np.linalg.norm(rest, axis=0), np.linalg.norm(ranks, axis=0)
    return np.asarray(rest / np.where(size > _FLAT * np.maximum(whole, 1.0), size, np.nan))


def _correlation(x: _Array, y: _Array, space: _Array) -> _Array:
    if not len(x):
        return np.full(x.shape[1], np.nan)
    return np.asarray(np.clip((_left_over(x, space) * _left_over(y, space)).sum(0), -1.0, 1.0))


def _interval(
    x: _Array, y: _Array, space: _Array, value: _Array, units: NDArray[np.int64], seed: int
) -> tuple[_Array, _Array]:
    """Return the bounds of a delete-a-group jackknife of Fisher's z."""
    independent = int(units.max()) + 1
    blocks = min(independent, _BLOCKS)
    part = np.random.default_rng(seed).permutation(np.arange(independent) % blocks)[units]
    without = []
    for block in range(blocks):
        kept = part != block
        basis, sizes, _ = np.linalg.svd(space[kept], full_matrices=False)
        without.append(_fisher(_correlation(x[kept], y[kept], basis[:, sizes > _FLAT])))
    z, left_out = _fisher(value), np.stack(without)
    error = np.sqrt((blocks - 1) / blocks * ((left_out - left_out.mean(0)) ** 2).sum(0))
    reach = float(t.ppf(1 - _TAIL, blocks - 1)) * error
    return np.tanh(z - reach), np.tanh(z + reach)


def _fisher(correlation: _Array) -> _Array:
    return np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12))


def _p_values(x: _Array, y: _Array, space: _Array, units: NDArray[np.int64], draws: int, seed: int) -> _Array:
    """Return the share of sign flips of whole groups that correlate as strongly as the data."""
    independent = int(units.max()) + 1
    flips, exact = sign_flips(independent, draws, seed)
    own, other = _left_over(x, space), _left_over(y, space)
    scores = _summed(own * other, units, independent)
    reached = np.zeros(x.shape[1])
    for column in range(x.shape[1]):
        taken = flips @ _summed(space * own[:, [column]], units, independent)
        size = np.sqrt(np.maximum(1.0 - (taken**2).sum(1), _FLAT))
        strength = np.abs(flips @ scores[:, column]) / size
        reached[column] = (strength >= np.abs(scores[:, column].sum()) * (1 - 1e-9)).sum()
    return reached / len(flips) if exact else (reached + 1) / (len(flips) + 1)


def _summed(values: _Array, units: NDArray[np.int64], independent: int) -> _Array:
    total = np.zeros((independent, values.shape[1]))
    np.add.at(total, units, values)
    return total
