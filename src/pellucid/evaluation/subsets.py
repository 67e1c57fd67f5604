"""Faithfulness by hiding subsets, random or patches: a right map's sum over what is hidden tells how the score falls.

The subsets do not depend on the map: they are drawn and sent through the model once an image for all methods.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.hiding import Hidden, hide_patches, hide_random
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.statistics import pearson

__all__ = [
    "HiddenMetric", "OneSizeMetric", "Share", "SubsetMetric", "faithfulness_correlation", "faithfulness_estimate",
    "infidelity", "sensitivity_n",
]  # fmt: skip

Share = Annotated[float, Field(gt=0, lt=1)]
"""A fraction of the positions of an image."""

_UNDEFINED = "the map's sums or the model's score do not change over the hidden subsets"


@dataclass(frozen=True, kw_only=True, repr=False)
class HiddenMetric(Metric):
    """A metric that compares a map's sums over hidden subsets with the drops of the score.

    Attributes
    ----------
    fill
        What takes the place of hidden positions; ``"mean"`` is the image's own mean of each channel, which leaves the
        image's brightness as it is.
    """

    fill: Fill = "mean"

    @abstractmethod
    def hidden(self, bench: Bench) -> list[Hidden]:
        """Return what hiding gives, one for each size of subset, shared by all that ask for the same."""

    def compare(self, sums: Tensor, drops: Tensor, noise: Tensor) -> Tensor:
        """Return one number ``(N,)`` for a map's sums and the drops, both ``(N, samples)``: their correlation."""
        return pearson(sums, drops, noise)

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Compare every map with the same hidden subsets; the mean over sizes of what is defined."""
        if len(bench.grid) < 2:
            reason = "an image of one position has no subsets"
            return [Outcome.missing(len(bench), reason) for _ in bench.explanations]
        hidden = self.hidden(bench)
        return [self._outcome(bench, index, hidden) for index in range(len(bench.explanations))]

    def _outcome(self, bench: Bench, index: int, hidden: Sequence[Hidden]) -> Outcome:
        if bench.maps[index].reason:
            return Outcome.missing(len(bench), bench.maps[index].reason)
        each = torch.stack(
            [
                self.compare(size.sums[index], bench.own(size.drops, index), bench.own(size.noise, index))
                for size in hidden
            ]
        )
        level = self.profile.range[1] if self.profile.direction == "lower" else 0.0
        return Outcome.of(each.nanmean(0), _UNDEFINED, torch.full((len(bench),), level))


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class faithfulness_estimate(HiddenMetric):
    """Correlation, over square patches hidden one at a time, of the map's sum with the fall of the score.

    With as many segments as positions it is the published form, position by position. The scales of map and score do
    not matter.

    Attributes
    ----------
    segments
        About how many patches an image has.
    """

    segments: Annotated[int, Field(ge=3)] = 64

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        measures="the map tells how much the model's score falls when one small part of the image is hidden",
        chance="0",
        cost="segments forwards an image, shared by all methods",
        failure="one part at a time: blind to evidence that is there twice, and to parts that count only together",
        reference="Alvarez-Melis and Jaakkola 2018, Towards robust interpretability with self-explaining neural "
        "networks, NeurIPS",
    )

    def hidden(self, bench: Bench) -> list[Hidden]:
        """Hide every patch alone."""
        key = ("patches hidden", self.segments, self.fill)
        return [bench.once(key, partial(hide_patches, bench, self.segments, self.fill))]


@dataclass(frozen=True, kw_only=True, repr=False)
class SubsetMetric(HiddenMetric):
    """A metric over random subsets of given sizes.

    Attributes
    ----------
    samples
        Subsets a size.
    """

    samples: Annotated[int, Field(ge=3)] = 64

    version: ClassVar[int] = 2

    @abstractmethod
    def sizes(self) -> tuple[float, ...]:
        """Return the sizes of the subsets as fractions of the positions."""

    def hidden(self, bench: Bench) -> list[Hidden]:
        """Hide random subsets of each size."""
        return [
            bench.once(
                ("subsets", share, self.samples, self.fill),
                partial(hide_random, bench, share, self.samples, self.fill),
            )
            for share in self.sizes()
        ]


@dataclass(frozen=True, kw_only=True, repr=False)
class OneSizeMetric(SubsetMetric):
    """A metric over random subsets of one size.

    Attributes
    ----------
    share
        Size of a subset as a fraction of the positions.
    """

    share: Share = 0.1

    def sizes(self) -> tuple[float, ...]:
        """Return the one size."""
        return (self.share,)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class faithfulness_correlation(OneSizeMetric):
    """Correlation, over random subsets of one size, of the map's sum with the fall of the score when they are hidden."""

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        measures="the map tells how much the model's score falls when random parts of the image are hidden",
        chance="0",
        cost="samples forwards an image, shared by all methods",
        failure="scattered hidden pixels look like no real image; depends on the fill and the size of the subsets",
        reference="Bhatt, Weller and Moura 2020, Evaluating and aggregating feature-based model explanations, IJCAI",
    )


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class sensitivity_n(SubsetMetric):
    """The same correlation for several sizes n of subsets, averaged: 1 only where the map adds up at every scale.

    Attributes
    ----------
    shares
        Sizes n as fractions of the positions.
    samples
        Subsets a size.
    """

    shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.02, 0.1, 0.25, 0.5, 0.75)
    samples: Annotated[int, Field(ge=3)] = 32

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        measures="sums of the map tell how much the score falls, for small and large hidden parts alike",
        chance="0",
        cost="len(shares) × samples forwards an image, shared by all methods",
        failure="large subsets leave no image the model knows; correlations over few subsets are noisy",
        reference="Ancona et al. 2018, Towards better understanding of gradient-based attribution methods, ICLR",
    )

    def sizes(self) -> tuple[float, ...]:
        """Return all sizes."""
        return self.shares


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class infidelity(OneSizeMetric):
    """Mean squared error of the map's sums as a forecast of the falls, after the best positive rescaling of the map.

    Divided by the mean squared fall: 0 is a perfect forecast, 1 is no better than the forecast "nothing changes".
    """

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="lower",
        range=(0.0, 1.0),
        measures="the map, suitably scaled, forecasts the fall of the score when random parts are hidden",
        chance="1",
        cost="samples forwards an image, shared by all methods and with faithfulness_correlation",
        failure="where every subset lowers the score alike, any positive map forecasts well",
        reference="Yeh et al. 2019, On the (in)fidelity and sensitivity of explanations, NeurIPS",
    )

    def compare(self, sums: Tensor, drops: Tensor, noise: Tensor) -> Tensor:
        """Return the squared error of the best positive forecast in parts of the squared drops."""
        total = drops.square().sum(1)
        undefined = (drops.abs().amax(1) <= noise) | (sums.abs().amax(1) == 0)
        shared = (sums * drops).sum(1).clamp_min(0).square() / sums.square().sum(1).clamp_min(1e-300)
        return torch.where(undefined, torch.nan, 1 - shared / total.clamp_min(1e-300))
