"""Complexity: how few positions hold the map; it tells how easily a map reads, not whether it is right."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.mapmetric import PlacedMetric
from pellucid.evaluation.metric import METRICS, Outcome, Profile

__all__ = ["complexity", "effective_complexity", "sparseness"]

_ZERO = "the map is zero everywhere"


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class sparseness(PlacedMetric):
    """Gini index of the map's magnitudes: 0 where all positions are alike, near 1 where one position holds all."""

    profile: ClassVar[Profile] = Profile(
        family="complexity",
        direction="higher",
        range=(0.0, 1.0),
        measures="few positions hold most of the map",
        failure="a wrong map may be sparse, and the truth may be spread out",
        reference="Chalasani et al. 2020, Concise explanations of neural networks using adversarial training, ICML",
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Weigh the sorted magnitudes by their rank."""
        sizes = bench.maps[index].values.double().abs().sort(dim=1).values
        length = sizes.shape[1]
        weights = 2 * torch.arange(1, length + 1, dtype=torch.float64, device=sizes.device) - length - 1
        total = sizes.sum(1)
        gini = (sizes * weights).sum(1) / (length * total)
        return Outcome.of(torch.where(total > 0, gini.clamp(0, 1), torch.nan), _ZERO)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class complexity(PlacedMetric):
    """Entropy, in nats, of the positions' shares of the map's magnitude: 0 for one position, log P for all alike."""

    profile: ClassVar[Profile] = Profile(
        family="complexity",
        direction="lower",
        range=(0.0, torch.inf),
        measures="the map concentrates on few positions",
        failure="a wrong map may be simple; grows with the logarithm of the image's size",
        reference="Bhatt, Weller and Moura 2020, Evaluating and aggregating feature-based model explanations, IJCAI",
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Return the entropy of the shares."""
        sizes = bench.maps[index].values.double().abs()
        total = sizes.sum(1, keepdim=True)
        entropy = _entropy(sizes / total)
        return Outcome.of(torch.where(total[:, 0] > 0, entropy, torch.nan), _ZERO)


def _entropy(shares: Tensor) -> Tensor:
    return torch.xlogy(-shares, shares).sum(1)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class effective_complexity(PlacedMetric):
    """Smallest fraction of the positions that holds most of the map's magnitude.

    The last position counts in part, so that the number does not jump: one position that holds all gives ``mass`` / P,
    a uniform map ``mass``. Relative to the map's own sum: a fixed threshold would pass nearly every position. Scale and
    sign do not matter.

    Attributes
    ----------
    mass
        The part of the summed magnitude that is to be held.
    """

    mass: Annotated[float, Field(gt=0, lt=1)] = 0.9

    profile: ClassVar[Profile] = Profile(
        family="complexity",
        direction="lower",
        range=(0.0, 1.0),
        measures="a small part of the image holds nearly all of the map",
        failure="a wrong map may be small, and the truth may be spread out",
        reference="Nguyen and Martínez 2020, On quantitative aspects of model interpretability",
    )

    def score_one(self, bench: Bench, index: int) -> Outcome:
        """Add up the sorted magnitudes until they hold the mass."""
        sizes = bench.maps[index].values.double().abs().sort(dim=1, descending=True).values
        held = sizes.cumsum(1)
        wanted = self.mass * held[:, -1:]
        whole = (held < wanted).sum(1, keepdim=True).clamp_max(sizes.shape[1] - 1)
        last = sizes.gather(1, whole)
        part = (wanted - held.gather(1, whole) + last) / last
        share = (whole + part)[:, 0] / sizes.shape[1]
        return Outcome.of(torch.where(held[:, -1] > 0, share.clamp(0, 1), torch.nan), _ZERO)
