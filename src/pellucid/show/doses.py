"""Figures of dose and response: the model's score over a measured phenotype, with what meaningless directions do."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pellucid.errors import BadStudy
from pellucid.interpretation.phenotypes import CALLED, DoseResponse
from pellucid.show.charts import ACCENT, INK, MUTED
from pellucid.show.svg import STYLE

__all__ = ["plot_dose_response"]

_COLUMNS = 3
_MOST_LINES = 40


def plot_dose_response(found: DoseResponse, *, target: str | None = None, most: int = 9) -> Figure:
    """Draw the model's score over each measured phenotype, the steepest slopes first.

    Thin lines are images (real image in the middle of each), the thick line has the mean slope, vermillion where the
    phenotype moves the score; grey is the band that 95 % of meaningless directions of the same size stay in.

    Parameters
    ----------
    found
        What `pellucid.interpretation.phenotypes.dose_response` gave.
    target
        The target to draw; the first when None.
    most
        Phenotypes to draw.

    Raises
    ------
    BadStudy
        When no phenotype could be moved.
    """
    rows = [row for row in found.table.to_pylist() if row["slope"] is not None]
    chosen = target if target is not None else next((row["target"] for row in rows), None)
    own = [row for row in rows if row["target"] == chosen and row["verdict"] not in {"not held", "not moved"}]
    own = sorted(own, key=lambda row: -abs(row["slope"]))[:most]
    if not own:
        raise BadStudy("no phenotype could be moved by this generator, so there is no curve to draw")
    curves = [row for row in found.curves.to_pylist() if row["target"] == chosen and row["score"] is not None]
    lines = -(-len(own) // _COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * min(_COLUMNS, len(own)), 2.7 * lines + 0.4), layout="constrained")
        grid = figure.subplots(lines, min(_COLUMNS, len(own)), squeeze=False).ravel()
        for axes, row in zip(grid, own, strict=False):
            _curve(axes, row, [one for one in curves if one["phenotype"] == row["phenotype"]])
        for axes in grid[len(own) :]:
            axes.set_visible(False)
        figure.supylabel(f"{found.unit} of {chosen}", fontsize=9)
    return figure


def _curve(axes: Axes, row: dict[str, Any], points: Sequence[dict[str, Any]]) -> None:
    images = list(dict.fromkeys(one["image"] for one in points))[:_MOST_LINES]
    for image in images:
        own = sorted(
            (one["dose"], one["value"], one["score"])
            for one in points
            if one["image"] == image and one["value"] is not None
        )
        axes.plot([one[1] for one in own], [one[2] for one in own], color=MUTED, linewidth=0.5, alpha=0.6, zorder=1)
    values = np.array([one["value"] for one in points if one["value"] is not None])
    scores = np.array([one["score"] for one in points if one["value"] is not None])
    middle, height = float(values.mean()), float(scores.mean())
    reach = np.array([np.quantile(values, 0.02), np.quantile(values, 0.98)])
    apart = (reach - middle) / row["sd"]
    strong = row["verdict"] in CALLED
    _band(axes, reach, middle, height, row)
    axes.plot(reach, height + row["slope"] * apart, color=ACCENT if strong else INK, linewidth=2.2, zorder=3)
    bounds = "" if row["low"] is None else f" [{row['low']:.2g}, {row['high']:.2g}]"
    axes.set_title(
        f"{row['slope']:+.2g}{bounds} a SD, {row['agreeing']}/{row['groups']} groups", fontsize=7.5, fontweight="normal"
    )
    axes.set_xlabel(f"{row['phenotype']} ({row['unit']})" if row["unit"] != "1" else row["phenotype"], fontsize=8)
    axes.tick_params(labelsize=7)


def _band(axes: Axes, reach: NDArray[np.float64], middle: float, height: float, row: dict[str, Any]) -> None:
    places = np.array([reach[0], middle, reach[1]])
    wide = row["null"] * np.abs(places - middle) / row["sd"]
    axes.fill_between(places, height - wide, height + wide, color="#d0d4da", alpha=0.6, zorder=0, linewidth=0)
