"""Which phenotypes are called causes: slopes beside what permuted phenotypes and meaningless ways do, and what that allows to say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.interpretation.phenotypes.atlas import HELD
from pellucid.interpretation.phenotypes.moving import Move, Mover
from pellucid.interpretation.phenotypes.nulls import RATE, Pulls, null_pulls, pull, step_down
from pellucid.intervals import or_null

__all__ = ["CALLED", "UNSPECIFIC", "Caller"]

Array = NDArray[np.float64]

CALLED = frozenset({"moves", "not separable", "with others held"})
"""Verdicts on phenotypes that the score follows; the last only while the other phenotypes are held fixed."""

UNSPECIFIC = "no more than any way"
"""Verdict on a phenotype that the score follows for certain, yet no more than it follows arbitrary ways of the same length."""

_MOVED = 0.2
"""Measured standard deviations a nominal one below which a phenotype counts as not moved."""

_COLLINEAR = 0.9
"""Mean cosine of two ways from which they are one."""

_LENGTH = 1.0
"""Mahalanobis length of the moves that are held against meaningless ones."""

_QUANTILE = 0.95


@dataclass(frozen=True, eq=False)
class Caller:
    """What phenotypes are held against.

    Attributes
    ----------
    mover
        The moved images.
    ways
        Of each phenotype, ``(N, D)`` with the others held fixed (or as the atlas says).
    fixed, free
        What the scores do along these, and along the phenotypes' patterns with the others left free.
    null
        By form of regression, what the scores do along the patterns of permuted phenotypes.
    """

    mover: Mover
    ways: tuple[Tensor, ...]
    fixed: Pulls
    free: Pulls
    null: Mapping[str, Pulls]

    @classmethod
    def of(cls, mover: Mover, *, permutations: int, random: np.random.Generator, progress: bool = False) -> "Caller":
        """Read the scores along the ways of phenotypes, and along meaningless ones."""
        atlas, places = mover.atlas, range(len(mover.atlas.names))
        ways = tuple(atlas.directions.unit(mover.start, place) for place in places)
        patterns = [atlas.directions.pattern(mover.start, place) for place in places]
        own, free = (pull(atlas.space, mover.scorer, mover.images, one, _LENGTH) for one in (ways, patterns))
        null = null_pulls(
            atlas,
            mover.scorer,
            mover.images,
            length=_LENGTH,
            permutations=permutations,
            random=random,
            progress=progress,
        )
        return cls(mover, ways, own, free, null)

    def rows(self, moves: Sequence[Move]) -> list[dict[str, Any]]:
        """Return the table, a row a phenotype and target."""
        heads = self.mover.atlas.directions.heads
        p, q = step_down(self.fixed, dict(self.null), heads.kernels, heads.r2 >= HELD)
        rows = [
            self._row(place, target, move) | {"p": or_null(p[place, target]), "q": or_null(q[place, target])}
            for place, move in enumerate(moves)
            for target in range(len(self.mover.scorer.names))
        ]
        for row in rows:
            row["verdict"] = _verdict(row)
        self._mark_collinear(rows)
        return rows

    def _row(self, place: int, target: int, move: Move) -> dict[str, Any]:
        mover, atlas = self.mover, self.mover.atlas
        slope, moved = mover.slope(move, place, target), mover.moved(move, place)
        painted = float(np.clip(np.nan_to_num(moved.value), _MOVED, 1.0))
        drawn = np.abs(self.null[atlas.directions.heads.kernels[place]].rises[:, target])
        return {
            "phenotype": atlas.names[place], "same": ", ".join(atlas.clusters[place].others), "unit": atlas.units[place],
            "sd": float(atlas.sd[place]), "target": mover.scorer.names[target], "spread": float(move.scores[:, 0, target].std()),
            "slope": or_null(slope.value), "low": or_null(slope.low), "high": or_null(slope.high),
            "null": float(np.quantile(drawn, _QUANTILE)) / painted, "alone": float(self.free.rises[place, target]) / painted,
            "moved": or_null(moved.value), "moved_low": or_null(moved.low), "held": or_null(float(atlas.directions.heads.r2[place])),
            "agreeing": mover.agreeing(move, place, target, slope.value), "groups": slope.groups, "images": slope.n,
        }  # fmt: skip

    def _mark_collinear(self, rows: list[dict[str, Any]]) -> None:
        """Say of phenotypes that move the score along the same way that these data cannot separate them."""
        names = self.mover.atlas.names
        for row in rows:
            way = self.ways[names.index(row["phenotype"])]
            alike = [
                other["phenotype"]
                for other in rows
                if other["target"] == row["target"] and other is not row and other["verdict"] in CALLED
                and float((way * self.ways[names.index(other["phenotype"])]).sum(1).mean().abs()) >= _COLLINEAR
            ]  # fmt: skip
            if row["verdict"] == "moves" and alike:
                row["verdict"] = "not separable"
                row["same"] = ", ".join(filter(None, [row["same"], *alike]))


def _verdict(row: Mapping[str, Any]) -> str:
    if row["held"] is None or row["held"] < HELD:
        return "not held"
    least = row["moved"] if row["moved_low"] is None else row["moved_low"]
    if row["slope"] is None or least is None or least < _MOVED:
        return "not moved"
    across = row["low"] is not None and row["low"] <= 0 <= row["high"]
    if across or abs(row["slope"]) <= row["null"]:
        return "no effect seen"
    if row["q"] is None or row["q"] > RATE:
        return UNSPECIFIC
    alone = abs(row["alone"]) > row["null"] and row["alone"] * row["slope"] > 0
    return "moves" if alone else "with others held"
