"""Which way to go in the latents to change one phenotype, image by image, with the others held fixed or left free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.interpretation.phenotypes.heads import Heads

__all__ = ["Directions", "Others"]

Others = Literal["fixed", "free"]

_STEP = 0.5
"""Standard deviations of a phenotype that are gone before the direction is taken anew."""

_LONGEST = 4.0
"""Longest way, as a Mahalanobis length, that a standard deviation of a phenotype may take."""


@dataclass(frozen=True, eq=False)
class Directions:
    """The way of each phenotype from each point.

    With `others` fixed it is the local form of the encoding regression of the latents on all phenotypes: column p of
    ``Jᵀ (J Jᵀ + R)⁻¹``, with the slopes J of the phenotypes' regressions at the point and R what these leave of the
    phenotypes; for straight regressions it is cov(z, f) cov(f)⁻¹. With `others` free it is the pattern of the one
    phenotype, cov(z, f) / var(f). Both are scaled to one standard deviation of the phenotype.

    References
    ----------
    Haufe et al. 2014, On the interpretation of weight vectors of linear models, NeuroImage.
    """

    heads: Heads
    others: Others = "fixed"

    def at(self, points: Tensor, phenotype: int) -> Tensor:
        """Return the way ``(N, D)`` that raises a phenotype by one standard deviation."""
        if self.others == "free":
            way = own = self.heads.columns([phenotype]).slopes(points)[:, 0]
        else:
            slopes = self.heads.slopes(points)
            own = slopes[:, phenotype]
            left = torch.from_numpy(np.atleast_2d(np.cov(self.heads.residuals.T)))
            spread = slopes @ slopes.mT + left
            wanted = torch.zeros(spread.shape[1], 1, dtype=torch.float64)
            wanted[phenotype] = 1
            way = (slopes.mT @ torch.linalg.solve(spread, wanted.expand(len(points), -1, -1)))[:, :, 0]
        gain = (way * own).sum(1, keepdim=True).clamp(min=1e-12)
        return _shortened(way / gain)

    def pattern(self, points: Tensor, phenotype: int) -> Tensor:
        """Return how the latents differ ``(N, D)`` where a phenotype is higher by one standard deviation, the others left free.

        Unlike `at` it is as long as the latents follow the phenotype: that of a phenotype which they do not hold is short.
        """
        own = self.heads.columns([phenotype]).slopes(points)[:, 0]
        left = float(self.heads.residuals[:, phenotype].var())
        pattern: Tensor = own / (own.square().sum(1, keepdim=True) + left).clamp(min=1e-12)
        return pattern

    def unit(self, points: Tensor, phenotype: int) -> Tensor:
        """Return the way, of length 1."""
        way = self.at(points, phenotype)
        unit: Tensor = way / way.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return unit

    def path(self, start: Tensor, phenotype: int, doses: Sequence[float]) -> Tensor:
        """Return the points ``(N, doses, D)`` at doses in standard deviations, the way taken anew every half of one."""
        found = torch.empty(len(start), len(doses), start.shape[1], dtype=torch.float64)
        for sign in (1.0, -1.0):
            point, gone = start, 0.0
            for dose in sorted({dose for dose in doses if dose * sign > 0}, key=abs):
                while gone < abs(dose) - 1e-9:
                    step = min(_STEP, abs(dose) - gone)
                    point = point + sign * step * self.at(point, phenotype)
                    gone += step
                found[:, list(doses).index(dose)] = point
        for place, dose in enumerate(doses):
            if dose == 0:
                found[:, place] = start
        return found


def _shortened(way: Tensor) -> Tensor:
    short: Tensor = way * (_LONGEST / way.norm(dim=1, keepdim=True).clamp(min=_LONGEST))
    return short
