"""Real images moved along one phenotype, measured again and read: what came of it, image by image and dose by dose."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.ratio import ratio_interval
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.intervals import Interval, or_null, share_interval

__all__ = ["Move", "Mover", "unmeasured"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Move:
    """What came of moving one phenotype: ``(N, doses + 1, P)`` measured and ``(N, doses + 1, T)`` scores, dose 0 first."""

    doses: Array
    measured: Array
    scores: Array

    def trends(self, values: Array) -> Array:
        """Return the rise of ``(N, doses, K)`` a nominal standard deviation ``(N, K)``, over the doses that are known."""
        known = np.asarray(np.isfinite(self.measured).all(2) & np.isfinite(self.scores).all(2))
        weight = known / np.maximum(known.sum(1, keepdims=True), 1)
        centred = np.where(known, self.doses - (weight * self.doses).sum(1, keepdims=True), 0.0)
        spread = (centred**2).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = (centred[:, :, None] * np.where(known[:, :, None], values, 0.0)).sum(1) / spread[:, None]
        rise[spread <= 0] = np.nan
        return np.asarray(rise)


@dataclass(frozen=True, eq=False)
class Mover:
    """Real images that are moved, and what reads them.

    Attributes
    ----------
    atlas, scorer
        Where the phenotypes lie, and the scores.
    images, start
        Real images ``(N, C, *S)`` and their points ``(N, D)``.
    ids, groups
        The name and the independent unit of each.
    doses
        Standard deviations to move by.
    seed
        Of intervals.
    """

    atlas: Atlas
    scorer: Scorer
    images: Tensor
    start: Tensor
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    doses: tuple[float, ...]
    seed: int

    @classmethod
    def of(
        cls, atlas: Atlas, scorer: Scorer, images: Tensor, *, ids: Sequence[str] | None, groups: Sequence[Hashable] | None,
        doses: Sequence[float], seed: int,
    ) -> "Mover":  # fmt: skip
        """Name the images, each its own group where none are given."""
        names = [f"image {row}" for row in range(len(images))] if ids is None else list(ids)
        units = [str(one) for one in (names if groups is None else groups)]
        if len(names) != len(images) or len(units) != len(images):
            raise ShapeError(f"{len(names)} ids and {len(units)} groups were given for {len(images)} images")
        start = atlas.space.encode(images)
        return cls(atlas, scorer, images.cpu(), start, tuple(names), tuple(units), tuple(doses), seed)

    def move(self, place: int) -> Move:
        """Move one phenotype of every image by every dose; what leaves the range of real images is left out."""
        space, points = self.atlas.space, self.atlas.directions.path(self.start, place, self.doses)
        measured, scores = [self.atlas.measured(self.images)], [self.scorer(self.images)]
        for dose in range(len(self.doses)):
            with torch.no_grad():
                changed = space.moved(self.images, self.start, points[:, dose])
            outside = ~space.inside(self.start, points[:, dose]).numpy()
            for kept, found in ((measured, self.atlas.measured(changed)), (scores, self.scorer(changed))):
                found[outside] = np.nan
                kept.append(found)
        return Move(np.array([0.0, *self.doses]), np.stack(measured, 1), np.stack(scores, 1))

    def slope(self, move: Move, place: int, target: int) -> Interval:
        """Return the change of a score over the measured change of the phenotype, both summed over images."""
        above, below = move.trends(move.scores)[:, target], move.trends(move.measured)[:, place]
        return ratio_interval(above, below, self.groups, seed=self.seed)

    def moved(self, move: Move, place: int) -> Interval:
        """Return how many standard deviations are measured where one was aimed at."""
        own = move.trends(move.measured)[:, place]
        return ratio_interval(own, np.where(np.isfinite(own), 1.0, np.nan), self.groups, seed=self.seed)

    def agreeing(self, move: Move, place: int, target: int, slope: float) -> int:
        """Return the number of groups whose slope has the sign of all."""
        rises, own = move.trends(move.scores)[:, target], move.trends(move.measured)[:, place]
        known, names = np.isfinite(rises) & np.isfinite(own), np.array(self.groups)
        parts = [known & (names == name) for name in sorted(set(names[known]))]
        return int(sum(np.sign(rises[part].sum() * own[part].sum()) == np.sign(slope) for part in parts))

    def curve(self, place: int, move: Move) -> list[dict[str, Any]]:
        """Return the measured curve of one phenotype, a row an image, target and dose."""
        atlas = self.atlas
        rows = []
        for row, dose in np.ndindex(len(self.ids), len(move.doses)):
            change = move.measured[row, dose, place]
            for column, target in enumerate(self.scorer.names):
                rows.append({
                    "image": self.ids[row], "group": self.groups[row], "phenotype": atlas.names[place], "target": target,
                    "dose": float(move.doses[dose]), "value": or_null(change * atlas.sd[place] + atlas.mean[place]),
                    "change": or_null(change - move.measured[row, 0, place]), "score": or_null(move.scores[row, dose, column]),
                })  # fmt: skip
        return rows

    def responses(self, place: int, move: Move) -> list[dict[str, Any]]:
        """Return what else changes when one phenotype does."""
        trends, rows = move.trends(move.measured), []
        for measure, name in enumerate(self.atlas.names):
            found = ratio_interval(trends[:, measure], trends[:, place], self.groups, seed=self.seed)
            rows.append({"phenotype": self.atlas.names[place], "measure": name, "value": or_null(found.value),
                         "low": or_null(found.low), "high": or_null(found.high)})  # fmt: skip
        return rows


def unmeasured(moves: Sequence[Move]) -> Interval:
    """Return the share of generated images in which nothing could be measured."""
    made = [np.asarray(np.isfinite(move.scores).all(2))[:, 1:] for move in moves]
    lost = [np.asarray(np.isnan(move.measured).all(2))[:, 1:] for move in moves]
    total = sum(int(one.sum()) for one in made)
    failed = sum(int((one & other).sum()) for one, other in zip(made, lost, strict=True))
    return share_interval(failed, total)
