"""Concepts over the depth of a network: in which layers each can be read, and how far the answer hangs on it there."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.errors import BadStudy
from pellucid.measure import in_words
from pellucid.show.svg import STYLE

__all__ = ["depth_chart"]

_COLOURS = ("#a63200", "#0b3c74", "#2d7d46", "#7a4ea3", "#b08900", "#24292f", "#5aa9b8", "#c2548f")
_MOST = len(_COLOURS)


def depth_chart(table: pa.Table, target: str | None = None) -> Figure:
    """Draw each concept over the layers for one class: how well the layer tells it, and what it does to the output.

    Filled: significant over the whole table. Of many concepts the eight that the output hangs on most are drawn.

    Parameters
    ----------
    table
        Of a `ConceptRelevance`.
    target
        Which class; the first when None.

    Raises
    ------
    BadStudy
        When the table has no such class.
    """
    rows = table.to_pylist()
    names = list(dict.fromkeys(row["target"] for row in rows))
    chosen = names[0] if target is None and names else target
    rows = [row for row in rows if row["target"] == chosen]
    if not rows:
        raise BadStudy(f"the table of concepts has no class {target!r}; it has {', '.join(names) or 'none'}")
    concepts = _leading(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.6, 3.4), layout="constrained")
        told, used = figure.subplots(1, 2)
        for colour, concept in zip(_COLOURS, concepts, strict=False):
            own = sorted((row for row in rows if row["concept"] == concept), key=lambda row: row["depth"])
            _line(told, own, "fit", colour, bounded=True)
            _line(used, own, "effect", colour, bounded=False)
        _axes(told, rows, "how well it is told on unseen groups (1 is perfect)")
        _axes(used, rows, "change of the call for one SD of it, logarithm of the odds")
        used.axhline(0, color="#a0a6ae", linewidth=1, linestyle=(0, (3, 3)), zorder=0)
        figure.legend(*told.get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
        figure.suptitle(f"{chosen}: concepts over depth; filled: significant; bars: 95 % interval", fontsize=9)
    return figure


def _leading(rows: list[dict[str, Any]]) -> list[str]:
    strongest: dict[str, float] = {}
    for row in rows:
        strongest[row["concept"]] = max(strongest.get(row["concept"], 0.0), abs(row["effect"]))
    return sorted(strongest, key=lambda name: -strongest[name])[:_MOST]


def _line(axes: Axes, rows: list[dict[str, Any]], column: str, colour: str, *, bounded: bool) -> None:
    at = [row["depth"] for row in rows]
    values = [row[column] for row in rows]
    axes.plot(at, values, color=colour, linewidth=1.2, label=in_words(rows[0]["concept"]))
    for row in rows:
        if bounded and not np.isnan(row[f"{column}_low"]):
            axes.plot([row["depth"]] * 2, [row[f"{column}_low"], row[f"{column}_high"]], color=colour, linewidth=1)
        face = colour if row["significant"] else "white"
        axes.plot([row["depth"]], [row[column]], "o", color=colour, markerfacecolor=face, markersize=5)


def _axes(axes: Axes, rows: list[dict[str, Any]], label: str) -> None:
    layers = {row["depth"]: row["layer"] for row in rows}
    axes.set_xticks(list(layers), list(layers.values()), rotation=20, ha="right")
    axes.set_title(label, fontsize=9)
