"""Fragility: how far a map moves when the image changes and the model's answer does not."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Profile
from pellucid.evaluation.noise import noisy_scores
from pellucid.evaluation.robustness import NoiseMetric
from pellucid.evaluation.subsets import Share

__all__ = ["preserving_sensitivity"]


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class preserving_sensitivity(NoiseMetric):
    """Largest change of the map, relative to its norm, over noisy copies on which the model's score stays.

    Attributes
    ----------
    within
        Part of |f(x)| by which the score of a copy may differ.
    """

    within: Share = 0.1

    still: ClassVar[str] = "no noisy copy keeps the model's score: lower the radius, or allow more with within="

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="lower",
        range=(0.0, torch.inf),
        measures="an image that is the same to the model has the same map",
        cost="samples explanations an image and method, shared with max_sensitivity; 1 forward a copy for all methods",
        failure="random noise finds no adversary: a low number is no guarantee; a map that ignores the image is perfect",
        reference="Ghorbani, Abid and Zou 2019, Interpretation of neural networks is fragile, AAAI",
        needs=("method",),
        resolution=1e-5,
    )

    def moves(self, bench: Bench, index: int, lengths: Tensor) -> Tensor:
        """Return one for copies that keep the score, NaN for the others."""
        pairs = torch.arange(lengths.numel(), device=lengths.device)
        after = noisy_scores(bench, self.radius, self.samples, pairs, index).reshape(lengths.shape)
        before = bench.output(index)[:, None]
        kept = (after - before).abs() <= self.within * before.abs()
        return torch.ones_like(after).where(kept, torch.nan)

    def reduce(self, ratio: Tensor) -> Tensor:
        """Return the largest that is known; infinite, hence no number, where none is."""
        return ratio.nan_to_num(-torch.inf).amax(1)
