"""The pixel attack: a change that fools the model and shows nothing; a control that the gate must refuse."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.counterfactual.guidance import follow
from pellucid.counterfactual.moves import Move, PixelMove
from pellucid.counterfactual.search import SEARCHES, Problem, Search

__all__ = ["pixel_attack"]


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pixel_attack(Search):
    """Signed steps on the pixels within a bound, without a generator (Madry et al. 2018, arXiv:1706.06083).

    Attributes
    ----------
    bound
        Largest change of a value, as a share of its channel's range over the training images.
    steps
        One is the fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572).
    """

    control: ClassVar[bool] = True

    bound: Annotated[float, Field(gt=0, le=1)] = 0.08
    steps: Annotated[int, Field(ge=1)] = 10

    def find(self, problem: Problem) -> Move:
        """Follow the signs of the slopes; a row that is clearly past its goal stops."""
        x, support = problem.x, problem.support
        bound = self.bound * (support.high - support.low)
        stride = bound * (1.0 if self.steps == 1 else 2.5 / self.steps)
        change = torch.zeros_like(x)
        rows = torch.arange(len(x))
        for _ in range(self.steps):
            shown = support.within(x[rows] + change[rows], x[rows])
            scores, slopes = follow(problem.passes, shown, problem.aim.read, rows)
            open_ = problem.aim.gap(scores, rows) > 0
            rows, slopes = rows[open_.cpu()], slopes[open_]
            if not len(rows):
                break
            change[rows] = _clipped(change[rows] + stride * _uphill(slopes, problem.aim.direction[rows]), bound)
        return PixelMove(problem.fitted, support, x, change)


def _uphill(slopes: Tensor, direction: Tensor) -> Tensor:
    return slopes.sign() * direction.view(-1, *[1] * (slopes.ndim - 1))


def _clipped(change: Tensor, bound: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(change, -bound), bound)
