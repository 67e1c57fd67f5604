"""The report's section on planted changes: which maps follow what edits of the images did to the model."""

from typing import Any

from pellucid.show.charts import ACCENT, INK, MUTED, Dot, dot_figure, short
from pellucid.show.svg import inline_svg
from pellucid.study import Study

__all__ = ["content"]


def content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints, or None where the study asked for no calibration."""
    found, changes = study.tables.get("planted_ranking"), study.tables.get("planted_changes")
    if study.config.calibrate is None or found is None or changes is None:
        return None
    rows = found.to_pylist()
    figure = dot_figure(
        [_dot(row) for row in rows], "how far changes of the map follow those of the model's score, 95 % interval"
    )
    return {
        "rows": rows,
        "chart": None if figure is None else inline_svg(figure, "planted"),
        "edited": len(set(changes["image"].to_pylist())),
        "edits": list(dict.fromkeys(edit.rsplit(" ", 1)[0] for edit in changes["edit"].to_pylist())),
    }


def _dot(row: dict[str, Any]) -> Dot:
    colour = MUTED if row["control"] else ACCENT if row["level"] else INK
    sure = row["groups"] > 1
    low, high = (row["proportion_low"], row["proportion_high"]) if sure else (None, None)
    return Dot(short(row["method"]), row["proportion"], low, high, colour, hollow=row["control"])
