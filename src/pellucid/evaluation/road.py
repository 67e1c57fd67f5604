"""Faithfulness by removal without telling marks: hidden positions are imputed from what is left (ROAD).

A hole of one colour shows its outline, and the outline alone may tell the class; an imputed one hardly shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.imputation import Imputation
from pellucid.evaluation.mapmetric import PlacedMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile
from pellucid.evaluation.removal import curve
from pellucid.evaluation.subsets import Share

__all__ = ["road"]


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class road(PlacedMetric):
    """How much lower the score is without the most relevant part than without the least relevant: high is right.

    Half the difference, averaged over fractions of the positions; what is removed is imputed from its neighbours with a
    little noise, so that the outline of the hole tells next to nothing. In the target's own unit (logits); compare
    within an image. The scale of the map does not matter.

    Attributes
    ----------
    shares
        Fractions of the positions that are removed.
    order
        ``"both"``; ``"morf"``: the mean fall when the most relevant go first; ``"lerf"``: less the mean fall when the
        least relevant go first. High is right in all three.
    sigma
        Standard deviation of the noise as a fraction of the image's own range.
    """

    shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.1, 0.3, 0.5, 0.7, 0.9)
    order: Literal["both", "morf", "lerf"] = "both"
    sigma: Annotated[float, Field(ge=0)] = 0.01

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="the model needs what the map marks more than what it leaves out, whatever the hole looks like",
        chance="0 with both orders",
        cost="2 × len(shares) forwards an image and method, half of it with one order",
        failure="smooth structures come back by imputation, so broad evidence looks unneeded; blind to the scale of values",
        reference="Rong et al. 2022, A consistent and efficient evaluation strategy for attribution methods, ICML",
    )

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Score every map; inputs without neighbours have no score."""
        try:
            bench.fill(Imputation(self.sigma))
        except ShapeError as error:
            return [Outcome.missing(len(bench), str(error)) for _ in bench.explanations]
        return super().score(bench)

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Average over the fractions."""
        whole = bench.output(index)
        value = {
            "both": lambda: (self._mean(bench, index, keep=True) - self._mean(bench, index, keep=False)) / 2,
            "morf": lambda: whole - self._mean(bench, index, keep=False),
            "lerf": lambda: self._mean(bench, index, keep=True) - whole,
        }[self.order]()
        level = torch.zeros(len(value)) if self.order == "both" else None
        value = torch.where(value.isfinite(), value, torch.nan)
        return Outcome.of(value, "the model's score is not finite on the changed images", level)

    def _mean(self, bench: Bench, index: int, *, keep: bool) -> Tensor:
        """Return the mean score with parts removed, of all methods at once: the most relevant, or all but those kept."""
        length = len(bench.grid)
        gone = [min(max(1, round(share * length)), length - 1) for share in self.shares]
        counts = [length - count for count in gone] if keep else gone
        return curve(bench, counts, Imputation(self.sigma), keep=keep)[index].mean(1)
