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
from pellucid.models import Inputs, targets

__all__ = ["TopMetric", "impact_score", "prediction_gap", "sufficiency"]

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


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class impact_score(TopMetric):
    """Whether removing the most relevant part flips the decision or cuts its confidence: 1 or 0; the mean is the score.

    Only for the class that the model decides on; with one logit, unless the model's task is regression, the decision is
    its sign. The scale of the map does not matter, that of the logits does.

    Attributes
    ----------
    cut
        The confidence counts as cut below this part of what it was.
    """

    share: Share = 0.1
    cut: Share = 0.5

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(0.0, 1.0),
        measures="without the part that the map marks the model decides otherwise, or is far less sure",
        cost="1 forward an image and method, and 1 an image for all",
        failure="yes or no: needs many images; any large hole may flip a decision, so hold it against a random map",
        reference="Lin et al. 2019, Do explanations reflect decisions? A machine-centric strategy to quantify the "
        "performance of explainability algorithms",
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Compare class and confidence before and after."""
        target = bench.explanations[index].target
        plain = bench.once("plain outputs", lambda: bench.passes.outputs(bench.inputs))
        amount = isinstance(target, targets.Output) and plain.shape[1] > 1
        amount |= bench.passes.model.task == "regression"
        if amount or not isinstance(target, targets.Class | targets.LogOdds):
            return Outcome.missing(len(bench), "the target is no class, so there is no decision to flip")
        rows = torch.arange(len(bench), device=bench.inputs[0].device)
        own = targets.Class(target.index).freeze(bench.passes.model, plain)
        odds = targets.LogOdds(target.index).freeze(bench.passes.model, plain)

        def decide(outputs: Tensor, rows: Tensor) -> Tensor:
            rival = outputs.amax(1) if outputs.shape[1] > 1 else outputs.new_zeros(len(outputs))
            return torch.stack([odds(outputs, rows).double().sigmoid(), (own(outputs, rows) >= rival).double()])

        def read(inputs: Inputs, rows: Tensor) -> Tensor:
            return decide(bench.passes.outputs(inputs), rows)

        top = bench.order(index) < self.count(bench)
        sure, chosen = decide(plain, rows)
        surer, still = bench.hidden(rows, self.fill, top.__getitem__, read)
        hit = (still == 0) | (surer < self.cut * sure)
        return Outcome.of(
            torch.where(chosen > 0, hit.double(), torch.nan), "the model does not decide on the explained class"
        )
