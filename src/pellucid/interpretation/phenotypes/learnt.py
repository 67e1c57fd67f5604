"""Whether a model learnt anything of its classes: what it follows is biology only then."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import ShapeError
from pellucid.intervals import Interval, resampled_interval

__all__ = ["LEAST_SKILL", "skill"]

LEAST_SKILL = 0.05
"""Skill that the 95 % interval must leave below it: a model knows its classes where that is sure, and no trifle."""


def skill(
    labels: Sequence[int], predicted: Sequence[int], *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Interval:
    """Return by how much a model beats chance on images that it was not trained on: 0 is chance, 1 is always right.

    The mean of the classes' recalls (balanced accuracy), less what guessing gives, over what is left above that; for two
    classes Youden's index (Cancer 3, 32-35, 1950). A net of shuffled labels follows something, as every net does; what it
    follows may be said of its classes only where the interval lies above `LEAST_SKILL`, which guessing reaches in less than
    2.5 % of trials.

    Parameters
    ----------
    labels, predicted
        Class numbers, one an image.
    groups
        The independent unit of each image; default: every image is one.
    seed
        Of the bootstrap.

    Raises
    ------
    ShapeError
        When there are not as many labels as predictions, or fewer than two classes.
    """
    truth, said = np.asarray(labels), np.asarray(predicted)
    classes = np.unique(truth)
    if truth.shape != said.shape or len(classes) < 2:
        raise ShapeError(
            f"skill() compares as many labels as predictions, of two classes or more, not {truth.shape} and {said.shape}"
        )

    def measure(rows: NDArray[np.int64]) -> float:
        recalls = [
            float((said[rows][truth[rows] == one] == one).mean()) for one in classes if (truth[rows] == one).any()
        ]
        chance = 1 / len(classes)
        return (float(np.mean(recalls)) - chance) / (1 - chance) if len(recalls) == len(classes) else float("nan")

    return resampled_interval(measure, list(range(len(truth))) if groups is None else groups, seed=seed)
