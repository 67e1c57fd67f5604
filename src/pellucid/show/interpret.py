"""The report's section on what the classes are in measured terms, what the model answers to, and what became of each claim."""

import json
from typing import Any

import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from pellucid.interpretation import records_from_json
from pellucid.interpretation.grounded import plain
from pellucid.measure import columns
from pellucid.show.charts import ACCENT, INK, MUTED, Dot, dot_figure, short
from pellucid.show.svg import inline_svg
from pellucid.study import Study

__all__ = ["content"]

_MEASURES = 10
_EDITS = 14


def content(study: Study) -> dict[str, Any] | None:
    """Return what the section prints; None where the study did not ask."""
    if study.config.interpret is None or "phenotype_differences" not in study.tables:
        return None
    tables = study.tables
    nothing = pa.table({})
    differences, edits = tables["phenotype_differences"], tables.get("edit_tests", nothing)
    grounded = tables.get("grounded", nothing).to_pylist()
    names = list(dict.fromkeys(differences["class"].to_pylist()))
    return {
        "records": records_from_json(_kept(study, "records")), "notes": json.loads(_kept(study, "notes")),
        "classes": [
            {"name": name, "said": _said(grounded, "class", name),
             "measures": _svg(_differences(differences, name, study), f"phenotypes{place}"),
             "edits": _svg(_edits(edits, name), f"edits{place}"), "shares": _of(tables.get("phenotype_shares", nothing), name),
             "alone": _of(tables.get("measures_alone", nothing), name)[:5]}
            for place, name in enumerate(names)
        ],
        "boxes": tables.get("glass_boxes", nothing).to_pylist(), "copies": tables.get("surrogates", nothing).to_pylist(),
        "under": [row | {"measure": plain(row["measure"])} for row in tables.get("under_the_map", nothing).to_pylist()],
        "guideline": _svg(_guideline(tables.get("guideline", nothing)), "guideline"),
        "images": [(name, _said(grounded, "image", name)) for name in dict.fromkeys(
            row["subject"] for row in grounded if row["about"] == "image")][:6],
        "plain": plain, "matters": study.config.interpret.matters, "tried_on": study.config.interpret.images,
        "confounders": ", ".join(study.config.interpret.confounders), "group": study.images.group_column or "image",
        "words": _BOXES,
    }  # fmt: skip


_BOXES = {
    "black box": "the model", "linear": "a weighted sum of the measures", "tree": "three yes-or-no questions about the measures",
    "additive": "a sum of one curve for each measure", "commonest class": "always naming the commonest class",
}  # fmt: skip


def _kept(study: Study, name: str) -> str:
    path = study.path / "interpret" / f"{name}.json"
    return path.read_text(encoding="utf-8") if path.is_file() else "[]"


def _of(table: pa.Table, name: str) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["class"] == name]


def _said(grounded: list[dict[str, Any]], about: str, subject: str) -> list[tuple[str, str]]:
    return [(row["clause"], row["source"]) for row in grounded if row["about"] == about and row["subject"] == subject]


def _svg(figure: Figure | None, name: str) -> Markup | None:
    return None if figure is None else inline_svg(figure, name)


def _differences(table: pa.Table, name: str, study: Study) -> Figure | None:
    rows = [row for row in _of(table, name) if row["effect"] is not None and row["low"] is not None][:_MEASURES]
    units = {column: unit for column, (_, unit) in columns(study.images.record, "full").items()}
    dots = [
        Dot(short(f"{plain(row['measure'])}{_unit(units.get(row['measure'], ''))}", 54), row["effect"], row["low"], row["high"],
            ACCENT if row["low"] * row["high"] > 0 else MUTED)
        for row in rows
    ]  # fmt: skip
    return dot_figure(dots, f"{name} less the others, in standard deviations, 95 % interval")


def _unit(unit: str) -> str:
    return "" if unit in {"", "1", "intensity"} else f" ({unit})"


def _edits(table: pa.Table, name: str) -> Figure | None:
    rows = _of(table, name)[:_EDITS] if table.num_rows else []
    dots = [
        Dot(f"{short(row['edit'])} {_way(row)}", row["beyond"], row["beyond_low"], row["beyond_high"], ACCENT if _sure(row) else INK)
        for row in rows
    ]  # fmt: skip
    return dot_figure(dots, f"how much further than its null the edit moves the log-odds of {name}, 95 % interval")


def _way(row: dict[str, Any]) -> str:
    """Return whether the edit raises or lowers the answer; nothing where that differs between images."""
    if row["change_low"] is None or row["change_low"] <= 0 <= row["change_high"]:
        return ""
    return "↑" if row["change"] > 0 else "↓"


def _sure(row: dict[str, Any]) -> bool:
    return row["q"] is not None and row["q"] <= 0.05 and row["beyond_low"] is not None and row["beyond_low"] > 0


def _guideline(table: pa.Table) -> Figure | None:
    dots = [Dot(f"{row['class']}: {row['region']}", row["value"], row["low"], row["high"]) for row in table.to_pylist()]
    return dot_figure(dots, "what the region adds to the score of the called class, 95 % interval")
