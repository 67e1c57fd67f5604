"""Repeated training: whether the same method says the same of networks that learnt the same task again.

A stable map of one network is no finding when the next network, as accurate, would have given another.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.noise import flatten
from pellucid.evaluation.positions import orders, place
from pellucid.evaluation.reexplain import explain_again
from pellucid.evaluation.statistics import spearman
from pellucid.evaluation.subsets import Share
from pellucid.models import Model

__all__ = ["RepeatMetric", "region_shares", "repeat_training"]

_NONE = "no other models were given: train the same task again with other seeds and give evaluate(..., models=[...])"
_CONTROL = "a control never looks at the model, so that it stays the same says nothing"
_EITEL = (
    "Eitel and Ritter 2019, Testing the robustness of attribution methods for CNNs in MRI-based disease classification"
)


@dataclass(frozen=True)
class _Again:
    """What is kept of one method's maps on one other model: distances to its own, and regions' sums before and after."""

    apart: Tensor
    correlation: Tensor
    sums: Tensor | None
    reason: str


def _region_sums(bench: Bench, values: Tensor) -> Tensor | None:
    """Return ``(N, 1 + R)`` sums of a map's positive part over the regions."""
    if bench.regions is None:
        return None
    labels = bench.regions.to(values.device)
    sums = values.new_zeros(len(values), int(labels.max()) + 1, dtype=torch.float64)
    return sums.scatter_add_(1, labels, values.double().clamp_min(0))


def _again(bench: Bench, index: int, other: Model) -> _Again | str:
    rows, own = torch.arange(len(bench)), bench.explanations[index].tensors
    with bench.beside(other) as passes:
        scores = partial(_scores, bench, other, rows)
        ((maps, reason),) = explain_again(bench, (index,), bench.inputs, rows, scores, passes=passes)
    start = flatten(own).to(bench.inputs[0].device)
    if maps is None or maps.shape != start.shape:
        return reason or "the method gives maps of another shape on the other models"
    parts = torch.split(maps, [part[0].numel() for part in own], 1)
    placed = place(tuple(part.reshape(one.shape) for part, one in zip(parts, own, strict=True)), bench.grid)
    unit = [part / torch.linalg.vector_norm(part, dim=1, keepdim=True) for part in (start, maps)]
    return _Again(
        torch.linalg.vector_norm(unit[1] - unit[0], dim=1),
        spearman(bench.maps[index].values, placed.values.nan_to_num()).where(maps.isfinite().all(1), torch.nan),
        _region_sums(bench, placed.values.nan_to_num()),
        reason,
    )


def _scores(bench: Bench, other: Model, rows: Tensor, index: int) -> Tensor:
    def read() -> Tensor:
        with bench.beside(other) as passes:
            return bench.read(bench.inputs, rows, passes)

    return bench.own(bench.once(("repeated scores", id(other)), read), index)


