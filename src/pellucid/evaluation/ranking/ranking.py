"""What a ranking is: methods in order, metric by metric and overall, and what else the same places say."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pellucid.errors import BadStudy
from pellucid.evaluation.ranking.average import Branch, nanmean
from pellucid.evaluation.ranking.consensus import EXACT, front, kemeny, preferences
from pellucid.evaluation.ranking.friedman import Friedman, friedman
from pellucid.evaluation.ranking.resample import Draws
from pellucid.evaluation.ranking.separation import level_with_best
from pellucid.evaluation.ranking.sides import SIDES, Side
from pellucid.evaluation.ranking.standings import Standings
from pellucid.evaluation.ranking.variance import variance
from pellucid.intervals import or_null

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["METRICS_RANKED", "RANKING", "Ranking"]

RANKING = pa.schema(
    [
        pa.field("family", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("rank", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("p_best", pa.float64()),
        pa.field("mean", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("missing", pa.int64(), nullable=False),
        pa.field("metrics", pa.int64(), nullable=False),
        pa.field("tied_with_best", pa.bool_()),
        pa.field("control", pa.bool_(), nullable=False),
        pa.field("below_control", pa.bool_()),
        pa.field("unbeaten", pa.list_(pa.string())),
    ],
    metadata={"pellucid.ranking": "2"},
)

METRICS_RANKED = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("cluster", pa.int64()),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("settings", pa.int64(), nullable=False),
        pa.field("seeds", pa.int64(), nullable=False),
        pa.field("left_out", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods in order, metric by metric and overall.

    Attributes
    ----------
    table
        Arrow table. ``family``, ``metric`` (its text; ``"insertion(*)"`` over several settings; or ``"overall"``, family
        ``"faithfulness-side"`` or ``"plausibility"``), ``method``; ``rank``: mean rank over images, 1 is best; ``low``,
        ``high``: its 95 % interval; ``p_best``: how often it comes first when images, settings and seeds are resampled;
        ``mean`` score; ``n`` images with a score, ``missing`` without; ``metrics`` behind the row; ``tied_with_best``:
        not separable from the best; ``control``; ``below_control``: not shown to beat a random map (null without that
        control); ``unbeaten``: the controls that it is not shown to beat. Null intervals: a single group of images
        cannot tell.
    metrics
        One row a metric: its ``family``, ``side``, ``cluster`` (metrics of a family with one number order methods alike
        and count as one), ``weight`` in the side's overall ranking, number of ``settings`` and ``seeds``, and why it is
        ``left_out`` of it, or "".
    standings
        Places of every method on every image, under every metric, setting and seed.
    sides
        What the overall rankings are made of.
    resampled
        The draws of groups of images.
    seed, draws
        Of the bootstrap.
    """

    table: pa.Table
    metrics: pa.Table
    standings: Standings
    sides: tuple[Side, ...]
    resampled: Draws
    seed: int = 0
    draws: int = 0

    def order(self, metric: str = "overall", family: str = "faithfulness-side") -> list[str]:
        """Return the methods of one ranking, best first."""
        return [
            row["method"]
            for row in self.table.to_pylist()
            if row["metric"] == metric and (metric != "overall" or row["family"] == family) and row["rank"] is not None
        ]

    def abstains(self, side: str = "faithfulness-side") -> bool:
        """Return whether no real method is shown to beat a random map: then no map supports any statement.

        Raises
        ------
        BadStudy
            When the side is not ranked or the scores hold no ``random_map``.
        """
        rows = [row for row in self.table.to_pylist() if row["metric"] == "overall" and row["family"] == side]
        judged = [row["below_control"] for row in rows if not row["control"] and row["below_control"] is not None]
        if not judged:
            raise BadStudy(
                f"nothing says whether a method beats random on the {side}: score the control random_map too"
            )
        return all(judged)

    def places(self, side: str = "faithfulness-side") -> np.ndarray:
        """Return ``(N, K)`` overall places of every image, 0 best, in the order of ``standings``."""
        return self._side(side).branch.mean([entry.places for entry in self.standings.entries])

    def friedman(self, side: str = "faithfulness-side") -> Friedman | None:
        """Test whether the methods differ at all, with images (or their groups) as blocks; see `friedman.friedman`."""
        return friedman(self.standings.methods, self.places(side), self.standings.groups)

    def kemeny(self, side: str = "faithfulness-side") -> list[str]:
        """Return the order that contradicts the fewest pairwise preferences, best first: a check of the mean ranks.

        Preferences are averaged as places are.

        Raises
        ------
        BadStudy
            When more than 14 methods are ranked; leave out those that are far behind.
        """
        first = [self.standings.methods.index(name) for name in self.order(family=side)]
        if len(first) > EXACT:
            raise BadStudy(f"Kemeny's order of {len(first)} methods is out of reach; rank at most {EXACT} of them")
        each = [preferences(entry.places[:, first]) for entry in self.standings.entries]
        return [self.standings.methods[first[column]] for column in kemeny(self._side(side).branch.mean(each))]

    @cached_property
    def pareto(self) -> pa.Table:
        """Faithfulness against plausibility, never one number: who is not bettered on both.

        Columns ``method``, ``faithfulness`` and ``plausibility`` (mean places, 0 best), ``front``, and ``p_front``: how often it
        is on the front when images are resampled. Empty where a side is missing.
        """
        known = [self._side(name) for name in SIDES if any(side.name == name for side in self.sides)]
        methods = self.standings.methods if len(known) == len(SIDES) else ()
        if not methods:
            return pa.table({name: [] for name in ("method", "faithfulness", "plausibility", "front", "p_front")})
        means = [nanmean(self.places(side.name)) for side in known]
        often = front([side.branch.mean(self._drawn) for side in known]).mean(0)
        return pa.table(
            {
                "method": list(methods), "faithfulness": _told(means[0]), "plausibility": _told(means[1]),
                "front": front(means).tolist(), "p_front": often.tolist(),
            }
        )  # fmt: skip

    def without_each(self, side: str = "faithfulness-side") -> pa.Table:
        """Return what the overall ranking would be without each of its metrics in turn.

        Columns ``left_out`` ("" for none), ``method``, ``rank``, ``best``: whether it is not separable from the best then.
        """
        own = self._side(side)
        parts = [("", own.branch), *((name, own.without(name)) for name in own.metrics if len(own.metrics) > 1)]
        return pa.Table.from_pylist([row for left_out, branch in parts for row in self._shortly(left_out, branch)])

    def _shortly(self, left_out: str, branch: Branch) -> list[dict[str, Any]]:
        place = nanmean(branch.mean([entry.places for entry in self.standings.entries]))
        boot = branch.mean(self._drawn)
        tied = level_with_best(place, boot, self.resampled.groups)
        ranks = 1 + max(int((~np.isnan(place)).sum()) - 1, 0) * place
        named = zip(self.standings.methods, _told(ranks), tied, strict=True)
        return [{"left_out": left_out, "method": method, "rank": own, "best": best} for method, own, best in named]

    def variance(self, side: str = "faithfulness-side") -> dict[str, float]:
        """Return what the place of a real method depends on: shares of method, metric, setting, seed, image and the rest.

        The parts but the first say by how much the answer is a choice; see `variance.variance`.
        """
        real = [column for column, control in enumerate(self.standings.controls) if not control]
        return variance([self.standings.entries[leaf] for leaf in self._side(side).branch.leaves()], real)

    def plot(self) -> "Figure":
        """Draw the overall rankings with their intervals; see `pellucid.show.plot_ranking`."""
        from pellucid.show import plot_ranking  # noqa: PLC0415  # pictures know rankings, not the reverse

        return plot_ranking(self)

    def __repr__(self) -> str:
        return f"Ranking({self.table.num_rows} rows, {self.draws} draws; overall: {', '.join(self.order()) or 'none'})"

    @cached_property
    def _drawn(self) -> list[np.ndarray]:
        """Mean places ``(draws, K)`` of every standing over the drawn images."""
        return [self.resampled.means(entry.places) for entry in self.standings.entries]

    def _side(self, name: str) -> Side:
        found = next((side for side in self.sides if side.name == name), None)
        if found is None:
            raise BadStudy(
                f"there is no {name!r} ranking: it needs scores of its metrics; {', '.join(SIDES)} are the sides"
            )
        return found


def _told(numbers: np.ndarray) -> list[float | None]:
    return [or_null(number) for number in numbers]
