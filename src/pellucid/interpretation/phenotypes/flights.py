"""The shortest way in the latents to another answer: free, or with chosen phenotypes held where they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.heads import Heads
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.models import ReadOut

__all__ = ["Flight", "Flyer"]

_STEP = 0.25
_FARTHEST = 6.0
"""Mahalanobis length after which an image that has not flipped is given up."""


@dataclass(frozen=True, eq=False)
class Flight:
    """How images were brought to another answer.

    Attributes
    ----------
    points
        ``(N, D)`` where each image came to: where it flipped, or where it was given up.
    lengths
        ``(N,)`` Mahalanobis length gone.
    flipped
        ``(N,)`` whether the answer changed within the image's budget.
    """

    points: Tensor
    lengths: NDArray[np.float64]
    flipped: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Flyer:
    """Moves images by small steps of equal length against the model's answer, one target of a scorer at a time.

    Steps follow the slope of the score in the latents. A model without derivatives is followed by a regression of its
    scores on the latents; whether an image has flipped, the model itself always says.
    """

    atlas: Atlas
    scorer: Scorer
    images: Tensor
    target: int
    slope: Callable[[Tensor, Tensor, Tensor], Tensor]
    differentiated: bool

    @classmethod
    def of(cls, atlas: Atlas, scorer: Scorer, images: Tensor, target: int = 0, *, seed: int = 0) -> "Flyer":
        """Find out how the score of a target can be followed."""
        start = atlas.space.encode(images[:1])
        try:
            _slope(atlas, scorer, target, images[:1], start, start)
        except CannotExplain:
            scores = scorer(atlas.images)[:, [target]]
            told = Heads.fit(
                atlas.directions.heads.points, scores - scores.mean(0), atlas.groups, marks=atlas.space.marks, seed=seed
            )  # fmt: skip
            return cls(
                atlas,
                scorer,
                images,
                target,
                lambda _images, _start, points: told.slopes(points)[:, 0],
                differentiated=False,
            )
        return cls(
            atlas, scorer, images, target,
            lambda rows, start, points: _slope(atlas, scorer, target, rows, start, points), differentiated=True,
        )  # fmt: skip

    def fly(
        self, *, held: Sequence[int] = (), heads: Heads | None = None, budget: NDArray[np.float64] | None = None
    ) -> Flight:
        """Go until the sign of the score changes.

        Parameters
        ----------
        held
            Columns of `heads` that must not change on the way.
        heads
            Regressions of what is held; default: those of the phenotypes.
        budget
            ``(N,)`` length after which each image is given up; default: 6, or where real images end.
        """
        space, kept = self.atlas.space, (heads or self.atlas.directions.heads).columns(held) if len(held) else None
        start = space.encode(self.images)
        goal = kept.predict(start) if kept is not None else None
        sign = -np.sign(self.scorer(self.images)[:, self.target])
        most = np.full(len(start), _FARTHEST) if budget is None else budget
        points, lengths = start.clone(), np.zeros(len(start))
        flipped, open_rows = sign == 0, sign != 0
        for _ in range(round(_FARTHEST / _STEP)):
            if not open_rows.any():
                break
            rows = np.flatnonzero(open_rows)
            begun, at = start[rows], points[rows]
            way = self.slope(self.images[rows], begun, at) * torch.from_numpy(sign[rows])[:, None]
            further = at + _STEP * _unit(_across(way, kept, at))
            if kept is not None and goal is not None:
                further = _brought_back(further, kept, goal[rows])
            moves = space.inside(begun, further).numpy() & (lengths[rows] + _STEP <= most[rows] + 1e-9)
            open_rows[rows[~moves]] = False
            if not moves.any():
                break
            rows = rows[moves]
            points[rows], lengths[rows] = further[torch.from_numpy(moves)], lengths[rows] + _STEP
            with torch.no_grad():
                scores = self.scorer(space.moved(self.images[rows], start[rows], points[rows]))[:, self.target]
            flipped[rows] = np.sign(scores) == sign[rows]
            open_rows[rows] = ~flipped[rows]
        return Flight(points, lengths, flipped)


def _slope(atlas: Atlas, scorer: Scorer, target: int, images: Tensor, start: Tensor, points: Tensor) -> Tensor:
    own = points.detach().clone().requires_grad_()
    with torch.enable_grad():
        (made,) = scorer.passes.model.prepare(atlas.space.moved(images, start, own))
        _, _, (outer,) = scorer.passes.gradient((made.detach(),), ReadOut(scorer.read(target)))
        (inner,) = torch.autograd.grad((made * outer).sum(), own)
    return inner


def _unit(way: Tensor) -> Tensor:
    unit: Tensor = way / way.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit


def _across(way: Tensor, kept: Heads | None, points: Tensor) -> Tensor:
    """Return the part of a way along which nothing that is held changes."""
    if kept is None:
        return way
    slopes = kept.slopes(points)
    parts = torch.linalg.lstsq(slopes @ slopes.mT, slopes @ way[:, :, None], driver="gelsd").solution
    across: Tensor = way - (slopes.mT @ parts)[:, :, 0]
    return across


def _brought_back(points: Tensor, kept: Heads, goal: Tensor) -> Tensor:
    """Undo what a step of finite length has changed of what is held, by one Newton step."""
    slopes = kept.slopes(points)
    missed = (goal - kept.predict(points))[:, :, None]
    parts = torch.linalg.lstsq(slopes @ slopes.mT, missed, driver="gelsd").solution
    back: Tensor = points + (slopes.mT @ parts)[:, :, 0]
    return back.detach()
