"""Metrics that read nothing but the map at image positions, one explanation after the other."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import Metric, Outcome

__all__ = ["PlacedMetric"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PlacedMetric(Metric):
    """A metric of maps that have a place on the image; those that have none get no score, with the reason."""

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Score every map that has a place on the image."""
        return [
            Outcome.missing(len(bench), placed.reason) if placed.reason else self.score_one(bench, index)
            for index, placed in enumerate(bench.maps)
        ]

    @abstractmethod
    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Score the explanation at `index`."""
