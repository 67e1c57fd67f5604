"""Slopes along concepts that can be compared between layers: held against directions of chance in what a layer spans."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

__all__ = ["Fair", "fair_sensitivity"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fair:
    """A mean slope against directions of chance.

    Attributes
    ----------
    value
        √r times the cosine between slope and direction, r the dimensions that the layer's activations span: about a standard
        normal number for a direction of chance, in a layer of any width.
    p
        Of a direction of chance that does as much, either way: exact.
    rank
        r.
    """

    value: float
    p: float
    rank: int


def fair_sensitivity(slope: Array, vector: Array, features: Array) -> Fair:
    """Hold the slope along a direction against that along directions of chance, so that layers can be compared.

    Directions of chance are even on the unit sphere of the space that the activations span. The slope along one of them
    has mean 0 and standard deviation ‖Pg‖ / √r, where P projects on that space and r is its dimension; the score is the
    slope along the concept in that unit, z = √r · cos(Pg, Pv), and (cos + 1) / 2 of a direction of chance has the law
    Beta((r − 1) / 2, (r − 1) / 2). Units that never move, such as zeros that pad a layer, change neither P nor r.

    Parameters
    ----------
    slope
        ``(D,)`` mean slope of the output along the features.
    vector
        ``(D,)`` of the concept.
    features
        ``(N, D)`` activations.

    References
    ----------
    After the purpose of Yeche, Harrison and Berthier 2019, UBS: a dimension-agnostic metric for concept vector
    interpretability applied to radiomics; this formula is our own, since theirs is not in what we could read.
    """
    _, singular, axes = np.linalg.svd(features - features.mean(0), full_matrices=False)
    axes = axes[singular > 1e-9 * singular.max(initial=1e-300)]
    g, v = axes @ slope, axes @ vector
    size = float(np.linalg.norm(g) * np.linalg.norm(v))
    rank = len(axes)
    if size == 0 or rank < 2:
        return Fair(0.0, 1.0, rank)
    cosine = float(np.clip(g @ v / size, -1, 1))
    half = (rank - 1) / 2
    return Fair(float(np.sqrt(rank) * cosine), float(min(1.0, 2 * beta.sf((1 + abs(cosine)) / 2, half, half))), rank)
