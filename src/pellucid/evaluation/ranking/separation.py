"""What resamples say of methods: who comes first, who is level with the best, who does not beat a control."""

from collections.abc import Sequence

import numpy as np

from pellucid.evaluation.ranking.resample import interval

__all__ = ["CONTROL", "first_places", "level_with_best", "not_better_than"]

CONTROL = "random_map"
"""The control that every method must beat."""

Verdicts = list[bool | None]


def first_places(boot: np.ndarray) -> np.ndarray:
    """Return how often each method comes first in ``(draws, K)``; methods level in a draw share it."""
    filled = np.where(np.isnan(boot), np.inf, boot)
    first = (filled <= filled.min(1, keepdims=True) + 1e-12) & ~np.isnan(boot)
    share = first / np.maximum(first.sum(1, keepdims=True), 1)
    judged = first.any(1)
    return np.where(np.isnan(boot).all(0), np.nan, share[judged].sum(0) / max(int(judged.sum()), 1))


def level_with_best(place: np.ndarray, boot: np.ndarray, groups: int) -> Verdicts:
    """Say of every method whether it is not separable from the best; None without a place."""
    if np.isnan(place).all():
        return [None] * len(place)
    best = int(np.nanargmin(place))
    behind, _ = interval(place - place[best], boot - boot[:, [best]], groups, clip=False)
    return [
        None if np.isnan(own) else bool(np.isnan(low) or not low > 0) for own, low in zip(place, behind, strict=True)
    ]


def not_better_than(column: int, place: np.ndarray, boot: np.ndarray, groups: int) -> Verdicts:
    """Say of every method whether it is not shown to beat `column`, a control; None without a place and for itself."""
    _, ahead = interval(place - place[column], boot - boot[:, [column]], groups, clip=False)
    verdicts = [
        None if np.isnan(own) else bool(np.isnan(high) or not high < 0) for own, high in zip(place, ahead, strict=True)
    ]
    verdicts[column] = None
    return verdicts


def named(methods: Sequence[str], name: str) -> int | None:
    """Return the column of the method of that name, whatever its settings."""
    return next((column for column, method in enumerate(methods) if method.split("(")[0] == name), None)
