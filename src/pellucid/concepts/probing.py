"""Linear probes of a layer: ridge regressions of many targets at once, held-out predictions, and exact permutations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from pellucid.errors import ShapeError
from pellucid.hashing import hash_key

__all__ = ["Probe", "balanced_accuracy", "fit_probe", "folds_of", "held_out", "permuted", "r_squared"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

FOLDS = 5
_STRENGTHS = np.logspace(-3, 3, 7)
"""Ridge penalties tried, in units of the number of images, on features of unit spread."""


@dataclass(frozen=True)
class Probe:
    """Ridge regressions of T targets on one layer's features.

    Attributes
    ----------
    weights
        ``(D, T)`` in the features' own scale.
    offset
        ``(T,)``.
    strength
        ``(T,)`` penalties, chosen by leaving one image out, on features of unit spread.
    """

    weights: Array
    offset: Array
    strength: Array

    def __call__(self, features: Array) -> Array:
        """Return predictions ``(N, T)``."""
        return np.asarray(features @ self.weights + self.offset)


def scale_of(features: Array) -> Array:
    """Return the spread of each feature; 1 where it is constant, which then has no part in a probe."""
    spread = features.std(0)
    return np.where(spread > 1e-9 * np.abs(features).max(initial=1e-300), spread, 1.0)


def fit_probe(features: Array, targets: Array) -> Probe:
    """Fit targets ``(N, T)`` to features ``(N, D)``; every target has its own penalty.

    References
    ----------
    Golub, Heath and Wahba 1979, Generalized cross-validation as a method for choosing a good ridge parameter.
    """
    centre, spread = features.mean(0), scale_of(features)
    ridge = RidgeCV(len(features) * _STRENGTHS, alpha_per_target=True).fit((features - centre) / spread, targets)
    weights = np.atleast_2d(ridge.coef_).T / spread[:, None]
    offset = np.atleast_1d(ridge.intercept_) - centre @ weights
    return Probe(weights, offset, np.broadcast_to(np.atleast_1d(ridge.alpha_), (targets.shape[1],)))


def folds_of(groups: Sequence[str], *, seed: int = 0) -> Whole:
    """Return the fold of each image; a group is never in two, and which fold depends on its name alone."""
    names = sorted(set(groups), key=lambda name: hash_key(seed, "fold", name))
    if len(names) < 2:
        raise ShapeError("a probe needs images of two independent groups or more to be judged on unseen ones")
    place = {name: rank % min(FOLDS, len(names)) for rank, name in enumerate(names)}
    return np.array([place[name] for name in groups])


def held_out(features: Array, targets: Array, folds: Whole) -> Array:
    """Return predictions ``(N, T)`` of each image by probes that never saw its fold, less their own midpoints.

    The midpoint is that between the mean predictions of the two halves of a target with two values, so that a positive
    prediction means the upper one; of a target with more values it is 0, and predictions are in the target's unit.
    """
    found = np.empty_like(targets)
    for fold in np.unique(folds):
        seen = folds != fold
        probe = fit_probe(features[seen], targets[seen])
        found[~seen] = probe(features[~seen]) - _midpoints(probe(features[seen]), targets[seen])
    return found


def _midpoints(predicted: Array, targets: Array) -> Array:
    if not np.isin(targets, (0.0, 1.0)).all():
        return np.zeros(targets.shape[1])
    with np.errstate(invalid="ignore"):
        upper = (predicted * targets).sum(0) / targets.sum(0)
        lower = (predicted * (1 - targets)).sum(0) / (1 - targets).sum(0)
    return np.asarray(np.nan_to_num((upper + lower) / 2, nan=0.5))


def balanced_accuracy(predicted: Array, targets: Array) -> Array:
    """Return the mean of the shares of both values that are told rightly, by target; 0.5 is chance."""
    right = (predicted > 0) == (targets > 0.5)
    return np.asarray(
        0.5 * (right * targets).sum(0) / targets.sum(0) + 0.5 * (right * (1 - targets)).sum(0) / (1 - targets).sum(0)
    )


def r_squared(predicted: Array, targets: Array) -> Array:
    """Return the share of the variance of targets ``(N, T)`` that predictions explain; negative where they mislead."""
    return np.asarray(1 - ((targets - predicted) ** 2).sum(0) / ((targets - targets.mean(0)) ** 2).sum(0))


def permuted(values: Array, groups: Sequence[str], runs: int, *, seed: int = 0) -> Array:
    """Return ``(N, runs)`` values dealt out anew, as if the concept had nothing to do with the images.

    Images change places within their group, so that what only tells groups apart (a batch, a patient) stays in the null.
    Where a concept is the same throughout every group, whole groups change places instead; where every image is its own
    group, all do.
    """
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    members = [np.flatnonzero(place == number) for number in range(len(names))]
    random = np.random.default_rng(int.from_bytes(hash_key(seed, "permuted")[:8]))
    found = np.empty((len(values), runs))
    within = any(np.ptp(values[rows]) > 0 for rows in members)
    for run in range(runs):
        if not within:
            first = np.array([values[rows[0]] for rows in members])
            found[:, run] = random.permutation(first)[place]
        else:
            for rows in members:
                found[rows, run] = values[random.permutation(rows)]
    return found
