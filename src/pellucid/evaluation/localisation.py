"""Plausibility: whether the map lies where an expert expects the evidence; it says nothing of what the model used.

Every score stands raw beside what a map that knows nothing would score on this image (mostly the mask's share of it).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.mapmetric import PlacedMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile
from pellucid.evaluation.statistics import average_ranks
from pellucid.evaluation.subsets import Share

__all__ = [
    "MaskMetric", "TopMaskMetric", "localisation_auc", "mask_iou", "pointing_game", "relevance_mass",
    "relevance_rank", "top_k_intersection",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, repr=False)
class MaskMetric(PlacedMetric):
    """A metric that holds a map against expert masks: the mean over the annotators who marked something."""

    undefined: ClassVar[str] = "the map has no positive relevance"

    @abstractmethod
    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:
        """Score maps ``(B, P)`` with their removal order against masks ``(B, P)``, none empty; NaN where undefined."""

    def chance(self, mask: Tensor) -> Tensor:
        """Return what a map that knows nothing scores: the mask's share of the image unless the metric says else."""
        return mask.double().mean(1)

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Average the scores against every annotator's mask."""
        if not bench.masks:
            return Outcome.missing(len(bench), "no masks were given")
        rows = len(bench)
        values, chances, reasons = [], [], []
        for annotator, masks in bench.masks.items():
            value, chance, reason = self._against(bench, index, annotator, masks)
            values.append(value)
            chances.append(chance)
            reasons.append(reason)
        mean, level = torch.stack(values).nanmean(0), torch.stack(chances).nanmean(0)
        why = tuple(
            "" if known else next(reason[row] for reason in reasons if reason[row])
            for row, known in zip(range(rows), mean.isfinite().tolist(), strict=True)
        )
        return Outcome(mean, why, level)

    def fitting(self, bench: Bench, index: int, annotator: str, masks: Sequence[Tensor | None]) -> Tensor:  # noqa: ARG002
        """Say of which images ``(N,)`` this annotator's mask can be used: all, unless the metric asks more."""
        return torch.ones(len(bench), dtype=torch.bool)

    def _against(
        self, bench: Bench, index: int, annotator: str, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor, list[str]]:
        value = torch.full((len(bench),), torch.nan, dtype=torch.float64)
        chance = value.clone()
        reasons = ["the image has no mask" if mask is None else "the mask is empty" for mask in masks]
        marked = [row for row, mask in enumerate(masks) if mask is not None and bool(mask.any())]
        fits = self.fitting(bench, index, annotator, masks).tolist() if marked else []
        rows = [row for row in marked if fits[row]]
        if rows:
            maps = bench.maps[index].values[rows]
            mask = torch.stack([mask for row, mask in enumerate(masks) if row in set(rows) and mask is not None])
            mask = mask.to(maps.device)
            value[rows] = self.inside(maps, bench.order(index)[rows], mask).double().cpu()
            chance[rows] = torch.where(value[rows].isnan(), torch.nan, self.chance(mask).cpu())
        for row in marked:
            reasons[row] = self.undefined if bool(value[row].isnan()) else ""
        return value, chance, reasons


def _profile(
    measures: str, reference: str, *, chance: str = "the mask's share of the image", misleads: str = ""
) -> Profile:
    return Profile(
        family="localisation",
        direction="higher",
        range=(0.0, 1.0),
        measures=measures,
        chance=chance,
        failure="an expert's mask need not hold what the model used: a right map of a shortcut scores low" + misleads,
        reference=reference,
        needs=("masks",),
    )


