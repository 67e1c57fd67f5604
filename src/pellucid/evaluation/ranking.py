"""Ranking: which methods are better here, how sure that is, and which cannot be told apart.

Methods are ranked within each image and metric; whole images (or groups of images) are resampled; families weigh
equally in the overall ranking, and metrics within a family. Faithfulness-side families (faithfulness, robustness,
randomisation) and plausibility (localisation) have an overall ranking each and are never merged. Axioms, complexity
and agreement are ranked per metric only: the first are tested on methods that promise them alone, so that counting
them would punish the promise, and the others do not say that a map is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pellucid.errors import BadStudy
from pellucid.evaluation.metric import FAMILIES
from pellucid.evaluation.resample import Draws, interval
from pellucid.evaluation.scores import Scores
from pellucid.evaluation.standings import Standing, standings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CONTROL", "RANKING", "Ranking", "rank"]

CONTROL = "random_map"
"""The control that every method must beat."""

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
    ],
    metadata={"pellucid.ranking": "1"},
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods in order, metric by metric and overall.

    Attributes
    ----------
    table
        Arrow table. ``family``, ``metric`` (or ``"overall"``, family ``"faithfulness-side"`` or ``"plausibility"``),
        ``method``; ``rank``: mean rank over images, 1 is best; ``low``, ``high``: its 95 % interval; ``p_best``: how
        often it comes first when images are resampled; ``mean`` score; ``n`` images with a score, ``missing`` without;
        ``metrics`` behind the row; ``tied_with_best``: not separable from the best; ``control``; ``below_control``: not
        shown to beat a random map (null without that control). Null intervals: a single group of images cannot tell.
    seed, draws
        Of the bootstrap.
    """

    table: pa.Table
    seed: int = 0
    draws: int = 0

    def order(self, metric: str = "overall", family: str = "faithfulness-side") -> list[str]:
        """Return the methods of one ranking, best first."""
        return [
            row["method"]
            for row in self.table.to_pylist()
            if row["metric"] == metric and (metric != "overall" or row["family"] == family) and row["rank"] is not None
        ]

    def plot(self) -> "Figure":
        """Draw the overall rankings with their intervals; see `pellucid.show.plot_ranking`."""
        from pellucid.show import plot_ranking  # noqa: PLC0415  # pictures know rankings, not the reverse

        return plot_ranking(self)

    def __repr__(self) -> str:
        return f"Ranking({self.table.num_rows} rows, {self.draws} draws; overall: {', '.join(self.order()) or 'none'})"


def rank(
    scores: Scores,
    *,
    seed: int = 0,
    draws: int = 2000,
    groups: Mapping[str, str] | None = None,
) -> Ranking:
    """Rank methods for this model and these images, with how sure that is.

    Parameters
    ----------
    scores
        What `evaluate` gave, of any number of images, methods and metrics.
    seed
        Of the bootstrap.
    draws
        Resamples of the images.
    groups
        Image id to its unit (patient, plate): whole units are resampled; default: the groups given to `evaluate`.

    Returns
    -------
    Ranking
        One row a metric and method, and one a method for each overall ranking.

    Raises
    ------
    BadStudy
        When an image has two scores of the same method and metric, or an image lacks a group.
    """
    if draws < 1:
        raise BadStudy(f"draws={draws} must be at least 1")
    found = standings(scores, groups)
    rows: list[dict[str, Any]] = []
    resampled = Draws.of(found.groups, draws=draws, seed=seed)
    drawn = {standing.metric: resampled.means(standing.places) for standing in found.metrics}
    for standing in found.metrics:
        rows += _rows(standing, drawn[standing.metric], found.methods, found.controls, resampled.groups)
    for side in dict.fromkeys(FAMILIES.values()):
        members = [standing for standing in found.metrics if side and FAMILIES.get(standing.family, "") == side]
        if members:
            whole = _overall(side, members)
            boot = _balanced([drawn[standing.metric] for standing in members], [one.family for one in members])
            rows += _rows(whole, boot, found.methods, found.controls, resampled.groups)
    return Ranking(pa.Table.from_pylist(rows, schema=RANKING), seed, draws)


