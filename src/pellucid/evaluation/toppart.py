"""Faithfulness of the most relevant part, a fixed fraction of the positions: removed, or kept alone."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.mapmetric import PlacedMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile
from pellucid.evaluation.removal import curve, replaced
from pellucid.evaluation.statistics import scale_of_fall
from pellucid.evaluation.subsets import Share

__all__ = ["TopMetric", "prediction_gap", "sufficiency"]

_UNDEFINED = "the model's score is zero or not finite with and without the image"


@dataclass(frozen=True, kw_only=True, repr=False)
class TopMetric(PlacedMetric):
    """A metric of the most relevant part of the image.

    Attributes
    ----------
    share
        Its size as a fraction of the positions.
    fill
        What takes the place of removed positions.
    """

    share: Share = 0.25
    fill: Fill = "mean"

    def count(self, bench: Bench) -> int:
        """Return the number of positions in the part: at least one, never all."""
        length = len(bench.grid)
        return max(1, min(round(self.share * length), length - 1))

    def changed(self, bench: Bench, *, keep: bool) -> dict[int, Tensor]:
        """Return every map's score ``(N,)`` with the part removed or kept alone; points of the shared curves."""
        found = curve(bench, [self.count(bench)], self.fill, keep=keep)
        return {index: scores[:, 0] for index, scores in found.items()}


def _finite(values: Tensor) -> Outcome:
    return Outcome.of(torch.where(values.isfinite(), values, torch.nan), _UNDEFINED)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class prediction_gap(TopMetric):
    """Fall of the score without the most relevant part, less its fall without all the rest: high is right.

    The gap on important features less the gap on unimportant ones, with their signs, in the target's own unit (logits);
    compare within an image. The scale of the map does not matter.
    """

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="the model needs the part that the map marks and does not need the rest",
        cost="2 forwards an image and method, shared with deletion and insertion where fill and fraction agree",
        failure="one size of the part decides; half-removed images are unlike any the model knows",
        reference="Agarwal et al. 2022, OpenXAI: towards a transparent evaluation of model explanations, NeurIPS",
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Hold the image without the part against the part alone."""
        without, alone = self.changed(bench, keep=False), self.changed(bench, keep=True)
        return _finite(alone[index] - without[index])


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class sufficiency(TopMetric):
    """How much of the score the most relevant part alone brings back onto the replaced image: 1 is all of it.

    (f(part alone) − f(all replaced)) divided by |f(x) − f(all replaced)|, or by 0.05 (|f(x)| + |f(all replaced)|) where
    that is larger. The published forms compare with other images that share the explanation, or give the missing part
    in units of the score; this one reads one image, and the scales of map and score do not matter.
    """

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="what the map marks is enough for the model's score",
        cost="1 forward an image and method, shared with prediction_gap; 1 an image for all methods",
        failure="negative evidence is left out, so the part alone may score above 1; depends on the fill",
        reference="DeYoung et al. 2020, ERASER: a benchmark to evaluate rationalized NLP models, ACL",
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Divide what the part brings back by the whole."""
        nothing, whole = bench.own(replaced(bench, self.fill), index), bench.output(index)
        return _finite((self.changed(bench, keep=True)[index] - nothing) / scale_of_fall(whole, nothing))
