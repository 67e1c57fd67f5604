"""One concept in one layer: how well it is told, along which direction, and the same for random concepts and samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.concepts.directions import Direction, cleared, pattern, probe, responses
from pellucid.concepts.probing import balanced_accuracy, folds_of, held_out, permuted, r_squared
from pellucid.hashing import hash_key

__all__ = ["Question", "Reading", "resampled_rows", "stream"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Question:
    """A concept where it is known.

    Attributes
    ----------
    features
        ``(N, D)`` of the layer.
    values
        ``(N,)`` of the concept.
    others
        ``(N, K)`` of the concepts to hold still.
    groups
        The independent unit of each image.
    is_set
        Whether it is present or absent rather than measured.
    """

    features: Array
    values: Array
    others: Array
    groups: tuple[str, ...]
    is_set: bool


@dataclass(frozen=True, eq=False)
class Reading:
    """What the layer says of a concept, whatever is asked of it later.

    Attributes
    ----------
    question
        The concept.
    fits
        ``(1 + R,)`` how well unseen images tell it, and each of R random concepts: balanced accuracy, or R².
    vectors
        ``(D, 1 + R)`` unit directions.
    moved
        ``(1 + R,)`` how far the layer moves along each for one standard deviation of its concept, held ones still.
    resampled_fits, resampled_vectors
        ``(B,)``, ``(D, B)`` of the concept on other samples of groups.
    agreement
        Cosine of probe and pattern.
    """

    question: Question
    fits: Array
    vectors: Array
    moved: Array
    resampled_fits: Array
    resampled_vectors: Array
    agreement: float

    @classmethod
    def of(cls, question: Question, direction: Direction, *, runs: int, draws: int, seed: int) -> "Reading":
        """Fit probe and direction to the concept, to `runs` random ones and to `draws` other samples."""
        features, values, others = question.features, question.values[:, None], question.others
        quality = balanced_accuracy if question.is_set else r_squared
        dealt = np.hstack([values, permuted(question.values, question.groups, runs, seed=seed)])
        told = held_out(features, dealt, folds_of(question.groups, seed=seed))
        vectors = direction.vectors(features, dealt, others)
        rows = _varied(question, resampled_rows(question.groups, draws, stream(seed, "concepts")))
        other = pattern() if isinstance(direction, probe) else probe()
        return cls(
            question=question,
            fits=quality(told, dealt),
            vectors=vectors,
            moved=(vectors * responses(features, cleared(dealt, others))).sum(0),
            resampled_fits=np.array([float(quality(told[one, :1], values[one])[0]) for one in rows]),
            resampled_vectors=direction.resampled(features, question.values, others, rows),
            agreement=float(vectors[:, 0] @ other.vectors(features, values, others)[:, 0]),
        )

    def observed(self, outputs: Array) -> float:
        """Return how much higher outputs ``(N,)`` are for one standard deviation more of the concept, others held."""
        return float(responses(outputs[:, None], cleared(self.question.values[:, None], self.question.others))[0, 0])


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream of one purpose."""
    return np.random.default_rng(int.from_bytes(hash_key(seed, purpose)[:8]))


def resampled_rows(groups: Sequence[str], draws: int, random: np.random.Generator) -> list[Rows]:
    """Return the rows of `draws` samples of whole groups with replacement."""
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    members = [np.flatnonzero(place == number) for number in range(len(names))]
    return [
        np.concatenate([members[number] for number in random.integers(len(names), size=len(names))])
        for _ in range(draws)
    ]


def _varied(question: Question, rows: list[Rows]) -> list[Rows]:
    """Leave out samples in which the concept is the same everywhere."""
    return [one for one in rows if np.ptp(question.values[one]) > 0] or [np.arange(len(question.values))]
