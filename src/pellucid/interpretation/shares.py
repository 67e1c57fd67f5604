"""Competing interpretations head to head: how much of the score's variance each explains, out of sample."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from pellucid.errors import CannotExplain, ShapeError
from pellucid.hashing import hash_seed
from pellucid.interpretation.additive import matrix, regressor
from pellucid.interpretation.edit_test import Score
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.sign_flips import units_of
from pellucid.intervals import or_null, widening
from pellucid.measure import EDITS, Edit

__all__ = ["edit_shares", "feature_alone", "variance_shares"]

Array = NDArray[np.float64]

_MOST = 8
"""Interpretations compared at once: every subset of them is fitted."""
_FOLDS = 5
_DRAWS = 1000
_FLAT = 1e-12


def variance_shares(
    score: ArrayLike,
    interpretations: Mapping[str, Sequence[str]],
    measures: pa.Table,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Say how much of the score's variance each interpretation explains, each with what the features of others share with it.

    For every subset of the interpretations an additive model of their features is fitted and judged on groups that it
    never saw. An interpretation's share is its Shapley value of that explained variance (Lindeman, Merenda & Gold 1980):
    the shares add up to what all explain together.

    Parameters
    ----------
    score
        ``(N,)`` of the model.
    interpretations
        Name to the columns of `measures` that it speaks of; eight at most.
    measures
        One row an image, in the order of the score.
    groups
        The independent unit of each image.
    seed
        Of the resampling behind the intervals.

    Returns
    -------
    pyarrow.Table
        One row an interpretation, largest share first, and one named ``together``: interpretation, share with low and
        high, alone (variance explained by it alone), n, groups.

    Raises
    ------
    ShapeError
        When columns are missing, more than eight are compared, or lengths differ.
    CannotExplain
        When there are fewer than three groups, or the score is constant.
    """
    values, names = matrix(measures)
    for name, columns in interpretations.items():
        absent = [column for column in columns if column not in names]
        if absent or not columns:
            raise ShapeError(
                f"interpretation {name!r} speaks of {', '.join(absent) or 'nothing'}, which was not measured"
            )
    blocks = {name: values[:, [names.index(column) for column in columns]] for name, columns in interpretations.items()}
    return _shares(np.asarray(score, dtype=float), blocks, groups, seed, _by_curves)


