"""The report's section on strategies: in how many ways the model decides, with typical images and where they look."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from torch import from_numpy

from pellucid.images import ImageSet
from pellucid.interpretation import likelier
from pellucid.show.colour import full_colour, signed_bytes
from pellucid.show.concepts import middle
from pellucid.show.picture import address, outline_path, reduced
from pellucid.show.svg import STYLE, inline_svg
from pellucid.study import Study

__all__ = ["content", "view_chart"]

_EDGE = 96
_COLOURS = ("#0b3c74", "#a63200", "#2d7d46", "#7a4ea3", "#b08900", "#5aa9b8", "#c2548f", "#6b7078")


def content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints, or None where the study asked for no strategies."""
    tables, images = study.tables, study.images
    found = tables.get("strategies")
    if study.config.strategies is None or found is None:
        return None
    maps = {(row["called"], row["strategy"]): row for row in tables["strategy_maps"].to_pylist()}
    views, members = tables.get("strategy_views"), tables["strategy_images"]
    rows = [
        row | _pictures(row, maps[row["called"], row["strategy"]], images) | _told(row) for row in found.to_pylist()
    ]
    return {
        "classes": [(label, [row for row in rows if row["called"] == label]) for label in dict.fromkeys(row["called"] for row in rows)],
        "method": rows[0]["method"], "frame": study.config.strategies.frame,
        "chart": None if views is None else inline_svg(view_chart(views, members), "strategyviews"),
        "views": [] if views is None else _trust(views),
    }  # fmt: skip


def _told(row: dict[str, Any]) -> dict[str, str]:
    """Return in words what filling in the place of a strategy does to the call, beyond an equal gap elsewhere."""
    if row["fall"] is None:
        return {"told": ""}
    low, high = (None if row[end] is None else -row[end] for end in ("fall_high", "fall_low"))
    return {"told": f"{likelier(-row['fall'], low, high)}, what an equal gap elsewhere does taken off"}


def _pictures(row: dict[str, Any], told: dict[str, Any], images: ImageSet) -> dict[str, Any]:
    if len(images.shape) != 3:
        return {"cases": [], "mean": None}
    mean = reduced(np.array(told["mean"]).reshape(told["shape"]), _EDGE)
    where = np.array(told["where"]).reshape(told["shape"])
    height, width = where.shape
    return {
        "cases": [{"id": name, "src": address(middle(images, name), edge=_EDGE)} for name in row["exemplars"]],
        "mean": address(signed_bytes(mean, full_colour(mean) or 1.0)), "width": width, "height": height,
        "outline": outline_path(from_numpy(where)) if row["fixed"] else "",
    }  # fmt: skip


def _trust(views: pa.Table) -> list[dict[str, Any]]:
    rows = {row["view"]: row for row in views.to_pylist()}
    return [{name: row[name] for name in ("view", "how", "trustworthiness", "continuity")} for row in rows.values()]


def view_chart(views: pa.Table, members: pa.Table) -> Figure:
    """Draw the same images by several descriptions, coloured by class and strategy.

    Parameters
    ----------
    views
        The table of `linked_views`.
    members
        One row an image: ``image, called, strategy, name``.
    """
    own = {row["image"]: (row["called"], row["strategy"], row["name"]) for row in members.to_pylist()}
    groups = sorted(set(own.values()))
    rows = views.to_pylist()
    names = list(dict.fromkeys(row["view"] for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.3 * len(names), 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            shown = [row for row in rows if row["view"] == name]
            for place, group in enumerate(groups):
                points = [(row["x"], row["y"]) for row in shown if own[row["image"]] == group]
                marker = "o" if group[1] == 0 else "^"
                axes.scatter(*zip(*points, strict=True), s=14, marker=marker, color=_COLOURS[place % len(_COLOURS)],
                             label=f"{group[0]}: {group[2]}", linewidths=0)  # fmt: skip
            axes.set_xticks([])
            axes.set_yticks([])
            told = shown[0]
            axes.set_title(
                f"by {name}: near is near {told['trustworthiness']:.2f}",
                fontsize=8,
            )
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure
