"""How places are averaged: seeds in a setting, settings in a metric, metrics in a cluster, clusters in a family."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.evaluation.ranking.standings import Standing

__all__ = ["Branch", "nanmean", "tree"]

_DRAWN = ("metric", "setting")
"""Branches whose members stand for others that might have been used: a metric's settings, a setting's seeds."""


@dataclass(frozen=True)
class Branch:
    """A level of the average: its members weigh equally, however many lie below each.

    Attributes
    ----------
    level
        ``"side"``, ``"family"``, ``"cluster"``, ``"metric"`` or ``"setting"``.
    members
        Branches, or positions of standings.
    """

    level: str
    members: tuple["Branch | int", ...]

    def leaves(self) -> tuple[int, ...]:
        """Return the positions of all standings below."""
        return tuple(leaf for one in self.members for leaf in (one.leaves() if isinstance(one, Branch) else (one,)))

    def without(self, leaves: Collection[int]) -> "Branch":
        """Return the branch without some standings; a member that loses all of its own goes too."""
        kept = (one.without(leaves) if isinstance(one, Branch) else one for one in self.members)
        return Branch(
            self.level,
            tuple(one for one in kept if (one.members if isinstance(one, Branch) else one not in leaves)),
        )

    def mean(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Average arrays, one a standing; what is NaN has no say."""
        return nanmean(np.stack([one.mean(values) if isinstance(one, Branch) else values[one] for one in self.members]))

    def resampled(self, values: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
        """Average arrays ``(draws, K)`` with settings and seeds drawn anew, with replacement, in every draw."""
        parts = np.stack(
            [one.resampled(values, generator) if isinstance(one, Branch) else values[one] for one in self.members]
        )
        if self.level not in _DRAWN or len(parts) == 1:
            return nanmean(parts)
        number = len(parts)
        times = generator.multinomial(number, np.full(number, 1 / number), parts.shape[1]).T[..., None]
        return nanmean(parts, times.astype(float))


def nanmean(stack: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the weighted mean over the first axis; NaN only where nothing with a weight is known."""
    known = ~np.isnan(stack) * weights
    total = (np.where(np.isnan(stack), 0.0, stack) * known).sum(0)
    return np.where(known.sum(0) > 0, total / np.where(known.sum(0) > 0, known.sum(0), 1), np.nan)


def tree(entries: Sequence[Standing], keys: Sequence[tuple[Any, ...]], levels: Sequence[str]) -> Branch:
    """Return the branches of some standings.

    Parameters
    ----------
    entries
        All standings.
    keys
        One a standing: its label at every level below the first, outermost first; None leaves a standing out.
    levels
        Names of the levels, the first of the tree itself.
    """
    return _branch([place for place in range(len(entries)) if keys[place]], lambda place: keys[place], levels)


def _branch(places: Sequence[int], key: Callable[[int], tuple[Any, ...]], levels: Sequence[str]) -> Branch:
    if len(levels) == 1:
        return Branch(levels[0], tuple(places))
    labels = dict.fromkeys(key(place)[0] for place in places)
    parts = [[place for place in places if key(place)[0] == label] for label in labels]
    return Branch(levels[0], tuple(_branch(part, lambda place: key(place)[1:], levels[1:]) for part in parts))
