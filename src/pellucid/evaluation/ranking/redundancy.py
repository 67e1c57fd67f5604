"""Which metrics say the same: their agreement on the order of methods, and the clusters that it makes of them."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

__all__ = ["agreement", "clusters"]


def agreement(places: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over images of Kendall's τ-b between the orders that metrics give the methods.

    Parameters
    ----------
    places
        One array ``(N, K)`` a metric, NaN where there is no place.

    Returns
    -------
    ndarray
        ``(M, M)``, 1 on the diagonal; NaN where two metrics share no image on which both tell methods apart.
    """
    first, second = np.triu_indices(places[0].shape[1] if len(places) else 0, 1)
    signs = np.stack([np.sign(own[:, first] - own[:, second]) for own in places]) if len(places) else np.zeros((0, 0))
    taus = np.eye(len(places))
    for one in range(len(places)):
        for other in range(one + 1, len(places)):
            taus[one, other] = taus[other, one] = _tau(signs[one], signs[other])
    return taus


def _tau(left: np.ndarray, right: np.ndarray) -> float:
    both = ~np.isnan(left) & ~np.isnan(right)
    left, right = np.where(both, left, 0.0), np.where(both, right, 0.0)
    size = np.sqrt((left**2).sum(1) * (right**2).sum(1))
    told = size > 0
    return float(((left * right).sum(1)[told] / size[told]).mean()) if told.any() else np.nan


def clusters(taus: np.ndarray, redundant: float) -> list[int]:
    """Group metrics whose mean agreement (average linkage) reaches `redundant`; unknown agreement is none.

    Returns
    -------
    list of int
        The cluster of each metric, numbered from 0 in the order of the first member.
    """
    if len(taus) < 2:
        return [0] * len(taus)
    apart = 1 - np.nan_to_num(taus, nan=0.0)
    np.fill_diagonal(apart, 0.0)
    labels = fcluster(linkage(squareform(apart, checks=False), "average"), 1 - redundant, "distance")
    order = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return [order[label] for label in labels.tolist()]
