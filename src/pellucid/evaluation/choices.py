"""What changes when a choice changes: winners, orders and the share of the variance of places that each choice makes.

The choices are the steps from a raw map to its score (`pipeline`), the settings of a method, the settings of a metric and
the metric itself. Chance is told beside them: how far the order changes when other images are drawn and no choice is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.stats import kendalltau

from pellucid.evaluation.factors import factors, first_settings
from pellucid.evaluation.metric import FAMILIES
from pellucid.evaluation.pipeline import Pipeline
from pellucid.evaluation.ranking.average import nanmean, tree
from pellucid.evaluation.ranking.sides import SIDES
from pellucid.evaluation.ranking.standings import standings
from pellucid.evaluation.scores import SCHEMA, Scores
from pellucid.intervals import mean_interval, or_null

__all__ = ["EFFECTS", "choice_effects"]

Array = NDArray[np.float64]

EFFECTS = pa.schema(
    [
        pa.field("factor", pa.string(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("winner", pa.string(), nullable=False),
        pa.field("winner_reference", pa.string(), nullable=False),
        pa.field("changed", pa.int64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("tau", pa.float64()),
        pa.field("moved", pa.string(), nullable=False),
        pa.field("rank_reference", pa.float64()),
        pa.field("rank", pa.float64()),
        pa.field("share", pa.float64()),
    ]
)
"""Columns of `choice_effects`, one line a level that is not the reference, and side."""

IMAGES = "images"
_HALVES = 200


def choice_effects(
    scores: Scores, rescored: pa.Table | None = None, pipeline: Pipeline | None = None, *, seed: int = 0
) -> pa.Table:
    """Say for every choice what another level of it changes, on the same images.

    Metrics weigh alike within a family and families alike within a side, under every level: so that nothing but the
    choice differs. Controls are left out.

    Parameters
    ----------
    scores
        The ordinary scores; settings of a method or metric are choices where several were used, the first is the reference.
    rescored, pipeline
        Table of `rescore` and its choices; None where there was no pipeline.
    seed
        Of the draws of images.

    Returns
    -------
    pyarrow.Table
        ``factor`` and ``level`` against ``reference``; ``side``; the ``winner`` of all images; ``changed`` of ``n`` images
        whose best method is another one, ``low`` and ``high`` the 95 % interval of that share; ``tau``: Kendall's τ between
        the two orders; the method that ``moved`` most, from ``rank_reference`` to ``rank``; ``share`` of the variance of
        places (over levels, images and methods) that the factor makes. The factor ``"images"`` is chance: halves of the
        images against each other, ``n`` times.
    """
    lines = []
    for factor, tables in factors(scores.table, rescored, pipeline):
        for side in SIDES:
            placed = [_placed(table, side) for table in tables.values()]
            lines += _lines(factor, list(tables), side, placed, seed)
    plain = first_settings(scores.table)
    for side in SIDES:
        whole = _placed(plain, side)
        lines += [_chance(side, whole, seed)] if whole is not None and len(set(whole.groups)) > 3 else []
    return pa.Table.from_pylist(lines, schema=EFFECTS)


@dataclass(frozen=True)
class _Placed:
    """Places ``(N, K)`` on one side, 0 best, of real methods under one level."""

    methods: tuple[str, ...]
    images: tuple[str, ...]
    groups: tuple[str, ...]
    places: Array

    def on(self, methods: Sequence[str], images: Sequence[str]) -> Array:
        """Return the places of some methods on some images; NaN where there are none."""
        told = np.full((len(images), len(methods)), np.nan)
        column, row = ({name: at for at, name in enumerate(names)} for names in (self.methods, self.images))
        for at, method in enumerate(methods):
            if method in column:
                told[:, at] = [self.places[row[image], column[method]] if image in row else np.nan for image in images]
        return told


def _placed(table: pa.Table, side: str) -> _Placed | None:
    families = pa.array([family for family, own in FAMILIES.items() if own == side])
    known = pc.and_(pc.is_in(table["family"], families), pc.invert(table["control"]))
    kept = table.filter(known).select(SCHEMA.names)
    if not kept.num_rows:
        return None
    found = standings(Scores(kept))
    keys = [(entry.family, entry.name, entry.metric) for entry in found.entries]
    branch = tree(found.entries, keys, ("side", "family", "metric", "setting"))
    places = branch.mean([entry.places for entry in found.entries])
    told = np.flatnonzero(~np.isnan(places).all(1))
    if not len(told):
        return None
    images, groups = (tuple(names[row] for row in told) for names in (found.images, found.groups))
    return _Placed(found.methods, images, groups, places[told])


def _lines(
    factor: str, levels: Sequence[str], side: str, placed: Sequence[_Placed | None], seed: int
) -> list[dict[str, object]]:
    first, *others = placed
    if first is None or len(first.methods) < 2:
        return []
    common = set(first.images)
    kept = [
        (level, other)
        for level, other in zip(levels[1:], others, strict=True)
        if other is not None and common & set(other.images)
    ]
    cube = np.stack([one.on(first.methods, first.images) for one in (first, *(other for _, other in kept))])
    share = _share(cube)
    return [_line(factor, level, levels[0], side, first, other, seed) | {"share": share} for level, other in kept]


def _share(cube: Array) -> float | None:
    """Return the part of the variance of places ``(L, N, K)`` that lies between levels of the methods' mean places."""
    known = ~np.isnan(cube)
    whole = np.where(known, cube - np.nanmean(cube), 0.0)
    means, middle = nanmean(np.moveaxis(cube, 1, 0)), nanmean(cube.reshape(-1, cube.shape[2]))
    between = np.where(known, (means - middle)[:, None], 0.0)
    total = float((whole**2).sum())
    return float(np.nansum(between**2)) / total if total else None


