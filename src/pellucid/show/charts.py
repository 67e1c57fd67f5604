"""Charts of numbers: rankings, scores and effects as dots with their intervals."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.errors import BadStudy
from pellucid.evaluation import Calibration, Ranking, Scores
from pellucid.interpretation import Reliance
from pellucid.intervals import mean_interval
from pellucid.show.svg import STYLE

__all__ = [
    "Dot",
    "dot_chart",
    "dot_figure",
    "plot_calibration",
    "plot_ranking",
    "plot_reliance",
    "plot_scores",
    "ranking_chart",
]

INK, MUTED, ACCENT = "#24292f", "#a0a6ae", "#a63200"

_SIDES = {"faithfulness-side": "Faithfulness side", "plausibility": "Plausibility"}


@dataclass(frozen=True)
class Dot:
    """One row of a chart: a number with its interval, strong, plain or a control."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = INK
    hollow: bool = False


def dot_chart(axes: Axes, dots: Sequence[Dot], *, label: str, reference: float | None = None) -> None:
    """Draw dots with their intervals from top to bottom, one row a dot."""
    for row, dot in enumerate(dots):
        if dot.low is not None and dot.high is not None:
            axes.plot([dot.low, dot.high], [row, row], color=dot.colour, linewidth=1.6, solid_capstyle="round")
        axes.plot([dot.value], [row], marker="o", markersize=5.5, color=dot.colour, markeredgewidth=1.3,
                  markerfacecolor="white" if dot.hollow else dot.colour)  # fmt: skip
    if reference is not None:
        axes.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
    axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
    axes.set_ylim(len(dots) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)


def dot_figure(dots: Sequence[Dot], label: str) -> Figure | None:
    """Return a figure of dots about zero, one row a dot, or None where there are none."""
    if not dots:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 0.8 + 0.27 * len(dots)))
        dot_chart(figure.subplots(), dots, label=label, reference=0.0)
    return figure


def short(method: str, length: int = 42) -> str:
    """Return a method's text, cut where it is too long for a label."""
    plain = re.sub(r"composite=", "", method).replace('"', "")
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def _side(ranking: pa.Table, family: str) -> list[dict[str, object]]:
    rows = ranking.filter(pc.and_(pc.equal(ranking["metric"], "overall"), pc.equal(ranking["family"], family)))
    return [row for row in rows.to_pylist() if row["rank"] is not None]


def _ranked(axes: Axes, rows: Sequence[dict[str, object]]) -> None:
    dots = [
        Dot(
            label=short(str(row["method"])) + (" (control)" if row["control"] else ""),
            value=float(row["rank"]), low=row["low"], high=row["high"],  # type: ignore[arg-type]
            colour=MUTED if row["control"] else ACCENT if row["tied_with_best"] else INK,
            hollow=bool(row["control"]),
        )
        for row in rows
    ]  # fmt: skip
    dot_chart(axes, dots, label="mean rank over images (1 is best), 95 % interval")


def ranking_chart(ranking: pa.Table, family: str) -> Figure | None:
    """Return the overall ranking of one side, or None where it has none.

    Parameters
    ----------
    ranking
        The table of a `Ranking`.
    family
        ``"faithfulness-side"`` or ``"plausibility"``.
    """
    rows = _side(ranking, family)
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.8 + 0.27 * len(rows)))
        _ranked(figure.subplots(), rows)
    return figure


def plot_ranking(ranking: Ranking) -> Figure:
    """Draw the overall rankings with their intervals: faithfulness and plausibility side by side, never merged.

    Methods that cannot be told apart from the best are vermillion, controls hollow.

    Parameters
    ----------
    ranking
        What `pellucid.rank` gave.

    Raises
    ------
    BadStudy
        When no metric counts in an overall ranking.
    """
    sides = {name: rows for name in _SIDES if (rows := _side(ranking.table, name))}
    if not sides:
        raise BadStudy("there is no overall ranking to plot: score at least one faithfulness, robustness, "
                       "randomisation or localisation metric")  # fmt: skip
    longest = max(map(len, sides.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4 * len(sides), 1.1 + 0.27 * longest), layout="constrained")
        for axes, (name, rows) in zip(np.atleast_1d(figure.subplots(1, len(sides))), sides.items(), strict=True):
            _ranked(axes, rows)
            axes.set_title(f"{_SIDES[name]}, n = {max(int(str(row['n'])) for row in rows)} images")
    return figure