_MASS = "Arras, Osman and Samek 2022, CLEVR-XAI, Information Fusion"


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class relevance_mass(MaskMetric):
    """Share of the map's positive relevance that lies inside the mask; negative relevance is left out."""

    profile: ClassVar[Profile] = _profile(
        "most of the evidence lies where the expert marked",
        _MASS,
        misleads="; smooth maps leak over the rim of small masks",
    )

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  # no order needed
        """Divide the positive sum inside by the positive sum."""
        positive = values.double().clamp_min(0)
        total = positive.sum(1)
        return torch.where(total > 0, (positive * mask).sum(1) / total, torch.nan)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class relevance_rank(MaskMetric):
    """Share of the k most relevant positions that lie inside the mask, k being the mask's size."""

    profile: ClassVar[Profile] = _profile(
        "the most relevant positions, as many as the expert marked, are those that the expert marked",
        _MASS,
    )

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  # the order says it all
        """Count the first k positions inside."""
        size = mask.sum(1, keepdim=True)
        return ((order < size) & mask).sum(1).double() / size[:, 0]


@dataclass(frozen=True, kw_only=True, repr=False)
class TopMaskMetric(MaskMetric):
    """A metric of the most relevant positions, a fixed part of the image.

    Attributes
    ----------
    share
        Size of that part as a fraction of the positions.
    """

    share: Share = 0.05

    def count(self, length: int) -> int:
        """Return the number of positions in the part, of `length`."""
        return max(1, round(self.share * length))


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class top_k_intersection(TopMaskMetric):
    """Share of the most relevant positions, a fixed part of the image, that lie inside the mask."""

    profile: ClassVar[Profile] = _profile(
        "the very most relevant positions lie inside what the expert marked",
        "Theiner, Müller-Budack and Ewerth 2022, Interpretable semantic photo geolocation, WACV",
        misleads="; a mask smaller than the share cannot reach 1",
    )

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:
        """Count the first positions inside."""
        count = self.count(values.shape[1])
        return ((order < count) & mask).sum(1).double() / count


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class mask_iou(TopMaskMetric):
    """Overlap of the most relevant positions, a fixed part of the image, with the mask: intersection over union."""

    share: Share = 0.1

    profile: ClassVar[Profile] = _profile(
        "thresholded, the map has the outline that the expert drew",
        "Singh et al. 2021, An empirical study of saliency-based explanations on SMERF benchmarks",
        chance="the overlap expected of as many random positions (ratio of expected sizes)",
        misleads="; rewards masks of the size of the share",
    )

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:
        """Divide the common part by the union."""
        top = order < self.count(values.shape[1])
        return (top & mask).sum(1).double() / (top | mask).sum(1)

    def chance(self, mask: Tensor) -> Tensor:
        """Return the overlap of random positions."""
        length = mask.shape[1]
        both = self.count(length) * mask.sum(1).double() / length
        return both / (self.count(length) + mask.sum(1) - both)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pointing_game(MaskMetric):
    """Whether the most relevant position lies inside the mask: 1 or 0."""

    profile: ClassVar[Profile] = _profile(
        "the map's maximum hits what the expert marked",
        "Zhang et al. 2018, Top-down neural attention by excitation backprop, IJCV",
        misleads="; one position decides, and large masks are hit by chance",
    )

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  # the order says it all
        """Look up the first position."""
        return ((order == 0) & mask).any(1).double()


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class localisation_auc(MaskMetric):
    """Chance that a position inside the mask is more relevant than one outside (area under the ROC curve)."""

    undefined: ClassVar[str] = "the mask covers the whole image: there is no outside to compare with"

    profile: ClassVar[Profile] = _profile(
        "positions inside the mask are ranked above those outside",
        "Fawcett 2006, An introduction to ROC analysis, Pattern Recognition Letters",
        chance="0.5",
        misleads="; easy on smooth maps: a map may score 0.95 with a tenth of its mass inside",
    )

    def inside(self, values: Tensor, order: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  # ties count a half
        """Return the Mann–Whitney statistic, ties counting a half."""
        positive = mask.sum(1).double()
        negative = mask.shape[1] - positive
        ranks = (average_ranks(values) * mask).sum(1) - positive * (positive - 1) / 2
        return torch.where(negative > 0, ranks / (positive * negative).clamp_min(1), torch.nan)

    def chance(self, mask: Tensor) -> Tensor:
        """Return a half."""
        return torch.full((len(mask),), 0.5, dtype=torch.float64)
