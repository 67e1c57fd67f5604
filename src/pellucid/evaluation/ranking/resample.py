"""Resampling of whole groups of images: what the ranking would have been with other images of the same kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.intervals import widening

__all__ = ["LEVEL", "Draws", "interval"]

LEVEL = 0.95


_BLOCK = 32
"""Draws at once: a study of a million images must not hold a number an image and draw in eight bytes."""


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of groups: ``counts`` (draws, G) how often each is drawn, ``group`` (N) the number of each image's group."""

    counts: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, groups: Sequence[str], *, draws: int, seed: int) -> "Draws":
        """Draw as many groups as there are, with replacement; `groups` names one an image."""
        names, group = np.unique(np.array(groups, dtype=str), return_inverse=True)
        counts = np.zeros((draws, len(names)), np.uint16)
        generator, chance = np.random.default_rng(seed), np.full(len(names), 1 / max(1, len(names)))
        for start in range(0, draws if len(names) else 0, _BLOCK):
            rows = min(_BLOCK, draws - start)
            counts[start : start + rows] = generator.multinomial(len(names), chance, rows)
        return cls(counts, group)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return int(self.counts.shape[1])

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over drawn images of ``(N, K)`` values, NaN left out: ``(draws, K)``."""
        known = ~np.isnan(values)
        total, number = self._sums(np.where(known, values, 0.0)), self._sums(known.astype(float))
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sums over drawn images of ``(N, K)`` values: ``(draws, K)``."""
        own = np.zeros((self.groups, values.shape[1]))
        np.add.at(own, self.group, values)
        blocks = [self.counts[start : start + _BLOCK] @ own for start in range(0, len(self.counts), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, values.shape[1]))


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
