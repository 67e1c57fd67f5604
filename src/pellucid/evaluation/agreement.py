"""Agreement: whether methods mark the same positions; many may agree and be wrong together."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.method import Method
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.mapmetric import PlacedMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile
from pellucid.evaluation.positions import orders
from pellucid.evaluation.statistics import average_ranks, pearson
from pellucid.evaluation.subsets import Share

__all__ = [
    "AgreementMetric", "TopAgreement", "feature_agreement", "rank_agreement", "sign_agreement", "signed_rank_agreement",
    "top_rank_agreement",
]  # fmt: skip

_DISAGREEMENT = "Krishna et al. 2022, The disagreement problem in explainable machine learning"
_COPIES = "near copies of one method agree with each other; agreement is no truth"


@dataclass(frozen=True, kw_only=True, repr=False)
class AgreementMetric(PlacedMetric):
    """A metric that holds a map against those of the other methods with the same target, controls left out.

    A score therefore depends on which methods stand beside each other.
    """

    @abstractmethod
    def agree(self, bench: Bench, index: int, others: Sequence[int]) -> Outcome:
        """Score the explanation at `index` against one or more others."""

    def unfit(self, bench: Bench, index: int) -> str:  # noqa: ARG002  # most maps fit
        """Return why a map that has a place cannot be compared, or ""."""
        return ""

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Score the explanation at `index` against all that it can be compared with."""
        reason = self.unfit(bench, index)
        others = [
            other
            for other, placed in enumerate(bench.maps)
            if other != index
            and not (placed.reason or bench.control(other) or self.unfit(bench, other))
            and bench.same_target(index, other)
        ]
        if not others:
            reason = reason or "there is no other method with the same target to agree with"
        return Outcome.missing(len(bench), reason) if reason else self.agree(bench, index, others)


def _ranks(bench: Bench, index: int) -> Tensor:
    return bench.once(("ranks", index), lambda: average_ranks(bench.maps[index].values.abs()))


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class rank_agreement(AgreementMetric):
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
        failure=_COPIES,
        reference=_DISAGREEMENT,
    )

    def agree(self, bench: Bench, index: int, others: Sequence[int]) -> Outcome:
        """Correlate the map's ranks with the mean ranks of the others."""
        consensus = average_ranks(torch.stack([_ranks(bench, other) for other in others]).mean(0))
        correlation = pearson(_ranks(bench, index), consensus)
        return Outcome.of(correlation, "the map or the consensus is constant", torch.zeros(len(bench)))


def _unsigned(bench: Bench, index: int) -> str:
    method = bench.explanations[index].method
    unsigned = isinstance(method, Method) and method.taxonomy.sign != "signed"
    return "the method's values have no sign to agree on" if unsigned else ""