def _balanced(parts: Sequence[np.ndarray], families: Sequence[str]) -> np.ndarray:
    """Average the metrics of a family, then the families; what is NaN has no say."""
    means = [
        _nanmean(np.stack([part for part, own in zip(parts, families, strict=True) if own == family]))
        for family in dict.fromkeys(families)
    ]
    return _nanmean(np.stack(means))


def _nanmean(stack: np.ndarray) -> np.ndarray:
    known = ~np.isnan(stack)
    total = np.where(known, stack, 0.0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def _overall(side: str, members: Sequence[Standing]) -> Standing:
    families = [member.family for member in members]
    places = np.stack([member.places for member in members])
    return Standing(
        family=side,
        metric="overall",
        place=_balanced([member.place for member in members], families),
        places=np.where(np.isnan(places).all(0), np.nan, 0.0),
        mean=np.full(places.shape[2], np.nan),
        known=np.asarray(np.stack([member.known for member in members]).any(0)),
        metrics=(~np.isnan(places)).any(1).sum(0),
        width=int((~np.isnan(places)).any((0, 1)).sum()),
    )


def _rows(
    standing: Standing, boot: np.ndarray, methods: Sequence[str], controls: Sequence[bool], groups: int
) -> list[dict[str, Any]]:
    """Turn places in [0, 1] into ranks with what the resamples say of them; best first."""
    scale = max(standing.width - 1, 0)
    tied, below = _separable(standing.place, boot, methods, groups)
    best = _best(boot) if groups > 1 else np.full(len(methods), np.nan)
    low, high = interval(standing.place, boot, groups)
    rows = []
    for column in sorted(range(len(methods)), key=lambda place: (_last(float(standing.place[place])), methods[place])):
        scored = int(standing.scored[column])
        rows.append(
            {
                "family": standing.family, "metric": standing.metric, "method": methods[column],
                "rank": _known(1 + scale * standing.place[column]),
                "low": _known(1 + scale * low[column]), "high": _known(1 + scale * high[column]),
                "p_best": _known(best[column]), "mean": _known(standing.mean[column]),
                "n": scored, "missing": len(standing.known) - scored, "metrics": int(standing.metrics[column]),
                "tied_with_best": tied[column], "control": bool(controls[column]), "below_control": below[column],
            }
        )  # fmt: skip
    return rows


def _separable(
    place: np.ndarray, boot: np.ndarray, methods: Sequence[str], groups: int
) -> tuple[list[bool | None], list[bool | None]]:
    """Say who is not separable from the best, and who is not shown to beat the random control."""
    nobody: list[bool | None] = [None] * len(methods)
    if np.isnan(place).all():
        return nobody, nobody
    best = int(np.nanargmin(place))
    behind, _ = interval(place - place[best], boot - boot[:, [best]], groups, clip=False)
    tied = [_judged(value, place[at], not value > 0) for at, value in enumerate(behind)]
    random = next((at for at, name in enumerate(methods) if name.split("(")[0] == CONTROL), None)
    if random is None or np.isnan(place[random]):
        return tied, nobody
    _, ahead = interval(place - place[random], boot - boot[:, [random]], groups, clip=False)
    below = [_judged(value, place[at], not value < 0) if at != random else None for at, value in enumerate(ahead)]
    return tied, below


def _judged(value: float, place: float, verdict: bool) -> bool | None:  # noqa: FBT001
    """Return the verdict of a method that has a place; one that no interval can judge is not separable."""
    return None if np.isnan(place) else bool(np.isnan(value) or verdict)


def _best(boot: np.ndarray) -> np.ndarray:
    """Return how often each method comes first; methods level in a draw share it."""
    filled = np.where(np.isnan(boot), np.inf, boot)
    first = (filled <= filled.min(1, keepdims=True) + 1e-12) & ~np.isnan(boot)
    share = first / np.maximum(first.sum(1, keepdims=True), 1)
    judged = first.any(1)
    return np.where(np.isnan(boot).all(0), np.nan, share[judged].sum(0) / max(int(judged.sum()), 1))


def _last(place: float) -> float:
    return float("inf") if np.isnan(place) else float(place)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
