"""Faithfulness by removal: the score while positions go, most relevant first, and the area under that curve.

A curve starts at the untouched image; its area is averaged over the removed fraction, so it does not grow with the
number of steps.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.removal import curve
from pellucid.evaluation.statistics import NOISE, spearman

__all__ = ["CurveMetric", "StepCurve", "deletion", "insertion", "monotonicity", "pixel_flipping"]


def _counts(length: int, steps: int, until: float) -> list[int]:
    """Return how many positions have changed at each step, from none to the fraction `until`."""
    return sorted({round(until * length * step / steps) for step in range(steps + 1)})


@dataclass(frozen=True, kw_only=True, repr=False)
class CurveMetric(Metric):
    """A metric of the score's curve while parts of the image are removed or brought back in the map's order.

    Attributes
    ----------
    fill
        What takes the place of removed positions.
    """

    fill: Fill = "mean"

    keep: ClassVar[bool] = False
    undefined: ClassVar[str] = "the model's score is not finite on the changed images"

    @abstractmethod
    def curves(self, bench: Bench) -> dict[int, tuple[Tensor, Tensor]]:
        """Return for every map that has a place its scores ``(N, K)`` and the changed fractions, of the same shape."""

    def read(self, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the number ``(N,)`` that a curve comes to: the mean score over the changed fraction."""
        return torch.trapezoid(scores, shares, dim=1)

    def chance(self) -> float | None:
        """Return what an uninformed map scores, where that is known."""
        return None

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Read the curve of every map, all maps and steps sent through the model together."""
        curves = self.curves(bench)
        return [
            self._outcome(*curves[index]) if index in curves else Outcome.missing(len(bench), placed.reason)
            for index, placed in enumerate(bench.maps)
        ]

    def _outcome(self, scores: Tensor, shares: Tensor) -> Outcome:
        value, level = self.read(scores, shares.to(scores)), self.chance()
        chance = None if level is None else torch.full((len(value),), level)
        return Outcome.of(torch.where(value.isfinite(), value, torch.nan), self.undefined, chance)


@dataclass(frozen=True, kw_only=True, repr=False)
class StepCurve(CurveMetric):
    """A curve over positions, in even steps.

    Attributes
    ----------
    steps
        Points of the curve after the first, evenly spaced.
    """

    steps: Annotated[int, Field(ge=1)] = 16

    def _until(self) -> float:
        return 1.0

    def curves(self, bench: Bench) -> dict[int, tuple[Tensor, Tensor]]:
        """Change positions in the map's order up to the last fraction."""
        counts = _counts(len(bench.grid), self.steps, self._until())
        shares = torch.tensor(counts, dtype=torch.float64) / max(counts[-1], 1)
        found = curve(bench, counts, self.fill, keep=self.keep)
        return {index: (scores, shares.expand_as(scores)) for index, scores in found.items()}


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deletion(StepCurve):
    """Mean score of the target while all positions are removed, most relevant first: low where the map is right.

    In the target's own unit (logits); compare within an image.
    """

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="lower",
        range=(-torch.inf, torch.inf),
        measures="removing what the map marks makes the model's score fall early",
        cost="steps forwards an image and method",
        failure="half-removed images are unlike any the model knows; the winner changes with fill and order",
        reference="Petsiuk, Das and Saenko 2018, RISE: randomized input sampling for explanation, BMVC",
    )


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class insertion(StepCurve):
    """Mean score of the target while positions are brought back onto a blurred image, most relevant first: high is right.

    In the target's own unit (logits); compare within an image.
    """

    fill: Fill = "blur"

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="what the map marks is enough to bring the model's score back early",
        cost="steps forwards an image and method",
        failure="compact maps win over scattered ones of the same truth; a blurred image still holds large structures",
        reference="Petsiuk, Das and Saenko 2018, RISE: randomized input sampling for explanation, BMVC",
    )
    keep: ClassVar[bool] = True


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pixel_flipping(StepCurve):
    """Mean fall of the score while the most relevant first part of the positions is removed: high is right.

    In the target's own unit (logits); compare within an image.

    Attributes
    ----------
    until
        Fraction of the positions at which the curve ends; the start of a curve tells maps apart, its end does not.
    steps
        Points of the curve after the first; at a quarter and 4 steps they are points of `deletion` with 16.
    """

    steps: Annotated[int, Field(ge=1)] = 4
    until: Annotated[float, Field(gt=0, le=1)] = 0.25

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="the few most marked positions carry most of the model's score",
        cost="steps forwards an image and method, shared with deletion where fill and fractions agree",
        failure="half-removed images are unlike any the model knows; the winner changes with fill and order",
        reference="Bach et al. 2015, On pixel-wise explanations by layer-wise relevance propagation, PLOS ONE; "
        "Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS",
    )

    def _until(self) -> float:
        return self.until

    def read(self, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the mean fall."""
        return scores[:, 0] - torch.trapezoid(scores, shares, dim=1)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class monotonicity(StepCurve):
    """Whether positions add the more to the score, the more relevant the map calls them: 1 where always.

    Rank correlation, over the steps in which positions are brought back least relevant first, of the step's place with
    how much the score rises in it, a position. The published test asks only whether the score never falls, which every
    order passes where nothing counts against the class; this one grades the rises. The scales of map and score do not
    matter.
    """

    undefined: ClassVar[str] = "the model's score changes alike in every step, or is not finite"

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        measures="parts of the image that the map calls more relevant add more to the model's score",
        chance="0",
        cost="steps forwards an image and method, shared with deletion where fill and steps agree",
        failure="looks at the order only; half-removed images are unlike any the model knows",
        reference="Arya et al. 2019, One explanation does not fit all: a toolkit and taxonomy of AI explainability "
        "techniques; Nguyen and Martínez 2020, On quantitative aspects of model interpretability",
    )

    def chance(self) -> float:
        """Return nought."""
        return 0.0

    def read(self, scores: Tensor, shares: Tensor) -> Tensor:
        """Correlate the place of a step on the way down with the rise that undoing it gives."""
        rises = -scores.diff(dim=1) / shares.diff(dim=1)
        noise = NOISE * scores.abs().amax(1, keepdim=True) / shares.diff(dim=1).amin(1, keepdim=True)
        steps = torch.arange(rises.shape[1], 0, -1, dtype=rises.dtype, device=rises.device).expand_as(rises)
        return spearman(steps, (rises / noise.clamp_min(torch.finfo(rises.dtype).tiny)).round())