def plot_calibration(calibration: Calibration) -> Figure:
    """Draw how far each method's changes are in proportion to what planted edits did to the model; dashed: not at all.

    Parameters
    ----------
    calibration
        What `pellucid.evaluation.calibrate` gave.
    """
    judged = calibration.judged
    dots = []
    for method, share in judged.items():
        low, high = (share.low, share.high) if share.groups > 1 else (None, None)
        dots.append(Dot(short(method), share.value, low, high, ACCENT if method == calibration.chosen else INK))
    number = max(share.n for share in judged.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.0 + 0.27 * len(dots)), layout="constrained")
        label = f"proportion of the map's changes to the model's, n = {number} images that were edited, 95 % interval"
        dot_chart(figure.subplots(), dots, label=label, reference=0.0)
    return figure


def plot_reliance(reliance: Reliance) -> Figure:
    """Draw how far each factor moves the model's call, with its interval: what the model relies on.

    Parameters
    ----------
    reliance
        What `pellucid.interpretation.flip_matrix` gave.

    Raises
    ------
    BadStudy
        When no factor was moved.
    """
    effects = reliance.effects()
    if not effects:
        raise BadStudy("no factor was moved, so there is no reliance to plot")
    used = set(reliance.used())
    dots = []
    for name, effect in effects.items():
        low, high = (effect.low, effect.high) if effect.groups > 1 else (None, None)
        dots.append(Dot(name, effect.value, low, high, ACCENT if name in used else INK))
    images = len(set(reliance.table["image"].to_pylist()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.0 + 0.27 * len(dots)), layout="constrained")
        axes = figure.subplots()
        dot_chart(
            axes,
            dots,
            label=f"mean change of the called class's probability, n = {images} images, 95 % interval",
            reference=0,
        )
    return figure


def _scored(table: pa.Table, metric: str) -> tuple[list[Dot], float | None, str]:
    rows = table.filter(pc.and_(pc.equal(table["metric"], metric), pc.is_valid(table["value"])))
    dots = []
    for method in sorted(set(rows["method"].to_pylist())):
        own = rows.filter(pc.equal(rows["method"], method))
        found = mean_interval(own["value"].to_numpy(), groups=own["group"].to_pylist())
        control = bool(own["control"][0].as_py())
        low, high = (found.low, found.high) if found.groups > 1 else (None, None)
        dots.append(Dot(short(method), found.value, low, high, MUTED if control else INK, control))
    direction = rows["direction"][0].as_py() if rows.num_rows else "higher"
    dots.sort(key=lambda dot: dot.value, reverse=direction == "higher")
    chance = pc.mean(rows["chance"]).as_py()
    return dots, chance, f"{direction} is better, n = {len(set(rows['image'].to_pylist()))} images"


def plot_scores(scores: Scores, metrics: Sequence[str] | None = None) -> Figure:
    """Draw every method's mean score under every metric with its 95 % interval; dashed: what chance would score.

    Parameters
    ----------
    scores
        What `pellucid.evaluate` gave.
    metrics
        Texts of the metrics to draw; all when None.

    Raises
    ------
    BadStudy
        When there is no score to draw.
    """
    known = list(dict.fromkeys(scores.table["metric"].to_pylist()))
    drawn = [(metric, *_scored(scores.table, metric)) for metric in (known if metrics is None else metrics)]
    drawn = [part for part in drawn if part[1]]
    if not drawn:
        raise BadStudy(f"there is no score to plot; the table has {', '.join(known) or 'no metric'}")
    columns = min(2, len(drawn))
    lines = -(-len(drawn) // columns)
    height = 0.9 + 0.22 * max(len(dots) for _, dots, _, _ in drawn)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6 * columns, height * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (metric, dots, chance, label) in zip(grid, drawn, strict=False):
            dot_chart(axes, dots, label=label, reference=chance)
            axes.set_title(metric)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
    return figure
