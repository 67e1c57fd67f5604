"""What resamples say of methods: who comes first, who is level with the best, who does not beat a control."""

from collections.abc import Sequence

import numpy as np

from pellucid.evaluation.ranking.resample import LEVEL, interval
from pellucid.intervals import widening

__all__ = ["CONTROL", "first_places", "level_with_best", "not_better_than"]

CONTROL = "random_map"
"""The control that every method must beat."""

Verdicts = list[bool | None]

_LEAST = 1e-12
"""Standard error below which a distance is the same in every resample."""


def first_places(boot: np.ndarray) -> np.ndarray:
    """Return how often each method comes first in ``(draws, K)``; methods level in a draw share it."""
    filled = np.where(np.isnan(boot), np.inf, boot)
    first = (filled <= filled.min(1, keepdims=True) + 1e-12) & ~np.isnan(boot)
    share = first / np.maximum(first.sum(1, keepdims=True), 1)
    judged = first.any(1)
    return np.where(np.isnan(boot).all(0), np.nan, share[judged].sum(0) / max(int(judged.sum()), 1))


def level_with_best(place: np.ndarray, boot: np.ndarray, groups: int) -> Verdicts:
    """Say of every method whether it may be the best; None without a place.

    The methods that may be form a confidence set: the truly best is in it in 95 % of studies, however many methods there
    are. A method leaves the set when its largest distance behind another, in standard errors, is beyond what that
    largest distance reaches by chance in resamples; comparing with the method that happens to come first would forget
    that it was chosen (Hsu 1981, Annals of Statistics 9; Mogstad et al. 2024, Review of Economic Studies 91).

    Parameters
    ----------
    place
        ``(K,)`` mean places, 0 best, NaN without one.
    boot
        ``(draws, K)`` the same in resamples.
    groups
        Independent units behind them; with fewer than two nothing is separable.
    """
    placed = np.flatnonzero(~np.isnan(place))
    verdicts: Verdicts = [None] * len(place)
    for own in placed:
        others = placed[placed != own]
        verdicts[own] = groups < 2 or not len(others) or _may_lead(place, boot, groups, int(own), others)
    return verdicts


def _may_lead(place: np.ndarray, boot: np.ndarray, groups: int, own: int, others: np.ndarray) -> bool:
    behind = place[own] - place[others]
    by_chance = boot[:, [own]] - boot[:, others] - behind
    by_chance = by_chance[~np.isnan(by_chance).all(1)]
    if not len(by_chance):
        return True
    error = np.maximum(np.nanstd(by_chance, axis=0), _LEAST)
    largest = np.nanmax(by_chance / error, axis=1)
    return bool((behind / error).max() <= widening(groups) * np.quantile(largest, LEVEL))


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
