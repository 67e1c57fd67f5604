"""The report's section on what the classes are in measured terms, what the model answers to, and what became of each claim."""

import json
from typing import Any

import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from pellucid.interpretation import LIKELIER, records_from_json
from pellucid.measure import edit_in_words, in_words
from pellucid.show.charts import ACCENT, MUTED, Dot, dot_figure, short
from pellucid.show.concepts import middle
from pellucid.show.edits import border_figure, dose_figure, edit_figure
from pellucid.show.picture import address
from pellucid.show.svg import inline_svg
from pellucid.study import Study

__all__ = ["content"]

_MEASURES = 10
_BORDERLINE = 8
_EDGE = 96


def content(study: Study) -> dict[str, Any] | None:
    """Return what the section prints; None where the study did not ask."""
    if study.config.interpret is None or "phenotype_differences" not in study.tables:
        return None
    tables, record = study.tables, study.images.record
    nothing = pa.table({})
    differences, edits = tables["phenotype_differences"], tables.get("edit_tests", nothing)
    grounded = tables.get("grounded", nothing).to_pylist()
    names = list(dict.fromkeys(differences["class"].to_pylist()))
    return {
        "records": records_from_json(_kept(study, "records")), "notes": json.loads(_kept(study, "notes")),
        "classes": [
            {"name": name, "said": _said(grounded, "class", name),
             "measures": _svg(_differences(differences, name, study), f"phenotypes{place}"),
             "edits": _svg(edit_figure(_of(edits, name), name), f"edits{place}"), "shares": _of(tables.get("phenotype_shares", nothing), name),
             "together": _of(tables.get("edit_shares", nothing), name), "alone": _of(tables.get("measures_alone", nothing), name)[:5]}
            for place, name in enumerate(names)
        ],
        "doses": _svg(dose_figure(tables.get("dose_response", nothing)), "claimdoses"),
        "followed": _followed(tables.get("dose_response", nothing)),
        "boxes": tables.get("glass_boxes", nothing).to_pylist(), "copies": tables.get("surrogates", nothing).to_pylist(),
        "border": _border(tables.get("support_margins", nothing), study),
        "under": [row | {"measure": in_words(row["measure"], record)} for row in tables.get("under_the_map", nothing).to_pylist()],
        "guideline": _svg(_guideline(tables.get("guideline", nothing)), "guideline"),
        "images": [(name, _said(grounded, "image", name)) for name in dict.fromkeys(
            row["subject"] for row in grounded if row["about"] == "image")][:6],
        "plain": in_words, "edit": edit_in_words, "matters": study.config.interpret.matters, "tried_on": study.config.interpret.images,
        "confounders": ", ".join(study.config.interpret.confounders), "group": study.images.group_column or "image",
        "words": _BOXES, "likelier": LIKELIER,
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
    dots = [
        Dot(short(in_words(row["measure"], study.images.record), 62), row["effect"], row["low"], row["high"],
            ACCENT if row["low"] * row["high"] > 0 else MUTED)
        for row in rows
    ]  # fmt: skip
    return dot_figure(dots, f"{name} less the others, in standard deviations, 95 % interval")


def _followed(doses: pa.Table) -> list[tuple[str, float]]:
    """Return how closely the answer follows the dose of each claim."""
    rows = doses.to_pylist() if doses.num_rows else []
    return list({row["claim"]: (row["claim"], row["monotone"]) for row in rows if row["monotone"] is not None}.values())


def _border(margins: pa.Table, study: Study) -> dict[str, Any] | None:
    """Return the border between the two classes that are confused most, with the images nearest to it."""
    rows = margins.to_pylist()
    if not rows:
        return None
    nearest = sorted(rows, key=lambda row: abs(row["distance"]))[:_BORDERLINE]
    flat = len(study.images.shape) == 3  # channel and two axes: there is one picture to show
    first: dict[str, Any] = rows[0]
    return first | {
        "names": " and ".join(sorted({row["label"] for row in rows})), "n": len(rows), "groups": len({row["group"] for row in rows}),
        "figure": inline_svg(border_figure(margins), "border"),
        "cases": [row | {"src": address(middle(study.images, row["image"]), edge=_EDGE)} for row in nearest] if flat else [],
    }  # fmt: skip


def _guideline(table: pa.Table) -> Figure | None:
    dots = [Dot(f"{row['class']}: {row['region']}", row["value"], row["low"], row["high"]) for row in table.to_pylist()]
    return dot_figure(dots, "what the region adds to the score of the called class, 95 % interval")
