"""Agreement: whether methods mark the same positions; many may agree and be wrong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.statistics import average_ranks, pearson

__all__ = ["rank_agreement"]


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class rank_agreement(Metric):
    """Rank correlation of the map's magnitudes with the consensus of the other methods on the same image.

    The consensus is the mean of the other maps' magnitudes after each was turned into ranks, over methods with the same
    target, controls left out. A score therefore depends on which methods stand beside each other.
    """

    profile: ClassVar[Profile] = Profile(
        family="agreement",
        direction="higher",
        range=(-1.0, 1.0),
        measures="the map marks the positions that the other methods mark",
        chance="0",
        failure="near copies of one method agree with each other; agreement is no truth",
        reference="Krishna et al. 2022, The disagreement problem in explainable machine learning",
    )

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Correlate each map's ranks with the mean ranks of the others."""
        ranks: dict[int, Tensor] = {
            index: average_ranks(placed.values.abs()) for index, placed in enumerate(bench.maps) if not placed.reason
        }
        return [self._outcome(bench, index, ranks) for index in range(len(bench.maps))]

    @staticmethod
    def _outcome(bench: Bench, index: int, ranks: dict[int, Tensor]) -> Outcome:
        if index not in ranks:
            return Outcome.missing(len(bench), bench.maps[index].reason)
        others = [
            ranks[other]
            for other in ranks
            if other != index and not bench.control(other) and bench.same_target(index, other)
        ]
        if not others:
            return Outcome.missing(len(bench), "there is no other method with the same target to agree with")
        consensus = average_ranks(torch.stack(others).mean(0))
        correlation = pearson(ranks[index], consensus)
        return Outcome.of(correlation, "the map or the consensus is constant", torch.zeros(len(bench)))
