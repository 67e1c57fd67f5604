"""Splitting a layer's activations into parts that only add up, and how steady the parts are."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from pellucid.hashing import hash_key

__all__ = ["coded", "places", "split", "stability"]

Array = NDArray[np.float64]

_ROWS = 20_000
"""Places that the parts are fitted on at most: an even share of every image's."""


def places(maps: Tensor) -> Array:
    """Return the activations of places ``(rows, C)``: an even share of every image's."""
    flat = maps.flatten(2).movedim(1, 2)
    step = max(1, int(np.ceil(len(maps) * flat.shape[1] / _ROWS)))
    return np.asarray(flat[:, ::step].reshape(-1, maps.shape[1]).double().numpy())


def split(rows: Array, concepts: int, seed: int) -> tuple[Array, tuple[str, ...]]:
    """Return unit parts ``(K, C)``, and what the reader should know of the fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        parts = NMF(concepts, init="nndsvda", random_state=seed, max_iter=500, tol=1e-4).fit(rows).components_
    late = any(issubclass(one.category, ConvergenceWarning) for one in caught)
    length = np.linalg.norm(parts, axis=1, keepdims=True)
    notes = ("the parts had not quite settled after 500 rounds",) if late else ()
    return parts / np.where(length > 0, length, 1.0), notes


def coded(maps: Tensor, parts: Array, seed: int) -> Tensor:
    """Return how much of each part every place holds ``(N, K, *grid)``."""
    flat = maps.movedim(1, -1).reshape(-1, maps.shape[1]).double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a place a little off is not worth a word
        found = non_negative_factorization(
            flat, H=parts, n_components=len(parts), update_H=False, random_state=seed, max_iter=500, tol=1e-5
        )[0]
    shape = (len(maps), *maps.shape[2:], len(parts))
    return torch.from_numpy(found).float().reshape(shape).movedim(-1, 1).contiguous()


def stability(maps: Tensor, parts: Array, groups: Sequence[str], seed: int) -> Array:
    """Return each part's cosine with its like among the parts of either half of the groups, the mean of both."""
    names = sorted(set(groups), key=lambda name: hash_key(seed, "half", name))
    first = set(names[: len(names) // 2])
    halves = [[row for row, name in enumerate(groups) if (name in first) is one] for one in (True, False)]
    if min(map(len, halves)) < 2:
        return np.full(len(parts), np.nan)
    found = []
    for rows in halves:
        cosines = parts @ split(places(maps[rows]), len(parts), seed)[0].T
        own, other = linear_sum_assignment(-cosines)
        found.append(cosines[own, other])
    return np.asarray(np.mean(found, axis=0))
