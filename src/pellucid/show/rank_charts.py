"""Charts of what a ranking rests on: critical differences, metrics that repeat each other, the two sides, sources of variance."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pellucid.errors import BadStudy
from pellucid.evaluation import Friedman, Ranking
from pellucid.show.charts import ACCENT, INK, MUTED, short
from pellucid.show.svg import STYLE

__all__ = [
    "critical_difference_chart",
    "pareto_chart",
    "plot_critical_difference",
    "redundancy_chart",
    "variance_chart",
]

_SOURCES = {
    "method": "the method itself", "metric": "which metric judges", "setting": "the metric's setting",
    "seed": "the metric's seed", "image": "which image", "rest": "image and metric together, noise",
}  # fmt: skip


def critical_difference_chart(found: Friedman) -> Figure:
    """Draw a critical-difference diagram (Demšar 2006): methods on an axis of mean ranks, bars join those not told apart."""
    count, cliques = len(found.methods), found.cliques
    lines = -(-count // 2)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.9 + 0.16 * len(cliques) + 0.24 * lines))
        axes = figure.subplots()
        axes.set_xlim(1, max(2, count))
        axes.set_ylim(-(0.7 * len(cliques) + lines + 1), 1.6)
        axes.plot([1, 1 + found.difference], [1.1, 1.1], color=INK, linewidth=1.4)
        axes.text(
            1 + found.difference / 2,
            1.25,
            f"critical difference {found.difference:.2f}",
            ha="center",
            va="bottom",
            fontsize=8,
        )
        for row, clique in enumerate(cliques):
            ends = [found.ranks[found.methods.index(clique[end])] for end in (0, -1)]
            axes.plot(ends, [-0.5 - 0.7 * row] * 2, color=ACCENT, linewidth=2.6, solid_capstyle="round")
        floor = -0.7 * len(cliques) - 0.6
        for place, (method, rank) in enumerate(zip(found.methods, found.ranks, strict=True)):
            left = place < lines
            line = place if left else count - 1 - place
            level = floor - line
            edge = 1 if left else max(2, count)
            axes.plot([rank, rank, edge], [0, level, level], color=MUTED, linewidth=0.8)
            axes.text(edge, level, f"{short(method, 34)} " if left else f" {short(method, 34)}", ha="right" if left else "left",
                      va="center", fontsize=8)  # fmt: skip
        axes.xaxis.set_ticks_position("top")
        axes.spines["bottom"].set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.spines["top"].set_position(("data", 0))
        axes.set_yticks([])
        axes.set_xticks(range(1, count + 1))
    return figure


def plot_critical_difference(ranking: Ranking, side: str = "faithfulness-side") -> Figure:
    """Draw which methods Friedman's and Nemenyi's tests tell apart on one side.

    Raises
    ------
    BadStudy
        When fewer than three methods or two images are ranked.
    """
    found = ranking.friedman(side)
    if found is None:
        raise BadStudy(
            f"a critical difference on the {side} needs three methods and two images with scores of all of them"
        )
    return critical_difference_chart(found)


def redundancy_chart(ranking: Ranking, side: str) -> Figure | None:
    """Return how far the metrics of a side agree on the order of methods, with their clusters boxed; None for a single one."""
    own = next((one for one in ranking.sides if one.name == side), None)
    if own is None or len(own.metrics) < 2:
        return None
    order = sorted(range(len(own.metrics)), key=lambda at: (own.cluster[own.metrics[at]], own.metrics[at]))
    names = [own.metrics[at] for at in order]
    taus = own.taus[np.ix_(order, order)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 + 0.42 * len(names), 1.9 + 0.3 * len(names)))
        axes = figure.subplots()
        axes.imshow(taus, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        for (row, column), tau in np.ndenumerate(taus):
            text = "–" if np.isnan(tau) else f"{tau:.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if abs(tau) > 0.7 else INK)
        labels = [own.cluster[name] for name in names]
        for label in dict.fromkeys(labels):
            first, size = labels.index(label), labels.count(label)
            if size > 1:
                axes.add_patch(mpl.patches.Rectangle((first - 0.5, first - 0.5), size, size, fill=False, edgecolor=ACCENT, linewidth=2))  # fmt: skip
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
    return figure


def pareto_chart(ranking: Ranking) -> Figure | None:
    """Return faithfulness against plausibility, the methods that none betters on both joined; None where a side is missing."""
    rows = [row for row in ranking.pareto.to_pylist() if None not in {row["faithfulness"], row["plausibility"]}]
    if not rows:
        return None
    best = sorted((row for row in rows if row["front"]), key=lambda row: row["faithfulness"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, max(3.2, 0.26 * len(rows))))
        axes = figure.subplots()
        axes.plot(
            [row["faithfulness"] for row in best], [row["plausibility"] for row in best], color=ACCENT, linewidth=1
        )
        shelf = np.linspace(1, 0, len(rows))
        for level, row in zip(shelf, sorted(rows, key=lambda row: -row["plausibility"]), strict=True):
            colour = ACCENT if row["front"] else INK
            axes.plot(row["faithfulness"], row["plausibility"], "o", color=colour, markersize=5)
            axes.annotate(short(row["method"], 34), (row["faithfulness"], row["plausibility"]), (1.04, level),
                          textcoords="axes fraction", va="center", fontsize=8, color=colour,
                          arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5})  # fmt: skip
        axes.set_xlabel("faithfulness-side place, 0 best, 1 worst")
        axes.set_ylabel("plausibility place, 0 best, 1 worst")
    return figure


def variance_chart(shares: Mapping[str, float]) -> Figure | None:
    """Return what the place of a method depends on as bars, largest part first; None where no two places differ."""
    if not shares:
        return None
    rows = sorted(shares.items(), key=lambda item: -item[1])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.6 + 0.26 * len(rows)))
        axes = figure.subplots()
        for place, (name, share) in enumerate(rows):
            axes.barh(place, 100 * share, color=ACCENT if name == "method" else MUTED, height=0.62)
            axes.text(100 * share + 1, place, f"{100 * share:.0f} %", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [_SOURCES[name] for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 108)
        axes.set_xlabel("share of the variance of places")
        axes.tick_params(axis="y", length=0)
    return figure
