"""One concept in one layer for one class: how far the answer hangs on it, and what chance gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.concepts.fairness import Fair, fair_sensitivity
from pellucid.concepts.reading import Reading, resampled_rows, stream
from pellucid.intervals import share_interval, widening

__all__ = ["Judged", "judge"]

Array = NDArray[np.float64]
Bounds = tuple[float, float]


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


def judge(reading: Reading, slopes: Array, groups: Sequence[str], outputs: Array, *, seed: int) -> Judged:
    """Test one concept in one layer for one class.

    Parameters
    ----------
    reading
        What the layer says of the concept.
    slopes
        ``(M, D)`` of the class's images.
    groups
        The independent unit of each of these.
    outputs
        ``(N,)`` the class's score of the images in which the concept is known.
    seed
        Of the bootstrap.
    """
    along = slopes @ reading.vectors
    means, shares = along.mean(0), (along > 0).mean(0)
    effects = means * reading.moved
    far = np.abs(effects - effects.mean())
    own, fits = along[:, 0], reading.fits
    samples = _Samples.drawn(reading, slopes, groups, seed)
    br, br_bounds = (None, (None, None)) if reading.question.is_set else samples.relevance(float(fits[0]), own)
    return Judged(
        slopes=own,
        fit=float(fits[0]),
        fit_bounds=samples.bounds(reading.resampled_fits, float(fits[0])),
        score=float(shares[0]),
        score_bounds=samples.share_bounds(own),
        random_score=float(shares[1:].mean()),
        sensitivity=float(means[0]),
        sensitivity_bounds=samples.bounds(samples.means, float(means[0])),
        br=br,
        br_bounds=br_bounds,
        fair=fair_sensitivity(slopes.mean(0), reading.vectors[:, 0], reading.question.features),
        effect=float(effects[0]),
        observed=reading.observed(outputs),
        agreement=reading.agreement,
        p_fit=_share(fits[1:] >= fits[0]),
        p_used=_share(far[1:] >= far[0]),
    )


def _share(as_much: NDArray[np.bool_]) -> float:
    """Return the p-value of a permutation test: the values as they are count as one way to deal them."""
    return float((1 + as_much.sum()) / (1 + len(as_much)))


@dataclass(frozen=True, eq=False)
class _Samples:
    """What other samples of groups would have given: both of the images with the concept and of the class's."""

    fits: Array
    means: Array
    shares: Array
    ratios: Array
    groups: int

    @classmethod
    def drawn(cls, reading: Reading, slopes: Array, groups: Sequence[str], seed: int) -> "_Samples":
        vectors = reading.resampled_vectors
        members = resampled_rows(groups, vectors.shape[1], stream(seed, "class images"))
        along = [slopes[chosen] @ vectors[:, draw] for draw, chosen in enumerate(members)]
        return cls(
            fits=reading.resampled_fits,
            means=np.array([one.mean() for one in along]),
            shares=np.array([(one > 0).mean() for one in along]),
            ratios=np.array([_ratio(one) for one in along]),
            groups=min(len(set(reading.question.groups)), len(set(groups))),
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
