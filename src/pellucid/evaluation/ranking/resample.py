"""Resampling of whole groups of images: what the ranking would have been with other images of the same kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.intervals import widening

__all__ = ["Draws", "interval"]

LEVEL = 0.95


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of groups: ``counts`` (draws, G) how often each is drawn, ``member`` (G, N) which images it has."""

    counts: np.ndarray
    member: np.ndarray

    @classmethod
    def of(cls, groups: Sequence[str], *, draws: int, seed: int) -> "Draws":
        """Draw as many groups as there are, with replacement; `groups` names one an image."""
        names = sorted(set(groups))
        member = np.array([[own == name for own in groups] for name in names], dtype=float)
        member = member.reshape(len(names), len(groups))
        generator = np.random.default_rng(seed)
        if not names:
            return cls(np.zeros((draws, 0)), member)
        return cls(generator.multinomial(len(names), np.full(len(names), 1 / len(names)), draws).astype(float), member)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(self.member)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over drawn images of ``(N, K)`` values, NaN left out: ``(draws, K)``."""
        known = ~np.isnan(values)
        total = self.counts @ (self.member @ np.where(known, values, 0.0))
        number = self.counts @ (self.member @ known.astype(float))
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def interval(
    estimate: np.ndarray, boot: np.ndarray, groups: int, *, clip: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of estimates ``(K)`` from their resamples ``(draws, K)``.

    Their distance from the estimate is stretched by `widening`. One group alone gives no interval: NaN.
    """
    nothing = np.full(len(estimate), np.nan)
    if groups < 2:
        return nothing, nothing
    tail = (1 - LEVEL) / 2
    low, high = nothing.copy(), nothing.copy()
    for column in np.flatnonzero(~np.isnan(boot).all(0) & ~np.isnan(estimate)):
        known = boot[~np.isnan(boot[:, column]), column]
        low[column], high[column] = np.quantile(known, [tail, 1 - tail])
    wider = widening(groups)
    low, high = estimate + wider * (low - estimate), estimate + wider * (high - estimate)
    return (np.clip(low, 0, 1), np.clip(high, 0, 1)) if clip else (low, high)
