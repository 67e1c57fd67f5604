"""Phenotypes that these images cannot tell apart: they are tested together, under one name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

__all__ = ["ALIKE", "Cluster", "clusters"]

Array = NDArray[np.float64]

ALIKE = 0.9
"""Rank correlation from which two phenotypes are one."""


@dataclass(frozen=True)
class Cluster:
    """Phenotypes that go together in the images: the one that stands for them, and those that it stands for."""

    name: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name + (f" (or {', '.join(self.others)})" if self.others else "")


def clusters(names: Sequence[str], values: Array, *, alike: float = ALIKE) -> tuple[Cluster, ...]:
    """Put phenotypes together that all correlate by `alike` or more in rank; the most central stands for the others.

    Parameters
    ----------
    names
        Of the columns.
    values
        ``(n, P)``; rows with NaN are left out of the pairs that they miss in.
    """
    if len(names) < 2:
        return tuple(Cluster(name) for name in names)
    size = np.abs(_ranks_correlated(values))
    apart = np.clip(1 - (size + size.T) / 2, 0, None)
    np.fill_diagonal(apart, 0)
    members = fcluster(linkage(squareform(apart, checks=False), "complete"), 1 - alike, "distance")
    found = []
    for number in dict.fromkeys(members.tolist()):
        own = np.flatnonzero(members == number)
        central = own[size[np.ix_(own, own)].sum(1).argmax()]
        found.append(Cluster(names[central], tuple(names[at] for at in own if at != central)))
    return tuple(found)


def _ranks_correlated(values: Array) -> Array:
    count = values.shape[1]
    found = np.eye(count)
    for one in range(count):
        for other in range(one):
            both = np.isfinite(values[:, [one, other]]).all(1)
            ranks = rankdata(values[both][:, [one, other]], axis=0)
            flat = (ranks.std(0) == 0).any() if len(ranks) else True
            found[one, other] = found[other, one] = 0.0 if flat else np.corrcoef(ranks.T)[0, 1]
    return found
