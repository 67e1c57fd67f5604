"""Axioms: whether a map keeps the promise that its method makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from pellucid.attribution import Explanation
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.statistics import scale_of_fall

__all__ = ["completeness_gap"]


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class completeness_gap(Metric):
    """Part of f(x) − f(reference) that the map's sum fails to give back, for methods that promise to.

    The gap |Σ values + what biases took − (f(x) − f(reference))| divided by
    max(|f(x) − f(reference)|, 0.05 (|f(x)| + |f(reference)|)).
    """

    profile: ClassVar[Profile] = Profile(
        family="axiom",
        direction="lower",
        range=(0.0, torch.inf),
        measures="the map accounts for the whole difference between this image and the reference",
        failure="a wrong map may add up; a large gap tells that steps or samples are too few",
        reference="Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks, ICML",
        needs=("method",),
        resolution=1e-4,
    )

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Scale each explanation's own gap."""
        return [self._outcome(explanation) for explanation in bench.explanations]

    @staticmethod
    def _outcome(explanation: Explanation) -> Outcome:
        if explanation.gap is None:
            return Outcome.missing(len(explanation), "the method does not promise that its values add up to anything")
        after = explanation.output.double()
        before = torch.zeros_like(after)
        if explanation.reference_output is not None:
            before = explanation.reference_output.double()
        scale = scale_of_fall(after, before)
        gap = torch.where(scale > 0, explanation.gap.double() / scale, torch.nan)
        return Outcome.of(gap, "the target's value is zero at the image and at the reference")
