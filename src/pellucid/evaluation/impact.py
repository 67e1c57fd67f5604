"""Impact: whether the part of the image that a map calls critical carries the decision, and whether a part that does is found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.localisation import MaskMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile
from pellucid.evaluation.subsets import Share
from pellucid.evaluation.toppart import TopMetric
from pellucid.models import Inputs, targets

__all__ = ["impact_coverage", "impact_score"]

_LIN = (
    "Lin et al. 2019, Do explanations reflect decisions? A machine-centric strategy to quantify the performance of "
    "explainability algorithms"
)
_UNDECIDED = "the model does not decide on the explained class"
_NO_CLASS = "the target is no class, so there is no decision to flip"

Decide = Callable[[Tensor, Tensor], Tensor]


def _decisions(bench: Bench, index: int) -> Decide | None:
    """Return what reads ``(2, B)`` the class's probability and whether it is decided on, or None for other targets."""
    target = bench.explanations[index].target
    if not isinstance(target, targets.Class | targets.LogOdds) or not bench.decides(target):
        return None
    own = targets.Class(target.index).freeze(bench.passes.model, bench.plain())
    odds = targets.LogOdds(target.index).freeze(bench.passes.model, bench.plain())

    def decide(outputs: Tensor, rows: Tensor) -> Tensor:
        rival = outputs.amax(1) if outputs.shape[1] > 1 else outputs.new_zeros(len(outputs))
        return torch.stack([odds(outputs, rows).double().sigmoid(), (own(outputs, rows) >= rival).double()])

    return decide


def _hits(bench: Bench, hidden: Tensor, fill: Fill, cut: float, decide: Decide) -> Tensor:
    """Return 1 where hiding those positions ``(N, P)`` flips or cuts the decision, 0 where not, NaN where there is none."""
    rows = torch.arange(len(bench), device=bench.inputs[0].device)

    def read(inputs: Inputs, rows: Tensor) -> Tensor:
        return decide(bench.passes.outputs(inputs), rows)

    sure, chosen = decide(bench.plain(), rows)
    surer, still = bench.hidden(rows, fill, hidden.__getitem__, read)
    return torch.where(chosen > 0, ((still == 0) | (surer < cut * sure)).double(), torch.nan)


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
        cost="1 forward an image and method",
        failure="yes or no: needs many images; any large hole may flip a decision, so hold it against a random map",
        reference=_LIN,
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Compare class and confidence before and after."""
        decide = _decisions(bench, index)
        if decide is None:
            return Outcome.missing(len(bench), _NO_CLASS)
        top = bench.order(index) < self.count(bench)
        return Outcome.of(_hits(bench, top, self.fill, self.cut, decide), _UNDECIDED)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class impact_coverage(MaskMetric):
    """Overlap (intersection over union) of the most relevant positions with a region that was seen to carry the decision.

    The masks are regions that may have caused the decision, such as a planted or adversarial patch. An image counts only
    where replacing the masked region flips the decision or cuts its confidence, so that the region is known to matter;
    as many positions are taken as the region has. The scale of the map does not matter.

    Attributes
    ----------
    fill
        What takes the region's place.
    cut
        The confidence counts as cut below this part of what it was.
    """

    fill: Fill = "mean"
    cut: Share = 0.5

    undefined: ClassVar[str] = "replacing the masked region changes no decision on the explained class"

    profile: ClassVar[Profile] = Profile(
        family="localisation",
        direction="higher",
        range=(0.0, 1.0),
        measures="the map covers the region that the decision was shown to hang on",
        chance="the overlap expected of as many random positions (ratio of expected sizes)",
        cost="1 forward an image and annotator for all methods of a target",
        failure="other regions may carry the decision too; the hole itself may flip it, whatever was there",
        reference=_LIN,
        needs=("masks",),
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Average the overlaps with every annotator's region that matters."""
        if bench.masks and _decisions(bench, index) is None:
            return Outcome.missing(len(bench), _NO_CLASS)
        return super().score_one(bench, index)

    def fitting(self, bench: Bench, index: int, annotator: str, masks: Sequence[Tensor | None]) -> Tensor:
        """Leave out images whose region does not matter."""
        decide = _decisions(bench, index)
        if decide is None:
            return super().fitting(bench, index, annotator, masks)
        nothing = torch.zeros(len(bench.grid), dtype=torch.bool)
        hidden = torch.stack([nothing if mask is None else mask for mask in masks])
        key = ("impact", annotator, self.fill, self.cut, bench.explanations[index].target)
        return bench.once(key, lambda: _hits(bench, hidden, self.fill, self.cut, decide)).cpu() == 1

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  # the order says it all
        """Divide the common part by the union."""
        top = order < mask.sum(1, keepdim=True)
        return (top & mask).sum(1).double() / (top | mask).sum(1)

    def chance(self, mask: Tensor) -> Tensor:
        """Return the overlap of random positions."""
        share = mask.double().mean(1)
        return share / (2 - share)