def feature_alone(
    score: ArrayLike, measures: pa.Table, *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> pa.Table:
    """Say how much of the score each measure recovers by itself, on groups that the fit never saw.

    The check of a named feature (Nagao et al. 2020): if it is what the model reads, it alone gives the model's score back.

    Returns
    -------
    pyarrow.Table
        One row a measure, best first: measure, explained (share of variance, below 0 where worse than the mean) with low
        and high, n, groups.
    """
    values, names = matrix(measures)
    target = np.asarray(score, dtype=float)
    units = _checked(target, values, groups)
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        errors, plain = _held_out(target, values[:, [place]], units, _by_curves)
        value, low, high = _interval(errors[:, None], plain, units, np.array([1.0]), seed)
        rows.append(
            {"measure": name, "explained": value, "low": low, "high": high, "n": len(target), "groups": _count(units)}
        )
    return pa.Table.from_pylist(sorted(rows, key=lambda row: -row["explained"]))


def edit_shares(
    score: Score,
    cases: Sequence[Case],
    edits: Sequence[str | Edit],
    *,
    draws: int = 8,
    seed: int = 0,
) -> pa.Table:
    """Say how much of the change of the score each of several edits explains when they are applied together at random.

    Every image is edited `draws` times by a random half of the edits, so that what goes together in nature is taken
    apart; of edits that move the outline one is applied at most, last. The change of the score is then explained by which
    edits were made, on groups that the fit never saw. Shares are as in `variance_shares`.

    Raises
    ------
    CannotExplain, ShapeError
        As for `variance_shares`.
    """
    asked = sorted((EDITS.parse(edit) for edit in edits), key=_moves_outline)
    design, change, groups = [], [], []
    before = score(torch.stack([case.image for case in cases])).double().cpu().numpy()
    for draw in range(draws):
        images, made = zip(*(_edited(case, asked, draw, seed) for case in cases), strict=True)
        change.append(score(torch.stack(images)).double().cpu().numpy() - before)
        design.append(np.array(made, dtype=float))
        groups += [case.group for case in cases]
    done = np.concatenate(design)
    blocks = {str(edit): done[:, [place]] for place, edit in enumerate(asked) if np.ptp(done[:, place]) > 0}
    return _shares(np.concatenate(change), blocks, groups, seed, _by_steps)


def _moves_outline(edit: Edit) -> bool:
    return any(name.startswith("AreaShape_") for name in edit.moves) or edit.name == "move_object"


def _edited(case: Case, edits: Sequence[Edit], draw: int, seed: int) -> tuple[torch.Tensor, list[bool]]:
    """Return an image under a random half of the edits and which could be made."""
    random = np.random.default_rng(hash_seed(seed, "edits together", case.id, draw))
    chosen = random.random(len(edits)) < 0.5
    outline = [place for place in np.flatnonzero(chosen).tolist() if _moves_outline(edits[place])]
    if len(outline) > 1:
        chosen[outline] = False
        chosen[random.choice(outline)] = True
    image, made = case.image, []
    for edit, wanted in zip(edits, chosen, strict=True):
        stream = torch.Generator().manual_seed(hash_seed(seed, str(edit), case.id, draw))
        try:
            image = edit(image, case.outline, generator=stream).image if wanted else image
        except ShapeError:
            wanted = False  # noqa: PLW2901  # it does not fit this object
        made.append(bool(wanted))
    return image, made


_Fit = Callable[[Array, Array, Array], Array]
"""From training features and scores, and held-out features, to predictions."""


def _by_curves(features: Array, target: Array, held_out: Array) -> Array:
    if all(len(np.unique(column)) == 1 for column in features.T):  # missing values count as one
        return np.full(len(held_out), target.mean())
    return np.asarray(regressor("additive", len(features)).fit(features, target).predict(held_out))


def _by_steps(features: Array, target: Array, held_out: Array) -> Array:
    return np.asarray(Ridge(1e-3).fit(features, target).predict(held_out))


def _checked(target: Array, values: Array, groups: Sequence[Hashable] | None) -> NDArray[np.int64]:
    if len(values) != len(target) or (groups is not None and len(groups) != len(target)):
        raise ShapeError(f"there are {len(target)} scores, {len(values)} rows of measures; give one each an image")
    units = units_of(groups, len(target))
    if _count(units) < 3 or np.ptp(target) <= _FLAT:
        raise CannotExplain(
            f"explained variance needs three groups and a score that varies; there are {_count(units)} groups"
        )
    return units


def _count(units: NDArray[np.int64]) -> int:
    return int(units.max(initial=-1)) + 1


def _held_out(target: Array, features: Array, units: NDArray[np.int64], fit: _Fit) -> tuple[Array, Array]:
    """Return squared errors of the fit and of the training mean, each on groups that were left out."""
    errors, plain = np.empty(len(target)), np.empty(len(target))
    for train, test in GroupKFold(min(_FOLDS, _count(units))).split(features, groups=units):
        plain[test] = (target[test] - target[train].mean()) ** 2
        errors[test] = (
            (target[test] - fit(features[train], target[train], features[test])) ** 2
            if features.shape[1]
            else plain[test]
        )
    return errors, plain


def _shares(
    target: Array, blocks: Mapping[str, Array], groups: Sequence[Hashable] | None, seed: int, fit: _Fit
) -> pa.Table:
    if not 1 <= len(blocks) <= _MOST:
        raise ShapeError(f"{len(blocks)} interpretations cannot be compared; give 1 to {_MOST} that can be told apart")
    names = list(blocks)
    units = _checked(target, next(iter(blocks.values())), groups)
    subsets = [subset for size in range(len(names) + 1) for subset in combinations(range(len(names)), size)]
    errors, plain = [], np.empty(0)
    for subset in subsets:
        features = np.concatenate([np.empty((len(target), 0)), *(blocks[names[place]] for place in subset)], 1)
        own, plain = _held_out(target, features, units, fit)
        errors.append(own)
    held = np.stack(errors, 1)
    rows = [_row(name, held, plain, units, _weights(place, subsets, len(names)), subsets.index((place,)), seed)
            for place, name in enumerate(names)]  # fmt: skip
    whole = _interval(held[:, [-1]], plain, units, np.array([1.0]), seed)
    ends = {"n": len(target), "groups": _count(units)}
    together = {
        "interpretation": "together",
        "share": whole[0],
        "low": whole[1],
        "high": whole[2],
        "alone": None,
    } | ends
    return pa.Table.from_pylist([*sorted(rows, key=lambda row: -float(str(row["share"]))), together])


def _row(
    name: str, held: Array, plain: Array, units: NDArray[np.int64], weights: Array, alone: int, seed: int
) -> dict[str, object]:
    share, low, high = _interval(held, plain, units, weights, seed)
    return {
        "interpretation": name, "share": share, "low": low, "high": high,
        "alone": float(1 - held[:, alone].sum() / plain.sum()), "n": len(plain), "groups": _count(units),
    }  # fmt: skip


def _weights(player: int, subsets: Sequence[tuple[int, ...]], players: int) -> Array:
    """Return with what weight each subset's explained variance counts towards a player's Shapley value."""
    weights = []
    for subset in subsets:
        inside = player in subset
        others = len(subset) - inside
        weight = factorial(others) * factorial(players - others - 1) / factorial(players)
        weights.append(weight if inside else -weight)
    return np.array(weights)


def _interval(
    errors: Array, plain: Array, units: NDArray[np.int64], weights: Array, seed: int
) -> tuple[float, float | None, float | None]:
    """Return the weighted explained variance with a bootstrap interval over whole groups of the held-out errors."""
    count = _count(units)
    summed = np.stack([np.bincount(units, weights=column, minlength=count) for column in errors.T], 1)
    base = np.bincount(units, weights=plain, minlength=count)
    value = float(weights @ (1 - summed.sum(0) / base.sum()))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(float)
    spread = (1 - (drawn @ summed) / np.maximum(drawn @ base, np.finfo(float).tiny)[:, None]) @ weights
    wider = widening(count)
    low, high = (value + wider * (edge - value) for edge in np.quantile(spread, [0.025, 0.975]))
    return value, or_null(float(low)), or_null(float(high))