@dataclass(frozen=True, kw_only=True, repr=False)
class TopAgreement(AgreementMetric):
    """Overlap of the positions of largest magnitude with those of each other method, averaged.

    A position of no relevance is never among them, and a constant map has none; the overlap is divided by the larger of the two sets. Ties fall in
    the same drawn order for every map. Scale does not matter.

    Attributes
    ----------
    share
        How many positions, as a fraction.
    """

    share: Share = 0.1

    def mark(self, values: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return ``(N, P)`` the sign of a map, times its place from the last (1), where largest; 0 elsewhere."""
        count = max(1, round(self.share * values.shape[1]))
        sizes = values.abs()
        uneven = sizes.amax(1, keepdim=True) > sizes.amin(1, keepdim=True)
        return values.sign() * (count - orders(sizes, seeds)).clamp_min(0) * uneven

    def top(self, bench: Bench, index: int) -> Tensor:
        """Return what `mark` gives for an explanation of the bench."""
        return bench.once(("top", index, self.share), lambda: self.mark(bench.maps[index].values, bench.seeds))

    def common(self, one: Tensor, other: Tensor) -> Tensor:
        """Return which positions ``(N, P)`` two maps agree on."""
        return (one != 0) & (other != 0)

    def level(self, expected: Tensor, count: Tensor) -> Tensor:  # noqa: ARG002  # ranks need it
        """Return the overlap of random maps from that expected of random positions, `count` in the smaller set."""
        return expected

    def overlap(self, own: Tensor, its: Tensor) -> tuple[Tensor, Tensor]:
        """Return the overlap ``(N,)`` of two marked maps and that of random ones; NaN where one marks nothing."""
        marked = torch.stack([(own != 0).sum(1), (its != 0).sum(1)]).double()
        comparable = marked.amin(0) > 0
        share = torch.where(comparable, self.common(own, its).sum(1) / marked.amax(0), torch.nan)
        return share, torch.where(comparable, self.level(marked.amin(0) / own.shape[1], marked.amin(0)), torch.nan)

    def agree(self, bench: Bench, index: int, others: Sequence[int]) -> Outcome:
        """Average the overlaps with all others that mark something."""
        own = self.top(bench, index)
        pairs = [self.overlap(own, self.top(bench, other)) for other in others]
        value, chance = (torch.stack(column).nanmean(0) for column in zip(*pairs, strict=True))
        return Outcome.of(value, "the map, or every other, is as large everywhere", chance)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class feature_agreement(TopAgreement):
    """Part of the map's positions of largest magnitude that another method has among its own; the mean over methods."""

    profile: ClassVar[Profile] = Profile(
        family="agreement",
        direction="higher",
        range=(0.0, 1.0),
        measures="the positions that matter most are the same for other methods",
        chance="the fraction of positions",
        failure=_COPIES,
        reference=_DISAGREEMENT,
    )


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class sign_agreement(TopAgreement):
    """The same where both methods also say the same of it: for the target, or against it.

    Methods that give magnitudes or positive evidence only say nothing of signs and have no score.
    """

    profile: ClassVar[Profile] = Profile(
        family="agreement",
        direction="higher",
        range=(0.0, 1.0),
        measures="other methods call the same positions important and agree on whether they speak for or against",
        chance="half the fraction of positions",
        failure=_COPIES + "; a given map without signs counts as all in favour",
        reference=_DISAGREEMENT,
    )

    def unfit(self, bench: Bench, index: int) -> str:
        """Leave out methods whose values have no sign."""
        return _unsigned(bench, index)

    def common(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the positions that both mark with the same sign."""
        return one * other > 0

    def level(self, expected: Tensor, count: Tensor) -> Tensor:  # noqa: ARG002  # signs do not
        """Return half of it."""
        return expected / 2


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class top_rank_agreement(TopAgreement):
    """The same where both methods also give the position about the same rank.

    Attributes
    ----------
    slack
        How far two ranks may lie apart, as a fraction of the positions; 0 is the published form, which thousands of
        pixels hardly ever meet.
    """

    slack: Annotated[float, Field(ge=0, lt=1)] = 0.01

    profile: ClassVar[Profile] = Profile(
        family="agreement",
        direction="higher",
        range=(0.0, 1.0),
        measures="other methods put the same positions in the same order of importance",
        chance="the fraction of positions, times that of ranks within the slack",
        failure=_COPIES,
        reference=_DISAGREEMENT,
    )

    def common(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the positions that both mark with ranks that lie close."""
        close = (one.abs() - other.abs()).abs() <= round(self.slack * one.shape[1])
        return super().common(one, other) & close

    def level(self, expected: Tensor, count: Tensor) -> Tensor:
        """Return the part of pairs of random ranks that lie close."""
        wide = torch.minimum(torch.round(self.slack * count / expected), count - 1)
        return expected * (count * (2 * wide + 1) - wide * (wide + 1)) / count.square()


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class signed_rank_agreement(top_rank_agreement):
    """The same where sign and rank both agree; methods without signs have no score."""

    profile: ClassVar[Profile] = Profile(
        family="agreement",
        direction="higher",
        range=(0.0, 1.0),
        measures="other methods agree on position, order of importance, and whether it speaks for or against",
        chance="half of that of top_rank_agreement",
        failure=_COPIES + "; a given map without signs counts as all in favour",
        reference=_DISAGREEMENT,
    )

    def unfit(self, bench: Bench, index: int) -> str:
        """Leave out methods whose values have no sign."""
        return _unsigned(bench, index)

    def common(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the positions on which sign and rank agree."""
        return super().common(one, other) & (one * other > 0)

    def level(self, expected: Tensor, count: Tensor) -> Tensor:
        """Return half of it."""
        return super().level(expected, count) / 2
