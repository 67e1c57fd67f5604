"""Figures of edited images: what each edit does to a call, over doses, and how far images lie from the border of two classes."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.interpretation.record import looks_real
from pellucid.measure import edit_in_words
from pellucid.show.charts import ACCENT, INK, MUTED, Dot, dot_chart, short
from pellucid.show.svg import STYLE

__all__ = ["border_figure", "dose_figure", "edit_figure"]

_EDITS = 14
_COLUMNS = 3


def edit_figure(rows: Sequence[dict[str, Any]], name: str) -> Figure | None:
    """Draw how much further than its null each edit moves a call, in standard deviations of the call; None without edits.

    Parameters
    ----------
    rows
        Of the study's table ``edit_tests``: those of `EditTests.effects`, strongest first, with the spread of the score.
    name
        Of the class.
    """
    dots = [
        Dot(f"{short(edit_in_words(row['edit']), 46)} {_way(row)}", _scaled(row, "beyond"), _scaled(row, "beyond_low"),
            _scaled(row, "beyond_high"), ACCENT if _sure(row) else INK)
        for row in rows[:_EDITS]
    ]  # fmt: skip
    if not dots:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 0.8 + 0.27 * len(dots)))
        dot_chart(
            figure.subplots(),
            dots,
            label=f"beyond the matched change, in standard deviations of the call for {name}",
            reference=0.0,
        )
    return figure


def dose_figure(doses: pa.Table) -> Figure | None:
    """Draw a call over the dose of each claim's edit, its null in grey; None without doses.

    Parameters
    ----------
    doses
        The study's table ``dose_response``: that of `dose_response` with class and claim in front.
    """
    rows = doses.to_pylist() if doses.num_rows else []
    claims = list(dict.fromkeys(row["claim"] for row in rows))
    if not claims:
        return None
    wide = min(_COLUMNS, len(claims))
    lines = -(-len(claims) // wide)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.3 * wide, 2.5 * lines + 0.2), layout="constrained")
        grid = figure.subplots(lines, wide, squeeze=False).ravel()
        for axes, claim in zip(grid, claims, strict=False):
            _curve(axes, [row for row in rows if row["claim"] == claim])
        for axes in grid[len(claims) :]:
            axes.set_visible(False)
    return figure


def _curve(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    at = [row["dose"] for row in rows]
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.plot(at, [_scaled(row, "null_change") for row in rows], color=MUTED, linewidth=1.4)
    for row in rows:
        if row["low"] is not None:
            axes.plot([row["dose"]] * 2, [_scaled(row, "low"), _scaled(row, "high")], color=ACCENT, linewidth=1.4)
        axes.plot(
            [row["dose"]],
            [_scaled(row, "change")],
            "o",
            color=ACCENT,
            markersize=5,
            markerfacecolor=ACCENT if looks_real(row["realistic"]) else "white",
        )
    axes.plot(at, [_scaled(row, "change") for row in rows], color=ACCENT, linewidth=1)
    first = rows[0]
    axes.set_title(f"{first['claim']}: call for {first['class']}", fontsize=8)
    axes.set_xlabel(f"{edit_in_words(first['edit']).split(',')[0]}, {first['setting']}", fontsize=8)
    axes.set_xticks(at)
    axes.locator_params(axis="y", nbins=5)
    axes.tick_params(labelsize=7)


def border_figure(margins: pa.Table) -> Figure:
    """Draw how far the images of two classes lie from the border between them, in margins.

    Parameters
    ----------
    margins
        The study's table ``support_margins``.
    """
    rows = margins.to_pylist()
    names = list(dict.fromkeys(sorted(row["label"] for row in rows)))
    spread = np.random.default_rng(0).uniform(-0.28, 0.28, len(rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 1.6))
        axes = figure.subplots()
        axes.axvspan(-1, 1, color="#eef0f2", zorder=0)
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        for row, off in zip(rows, spread, strict=True):
            wrong = row["called"] != row["label"]
            axes.plot(
                [row["distance"]],
                [names.index(row["label"]) + off],
                "o",
                markersize=3.5,
                color=ACCENT if wrong else INK,
                alpha=0.7,
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("distance to the border between the two, in margins")
    return figure


def _scaled(row: dict[str, Any], name: str) -> Any:
    """Return a change of the score in standard deviations of the score over unedited images."""
    return None if row[name] is None else row[name] / (row["spread"] or 1.0)


def _way(row: dict[str, Any]) -> str:
    """Return whether the edit raises or lowers the answer; nothing where that differs between images."""
    if row["change_low"] is None or row["change_low"] <= 0 <= row["change_high"]:
        return ""
    return "↑" if row["change"] > 0 else "↓"


def _sure(row: dict[str, Any]) -> bool:
    return row["q"] is not None and row["q"] <= 0.05 and row["beyond_low"] is not None and row["beyond_low"] > 0
