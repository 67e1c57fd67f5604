"""One concept in one layer for one class: how well it is told, how far the answer hangs on it, and what chance gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from pellucid.concepts.directions import Direction, cleared, pattern, probe, responses
from pellucid.concepts.probing import balanced_accuracy, folds_of, held_out, permuted, r_squared
from pellucid.hashing import hash_key
from pellucid.intervals import share_interval, widening

__all__ = ["Fair", "Judged", "Question", "fair_sensitivity", "judge"]

Array = NDArray[np.float64]
Bounds = tuple[float, float]


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
    outputs
        ``(N,)`` the model's output.
    """

    features: Array
    values: Array
    others: Array
    groups: tuple[str, ...]
    is_set: bool
    outputs: Array


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


@dataclass(frozen=True, eq=False)
class Judged:
    """What was found; the fields are the columns of `ConceptRelevance.table`, and `slopes` one number an image."""

    slopes: Array
    fit: float
    fit_bounds: Bounds
    score: float
    score_bounds: Bounds
    random_score: float
    sensitivity: float
    sensitivity_bounds: Bounds
    br: float | None
    br_bounds: tuple[float | None, float | None]
    fair: Fair
    effect: float
    observed: float
    agreement: float
    p_fit: float
    p_used: float

    def row(self) -> dict[str, Any]:
        """Return the columns."""
        bounded = {
            "fit": (self.fit, self.fit_bounds), "score": (self.score, self.score_bounds),
            "sensitivity": (self.sensitivity, self.sensitivity_bounds), "br": (self.br, self.br_bounds),
        }  # fmt: skip
        columns: dict[str, Any] = {}
        for name, (value, (low, high)) in bounded.items():
            columns |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return columns | {
            "random_score": self.random_score, "fair": self.fair.value, "fair_p": self.fair.p, "effect": self.effect, "observed": self.observed,
            "agreement": self.agreement, "p_fit": self.p_fit, "p_used": self.p_used, "p": max(self.p_fit, self.p_used),
        }  # fmt: skip


def judge(
    question: Question,
    slopes: Array,
    class_groups: Sequence[str],
    direction: Direction,
    *,
    runs: int,
    draws: int,
    seed: int,
) -> Judged:
    """Test one concept in one layer for one class; `slopes` ``(M, D)`` are those of the class's images."""
    features, values = question.features, question.values[:, None]
    dealt = np.hstack([values, permuted(question.values, question.groups, runs, seed=seed)])
    told = held_out(features, dealt, folds_of(question.groups, seed=seed))
    quality = balanced_accuracy if question.is_set else r_squared
    fits = quality(told, dealt)
    vectors = direction.vectors(features, dealt, question.others)
    along = slopes @ vectors
    means, shares = along.mean(0), (along > 0).mean(0)
    resampled = _Resampled.drawn(question, slopes, class_groups, direction, told[:, :1], draws, seed)
    br, br_bounds = resampled.relevance(float(fits[0]), along[:, 0]) if not question.is_set else (None, (None, None))
    effects = means * (vectors * responses(features, cleared(dealt, question.others))).sum(0)
    far = np.abs(effects - effects.mean())
    return Judged(
        slopes=along[:, 0],
        fit=float(fits[0]),
        fit_bounds=resampled.bounds(resampled.fits, float(fits[0])),
        score=float(shares[0]),
        score_bounds=resampled.share_bounds(along[:, 0]),
        random_score=float(shares[1:].mean()),
        sensitivity=float(means[0]),
        sensitivity_bounds=resampled.bounds(resampled.means, float(means[0])),
        br=br,
        br_bounds=br_bounds,
        fair=fair_sensitivity(slopes.mean(0), vectors[:, 0], features),
        effect=float(effects[0]),
        observed=observed(question),
        agreement=_agreement(question, vectors[:, 0], direction),
        p_fit=_share(fits[1:] >= fits[0]),
        p_used=_share(far[1:] >= far[0]),
    )


def observed(question: Question) -> float:
    """Return how much higher the output itself is for one standard deviation more of the concept, others held."""
    return float(responses(question.outputs[:, None], cleared(question.values[:, None], question.others))[0, 0])


def _share(as_much: NDArray[np.bool_]) -> float:
    """Return the p-value of a permutation test: the values as they are count as one way to deal them."""
    return float((1 + as_much.sum()) / (1 + len(as_much)))


def _agreement(question: Question, vector: Array, direction: Direction) -> float:
    other = pattern() if isinstance(direction, probe) else probe()
    return float(vector @ other.vectors(question.features, question.values[:, None], question.others)[:, 0])


@dataclass(frozen=True, eq=False)
class _Resampled:
    """What other samples of groups would have given: both of the images with the concept and of the class's."""

    fits: Array
    means: Array
    shares: Array
    ratios: Array
    groups: int

    @classmethod
    def drawn(
        cls, question: Question, slopes: Array, class_groups: Sequence[str], direction: Direction, told: Array, draws: int,
        seed: int,
    ) -> "_Resampled":  # fmt: skip
        random = np.random.default_rng(int.from_bytes(hash_key(seed, "resampled")[:8]))
        rows = _drawn(question.groups, draws, random)
        rows = [chosen for chosen in rows if np.ptp(question.values[chosen]) > 0] or [np.arange(len(question.values))]
        members = _drawn(class_groups, len(rows), random)
        quality = balanced_accuracy if question.is_set else r_squared
        values = question.values[:, None]
        vectors = direction.resampled(question.features, question.values, question.others, rows)
        along = [slopes[chosen] @ vectors[:, draw] for draw, chosen in enumerate(members)]
        return cls(
            fits=np.array([float(quality(told[chosen], values[chosen])[0]) for chosen in rows]),
            means=np.array([one.mean() for one in along]),
            shares=np.array([(one > 0).mean() for one in along]),
            ratios=np.array([_ratio(one) for one in along]),
            groups=min(len(set(question.groups)), len(set(class_groups))),
        )

    def bounds(self, values: Array, value: float) -> Bounds:
        """Return the 95 % interval, stretched for few groups; NaN for one group."""
        if self.groups < 2:
            return np.nan, np.nan
        low, high = np.quantile(values, [0.025, 0.975])
        wider = widening(self.groups)
        return float(value + wider * (low - value)), float(value + wider * (high - value))

    def share_bounds(self, along: Array) -> Bounds:
        """Return the interval of a share, never narrower than that of so many independent images."""
        known = share_interval(int((along > 0).sum()), len(along))
        low, high = self.bounds(self.shares, known.value)
        return float(max(0.0, min(low, known.low))), float(min(1.0, max(high, known.high)))

    def relevance(self, fit: float, along: Array) -> tuple[float | None, tuple[float | None, float | None]]:
        """Return bidirectional relevance; where unseen images do not bear the concept out it is 0, whatever the sign.

        It is None where all images have the same slope, as before a linear head: then it has no finite value.
        """
        ratio = _ratio(along)
        if not np.isfinite([ratio, *self.ratios]).all():
            return None, (None, None)
        value = max(fit, 0.0) * ratio
        return value, self.bounds(np.maximum(self.fits, 0.0) * self.ratios, value)


def _ratio(along: Array) -> float:
    spread = float(along.std())
    return float(along.mean() / spread) if spread > 1e-6 * float(np.abs(along).max(initial=0.0)) else np.nan


def _drawn(groups: Sequence[str], draws: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    members = [np.flatnonzero(place == number) for number in range(len(names))]
    return [
        np.concatenate([members[number] for number in random.integers(len(names), size=len(names))])
        for _ in range(draws)
    ]