@dataclass(frozen=True, kw_only=True, repr=False)
class RepeatMetric(Metric):
    """A metric that explains the images again, with the same method and target, on every other model."""

    @abstractmethod
    def compare(self, bench: Bench, index: int, again: Sequence[_Again]) -> Outcome:
        """Score the explanation at `index`."""

    def unfit(self, bench: Bench) -> str:
        """Return why these images cannot be scored, or ""."""
        return "" if bench.models else _NONE

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Compare every method's maps over the models; each is explained once for all such metrics."""
        return [self._outcome(bench, index) for index in range(len(bench.explanations))]

    def _outcome(self, bench: Bench, index: int) -> Outcome:
        reason = self.unfit(bench) or (_CONTROL if bench.control(index) else bench.maps[index].reason)
        if reason:
            return Outcome.missing(len(bench), reason)
        found = [
            bench.once(("repeat", index, number), partial(_again, bench, index, other))
            for number, other in enumerate(bench.models)
        ]
        again = [one for one in found if not isinstance(one, str)]
        return self.compare(bench, index, again) if again else Outcome.missing(len(bench), str(found[0]))


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class repeat_training(RepeatMetric):
    """How far maps of the same image lie apart between networks trained on the same task; the mean over networks.

    Attributes
    ----------
    distance
        ``"l2"``: Euclidean, between maps at unit norm; 0 to 2, and 1.41 for unrelated maps. ``"correlation"``: 1 less
        the rank correlation; 0 to 2, and 1 for unrelated maps.
    """

    distance: Literal["l2", "correlation"] = "l2"

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="lower",
        range=(0.0, 2.0),
        measures="another network that learnt the same task would have given the same map",
        chance="√2 for l2, 1 for correlation: unrelated maps",
        cost="1 explanation an image, method and other model",
        failure="networks may rightly differ in what they use; a map that ignores the network is perfectly stable",
        reference=_EITEL,
        needs=("method", "models"),
        resolution=1e-5,
    )

    def compare(self, bench: Bench, index: int, again: Sequence[_Again]) -> Outcome:  # noqa: ARG002  # all is in `again`
        """Average over the models."""
        apart = [one.apart if self.distance == "l2" else 1 - one.correlation for one in again]
        value = torch.stack(apart).nanmean(0)
        chance = torch.full_like(value, 2**0.5 if self.distance == "l2" else 1.0)
        why = next(
            (one.reason for one in again if one.reason), "the map is constant or zero, here or on the other models"
        )
        return Outcome.of(value, why, chance)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class region_shares(RepeatMetric):
    """Part of the regions with most positive relevance that are so again on networks trained on the same task.

    Regions are labels of an atlas, of organs or of cells; the mean over networks. The scale of the map does not matter.

    Attributes
    ----------
    of
        What a region is measured by: ``"density"``, its relevance a position, or ``"sum"``, which large regions win.
    share
        How many regions, as a fraction of those that the image has; at least one.
    """

    of: Literal["density", "sum"] = "density"
    share: Share = 0.25

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="higher",
        range=(0.0, 1.0),
        measures="another network that learnt the same task would have pointed to the same regions",
        chance="the fraction of regions",
        cost="1 explanation an image, method and other model, shared with repeat_training",
        failure="regions next to each other share evidence; a map that ignores the network is perfectly stable",
        reference=_EITEL + "; Böhle et al. 2019, Layer-wise relevance propagation for explaining deep neural network "
        "decisions in MRI-based Alzheimer's disease classification",
        needs=("method", "models", "regions"),
    )

    def unfit(self, bench: Bench) -> str:
        """Return what lacks: models, regions."""
        lacking = "" if bench.regions is not None else "no regions were given: give evaluate(..., regions=labels)"
        return super().unfit(bench) or lacking

    def compare(self, bench: Bench, index: int, again: Sequence[_Again]) -> Outcome:
        """Average the overlaps over the models."""
        before = _region_sums(bench, bench.maps[index].values)
        pairs = [self._overlap(bench, before, one.sums) for one in again if before is not None and one.sums is not None]
        value, chance = (torch.stack(column).nanmean(0) for column in zip(*pairs, strict=True))
        return Outcome.of(value, "fewer than two regions, or no positive relevance in them", chance)

    def _overlap(self, bench: Bench, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Return the overlap ``(N,)`` of the top regions and what random regions would give."""
        labels = (
            torch.zeros_like(before, dtype=torch.long) if bench.regions is None else bench.regions.to(before.device)
        )
        sizes = torch.zeros_like(before).scatter_add_(1, labels, torch.ones_like(labels, dtype=before.dtype))
        value, chance = before.new_full((len(before),), torch.nan), before.new_full((len(before),), torch.nan)
        for row in range(len(before)):
            here = torch.nonzero(sizes[row, 1:] > 0)[:, 0] + 1
            sums = torch.stack([before[row, here], after[row, here]])
            if len(here) < 2 or bool((sums.sum(1) <= 0).any()):
                continue
            count = max(1, round(self.share * len(here)))
            measured = sums / sizes[row, here] if self.of == "density" else sums
            top = [orders(one[None], bench.seeds[row : row + 1])[0] < count for one in measured]
            value[row], chance[row] = float((top[0] & top[1]).sum()) / count, count / len(here)
        return value, chance
