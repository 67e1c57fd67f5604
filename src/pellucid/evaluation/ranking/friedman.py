"""Whether methods differ at all, and by how much mean ranks must differ: Friedman's test and Nemenyi's difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Friedman", "friedman"]

_LEVEL = 0.05


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over blocks (images, or groups of images), after Demšar 2006, JMLR 7.

    Attributes
    ----------
    methods
        Those with a place in every block that counts, best mean rank first.
    ranks
        Their mean ranks over the blocks, 1 is best.
    blocks
        Number of blocks in which all of them are placed.
    statistic, p
        Friedman's χ² with its p value (chi-squared, ties corrected).
    difference
        Nemenyi's critical difference at 5 %: two methods whose mean ranks differ by less are not told apart.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    blocks: int
    statistic: float
    p: float
    difference: float

    @property
    def cliques(self) -> tuple[tuple[str, ...], ...]:
        """Largest runs of methods that are not told apart, for the bars of a critical-difference diagram."""
        runs: list[tuple[int, int]] = []
        for start in range(len(self.ranks)):
            stop = max(at for at, rank in enumerate(self.ranks) if rank - self.ranks[start] <= self.difference)
            if stop > start and not any(first <= start and stop <= last for first, last in runs):
                runs.append((start, stop))
        return tuple(self.methods[first : last + 1] for first, last in runs)


def friedman(methods: Sequence[str], places: np.ndarray, groups: Sequence[str]) -> Friedman | None:
    """Test whether methods differ, with groups of images as blocks.

    Parameters
    ----------
    methods
        K names.
    places
        ``(N, K)`` overall places of every image, NaN where there is none.
    groups
        The block of each image.

    Returns
    -------
    Friedman or None
        None with fewer than three methods or two blocks.
    """
    names = sorted(set(groups))
    told = np.array(groups)
    scored = ~np.isnan(places)
    kept = [column for column in range(len(methods)) if scored[:, column].mean() >= 0.5]
    whole = scored[:, kept].all(1) if kept else np.zeros(len(told), dtype=bool)
    rows = [places[whole & (told == name)][:, kept].mean(0) for name in names if (whole & (told == name)).any()]
    if len(kept) < 3 or len(rows) < 2:
        return None
    blocks = np.stack(rows)
    ranks = stats.rankdata(np.round(blocks, 9), axis=1)
    number, wide = ranks.shape
    same = bool((ranks == ranks[:, :1]).all())
    statistic, p = (0.0, 1.0) if same else stats.friedmanchisquare(*ranks.T)
    spread = stats.studentized_range.ppf(1 - _LEVEL, wide, np.inf) / np.sqrt(2)
    mean = ranks.mean(0)
    order = sorted(range(wide), key=lambda column: (mean[column], methods[kept[column]]))
    return Friedman(
        tuple(methods[kept[column]] for column in order),
        tuple(float(mean[column]) for column in order),
        number,
        float(statistic),
        float(p),
        float(spread * np.sqrt(wide * (wide + 1) / (6 * number))),
    )
