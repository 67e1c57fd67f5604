"""How far images lie apart in a layer."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances
from sklearn.mixture import GaussianMixture
from torch import Tensor

from pellucid.errors import ShapeError

__all__ = ["Distance", "binary_codes", "distances"]

Array = NDArray[np.float64]

Distance = Literal["cosine", "euclidean", "codes"]
"""Angle or length between features, or the share of units that are on for one image and off for the other."""

METRICS: tuple[Distance, ...] = ("cosine", "euclidean", "codes")


def binary_codes(features: Tensor, *, seed: int = 0) -> NDArray[np.bool_]:
    """Return which units are on for which images ``(N, D)``: each unit's values fall into a lower and an upper cloud.

    References
    ----------
    Stano, Benesova and Martak 2020, Explainable 3D convolutional neural network using GMM encoding.
    """
    values = features.double().numpy()
    found = np.zeros(values.shape, dtype=bool)
    for unit in range(values.shape[1]):
        column = values[:, unit]
        if len(np.unique(column)) > 2:
            clouds = GaussianMixture(2, random_state=seed, init_params="k-means++", reg_covar=1e-6 * column.var())
            clouds.fit(column[:, None])
            found[:, unit] = clouds.predict(column[:, None]) == int(clouds.means_[:, 0].argmax())
    return found


def distances(queries: Tensor, gallery: Tensor, metric: Distance = "cosine", *, seed: int = 0) -> Array:
    """Return the distance ``(Q, G)`` of every query's features ``(Q, D)`` from every gallery image's ``(G, D)``."""
    if metric not in METRICS:
        raise ShapeError(f"metric={metric!r} is none of {', '.join(METRICS)}")
    if metric == "codes":
        codes: Any = binary_codes(torch.cat([queries, gallery]), seed=seed)
        return np.asarray(pairwise_distances(codes[: len(queries)], codes[len(queries) :], metric="hamming"))
    return np.asarray(pairwise_distances(queries.double().numpy(), gallery.double().numpy(), metric=metric))