def _line(
    factor: str, level: str, reference: str, side: str, first: _Placed, other: _Placed, seed: int
) -> dict[str, object]:
    methods = tuple(dict.fromkeys((*first.methods, *other.methods)))
    was, now = (one.on(methods, first.images) for one in (first, other))
    seen = np.asarray(~np.isnan(was).all(1) & ~np.isnan(now).all(1))
    means = [_mean(was), _mean(now)]
    changed = [_best_moved(old, new) for old, new in zip(was[seen], now[seen], strict=True)]
    found = mean_interval(
        changed,
        groups=[group for group, one in zip(first.groups, seen, strict=True) if one],
        bounds=(0.0, 1.0),
        seed=seed,
    )
    return {
        "factor": factor, "level": level, "reference": reference, "side": side, "winner": methods[int(np.nanargmin(means[1]))],
        "winner_reference": methods[int(np.nanargmin(means[0]))], "changed": int(sum(changed)), "n": len(changed),
        "low": or_null(found.low), "high": or_null(found.high), "tau": _tau(*means),
    } | _moved(methods, *means)  # fmt: skip


def _mean(places: Array) -> Array:
    return np.asarray(nanmean(places), dtype=np.float64)


def _best_moved(old: Array, new: Array) -> bool:
    """Say whether none that is best by the one is best by the other."""
    one, two = (np.flatnonzero(places <= np.nanmin(places) + 1e-9) for places in (old, new))
    return not set(one) & set(two)


def _tau(was: Array, now: Array) -> float | None:
    both = ~np.isnan(was) & ~np.isnan(now)
    return or_null(round(float(kendalltau(was[both], now[both]).statistic), 12)) if both.sum() > 1 else None


def _moved(methods: Sequence[str], was: Array, now: Array) -> dict[str, object]:
    """Return the method whose rank moved most; a method that only one level has cannot move."""
    both = np.flatnonzero(~np.isnan(was) & ~np.isnan(now))
    old, new = (np.argsort(np.argsort(means[both], kind="stable"), kind="stable") + 1.0 for means in (was, now))
    at = int(np.argmax(np.abs(new - old)))
    return {"moved": methods[both[at]], "rank_reference": float(old[at]), "rank": float(new[at])}


def _chance(side: str, placed: _Placed, seed: int) -> dict[str, object]:
    """Compare the orders of two halves of the images, drawn many times, whole groups on one side."""
    generator = np.random.default_rng([seed, 2])
    units, group = np.unique(placed.groups, return_inverse=True)
    taus, changed = [], 0
    for _ in range(_HALVES):
        half = np.isin(group, generator.permutation(len(units))[: len(units) // 2])
        means = [_mean(placed.places[half]), _mean(placed.places[~half])]
        taus.append(_tau(*means))
        changed += _best_moved(*means)
    middle, told = _mean(placed.places), [tau for tau in taus if tau is not None]
    winner = placed.methods[int(np.nanargmin(middle))]
    return {
        "factor": IMAGES, "level": "another half of the images", "reference": "one half", "side": side, "winner": winner,
        "winner_reference": winner, "changed": changed, "n": _HALVES, "low": None, "high": None,
        "tau": float(np.mean(told)) if told else None, "moved": "", "rank_reference": None, "rank": None, "share": None,
    }  # fmt: skip
