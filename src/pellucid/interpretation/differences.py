"""How classes differ in measured features: effect sizes with intervals over groups."""

from collections.abc import Hashable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pellucid.errors import ShapeError
from pellucid.interpretation.additive import Array, matrix
from pellucid.interpretation.associate import associate
from pellucid.interpretation.sign_flips import units_of
from pellucid.intervals import or_null, widening

__all__ = ["class_differences"]

_DRAWS = 2000


def class_differences(
    measures: pa.Table,
    labels: Sequence[int],
    subject: int,
    against: int | None = None,
    *,
    confounders: pa.Table | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Say by how many standard deviations images of one class differ from those of another, or of all others.

    Parameters
    ----------
    measures
        One row an image.
    labels
        Class numbers.
    subject, against
        The class, and the one it is held against; None: all others.
    confounders
        Columns held fixed in the p-value (see `associate`); the effect size is as it is.
    groups
        The independent unit of each image, drawn anew as a whole for the interval.
    seed
        Of the resampling.

    Returns
    -------
    pyarrow.Table
        One row a measure, largest effect first: measure, effect (difference of the means over the pooled standard
        deviation; Cohen 1988), low, high, mean, other (the two means), unit, p, q (Benjamini and Hochberg over the
        measures), n, groups. Null where a class has fewer than two values.

    Raises
    ------
    ShapeError
        When the lengths differ.
    """
    values, names = matrix(measures)
    if len(values) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise ShapeError(f"there are {len(labels)} labels and {len(values)} rows of measures; give one each an image")
    truth = np.asarray(labels)
    kept = (truth == subject) | ((truth != subject) if against is None else (truth == against))
    inside = (truth == subject)[kept]
    units = units_of(
        None if groups is None else [group for group, keep in zip(groups, kept, strict=True) if keep], int(kept.sum())
    )
    units = np.unique(units, return_inverse=True)[1]
    told = associate(
        dict(zip(names, values[kept].T, strict=True)), {"class": inside.astype(float)}, groups=units.tolist(), seed=seed,
        confounders=None if confounders is None else confounders.filter(pa.array(kept)),
    ).to_pylist()  # fmt: skip
    rows = []
    for name, column, row in zip(names, values[kept].T, told, strict=True):
        field = measures.schema.field(name) if isinstance(measures, pa.Table) else None
        unit = ((field.metadata or {}) if field is not None else {}).get(b"unit", b"").decode()
        effect = _effect(column, inside, units, seed)
        rows.append(
            {"measure": name}
            | effect
            | {"unit": unit, "p": row["p"], "q": row["q"], "n": row["n"], "groups": row["groups"]}
        )
    return pa.Table.from_pylist(sorted(rows, key=_size), schema=_SCHEMA)


_SCHEMA = pa.schema(
    [("measure", pa.string()), *((name, pa.float64()) for name in ("effect", "low", "high", "mean", "other")), ("unit", pa.string()),
     ("p", pa.float64()), ("q", pa.float64()), ("n", pa.int64()), ("groups", pa.int64())]
)  # fmt: skip


def _size(row: dict[str, object]) -> float:
    effect = row["effect"]
    return -abs(effect) if isinstance(effect, float) else 1.0


def _effect(column: Array, inside: NDArray[np.bool_], units: NDArray[np.int64], seed: int) -> dict[str, float | None]:
    known = np.isfinite(column)
    count = int(units.max(initial=-1)) + 1
    sums = np.stack(
        [np.bincount(units[rows], weights=column[rows] ** power, minlength=count)
         for rows in (known & inside, known & ~inside) for power in (0, 1, 2)]
    )  # fmt: skip
    whole = sums.sum(1)
    if min(whole[0], whole[3]) < 2:
        return dict.fromkeys(("effect", "low", "high", "mean", "other"))
    value = float(_cohen(whole[:, None])[0])
    bounds: dict[str, float | None] = {"low": None, "high": None}
    if count > 1:
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(float)
        spread = _cohen(sums @ drawn.T)
        low, high = np.nanquantile(spread, [0.025, 0.975]) if np.isfinite(spread).any() else (np.nan, np.nan)
        wider = widening(count)
        bounds = {"low": or_null(value + wider * (low - value)), "high": or_null(value + wider * (high - value))}
    return (
        {"effect": or_null(value)} | bounds | {"mean": float(whole[1] / whole[0]), "other": float(whole[4] / whole[3])}
    )


def _cohen(sums: Array) -> Array:
    """Return Cohen's d from counts, sums and sums of squares of two classes ``(6, draws)``."""
    own, total, squares, other, other_total, other_squares = sums
    enough = (own > 1) & (other > 1)
    n, m = np.where(enough, own, np.nan), np.where(enough, other, np.nan)
    within = (squares - total**2 / n) + (other_squares - other_total**2 / m)
    spread = np.sqrt(np.maximum(within, 0.0) / (n + m - 2))
    return np.asarray((total / n - other_total / m) / np.where(spread > 0, spread, np.nan))
