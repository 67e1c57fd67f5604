"""Faithfulness by removal of whole regions, most relevant first: less scattered than removing positions.

Regions go in the order of their mean relevance and a curve runs over the fraction of positions that are gone, so that
neither the number of regions nor their unequal sizes make the number larger.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.curves import CurveMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile
from pellucid.evaluation.regions import Regions, patches, superpixels
from pellucid.evaluation.removal import curve
from pellucid.evaluation.statistics import scale_of_fall

__all__ = ["RegionCurve", "irof", "selectivity"]


@dataclass(frozen=True, kw_only=True, repr=False)
class RegionCurve(CurveMetric):
    """A curve over regions, one after the other.

    Attributes
    ----------
    segments
        About how many regions an image has.
    """

    segments: Annotated[int, Field(ge=2)] = 32

    @abstractmethod
    def regions(self, bench: Bench) -> Regions:
        """Return what is removed together."""

    def curves(self, bench: Bench) -> dict[int, tuple[Tensor, Tensor]]:
        """Remove one region after the other."""
        regions = self.regions(bench)
        found = curve(bench, range(len(regions) + 1), self.fill, keep=self.keep, regions=regions)
        return {index: (scores, regions.shares(bench, index)) for index, scores in found.items()}

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Read the curve of every map; images that cannot be cut into regions have no score."""
        try:
            self.regions(bench)
        except ShapeError as error:
            return [Outcome.missing(len(bench), str(error)) for _ in bench.explanations]
        return super().score(bench)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class selectivity(RegionCurve):
    """Mean score of the target while square patches are removed, most relevant first: low where the map is right.

    In the target's own unit (logits); compare within an image. The scale of the map does not matter.
    """

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="lower",
        range=(-torch.inf, torch.inf),
        measures="removing the patches that the map marks makes the model's score fall early",
        cost="segments forwards an image and method",
        failure="patches cut through objects; finer structure than a patch is not seen; the winner changes with the fill",
        reference="Montavon, Samek and Müller 2018, Methods for interpreting and understanding deep neural networks, DSP",
    )

    def regions(self, bench: Bench) -> Regions:
        """Return square patches."""
        return patches(bench, self.segments)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class irof(RegionCurve):
    """Mean fall of the score while superpixels are removed, most relevant first, in parts of the whole fall.

    The whole fall is |f(x) − f(all replaced)|, and at least 0.05 (|f(x)| + |f(all replaced)|), so that the number does
    not explode where the score is small. A score that falls evenly gives a half. The scales of map and score do not
    matter.
    """

    undefined: ClassVar[str] = "the model's score is zero with and without the image, or not finite"

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="removing the structures that the map marks makes the model's score fall early",
        cost="segments forwards an image and method",
        failure="depends on the superpixels (a regular grid where SLIC finds none) and on the fill; no half where the "
        "replaced image scores higher than the image",
        reference="Rieger and Hansen 2020, IROF: a low resource evaluation metric for explanation methods",
    )

    def regions(self, bench: Bench) -> Regions:
        """Return superpixels."""
        return superpixels(bench, self.segments)

    def read(self, scores: Tensor, shares: Tensor) -> Tensor:
        """Divide the area over the curve by the whole fall."""
        fall = scores[:, 0] - super().read(scores, shares)
        return fall / scale_of_fall(scores[:, 0], scores[:, -1])
