"""The section of the report on what would have to change: the gate, the matrix of classes, strips and pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from pellucid.counterfactual import SCORES
from pellucid.show.colour import shade
from pellucid.show.counterfactual import view_of
from pellucid.show.counterfactual_natural import natural_content
from pellucid.show.counterfactual_pairs import drawable, pairs_content, picture
from pellucid.show.counterfactual_phenotypes import Dial, arrows, dial, medians
from pellucid.show.standing import Cell, HeatTable
from pellucid.study import Study
from pellucid.study.counterfactual_findings import NOT_MEASURED
from pellucid.study.counterfactual_pairs import MASK_SCORES
from pellucid.study.counterfactual_search import in_turn
from pellucid.study.counterfactual_tables import IMAGES

__all__ = ["counterfactual_content"]

_STRIPS, _REFUSALS = 12, 16

_SCORES = {**SCORES, **MASK_SCORES}

_Rows = dict[tuple[str, str], list[dict[str, Any]]]

_CHECKS = {
    "class_agreement": "Copies keep the class",
    "score_correlation": "Copies keep the score",
    "support": "Changed images stay among known ones",
    "realism": "Changed images look like real ones to a fixed second eye",
    "grain": "The change has a shape and is no noise",
    "off_target": "The change is smaller than the difference between two images",
    "composition": "Copies of copies stay what they were",
    "stability": "Searching again finds the same change",
}


@dataclass(frozen=True)
class Step:
    """One image of a strip: its dose, the score that the model gives it, and what is to be said of it."""

    src: str
    dose: float
    score: float
    reached: bool
    outside: bool


@dataclass(frozen=True)
class Strip:
    """One image in rising doses of its own counterfactual."""

    image: str
    told: str
    steps: tuple[Step, ...]
    monotone: str
    dial: Dial | None


def counterfactual_content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints; None where the study asked for no counterfactuals or nothing could be answered."""
    tables = study.tables
    natural = natural_content(study)
    if study.config.counterfactual is None or (natural is None and "counterfactual_gate" not in tables):
        return None
    checks = tables.get("counterfactual_gate", pa.table({})).to_pylist()
    passed = bool(checks) and all(check["passed"] for check in checks)
    rows = tables.get("counterfactuals", pa.table({})).to_pylist()
    kept = study.tensors(IMAGES) if passed and rows else None
    pairs = pairs_content(study, rows, kept) if kept else []
    changes = tables.get("counterfactual_phenotypes", pa.table({})).to_pylist()
    return {
        "natural": natural, "passed": passed, "checks": [(_CHECKS.get(check["name"], check["name"]), check) for check in checks],
        "generator": study.config.counterfactual.generator, "matrix": _matrix(rows, changes) if rows else None,
        "phenotypes": medians(changes, study.images.record), "not_measured": _not_measured(study),
        "known": len({row["phenotype"] for row in changes}),
        "scores": [(_SCORES[row["score"]], row) for row in tables.get("counterfactual_scores", pa.table({})).to_pylist()],
        "strips": _strips(study, rows, kept) if kept else [], "pairs": pairs,
        "masked": any(pair.minimal is not None for pair in pairs),
        "refusals": [row for row in rows if row["status"] in {"not reached", "outside the support"}][:_REFUSALS],
        "counts": _counts(rows), "valid": sum(row["status"] == "reached" for row in rows), "tried": len(rows),
    }  # fmt: skip


def _counts(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    names = ("reached", "outside the support", "not reached", "already there")
    return [(name, sum(row["status"] == name for row in rows)) for name in names]


def _not_measured(study: Study) -> str | None:
    """Return why the phenotypes of changed images were not measured; None where they were, or none was to be."""
    return next((row["statement"] for row in study.findings if row["id"] == NOT_MEASURED), None)


def _matrix(rows: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> HeatTable:
    """Return for every two classes the share of images for which a valid change was found, and the phenotypes that change."""
    classes = list(dict.fromkeys(name for row in rows for name in (row["source"], row["target"])))

    def cell(source: str, target: str) -> Cell:
        own = [row["status"] for row in rows if (row["source"], row["target"]) == (source, target)]
        if not own:
            return Cell("–")
        good = own.count("reached")
        return Cell(f"{good}/{len(own)}", shade(good / len(own)), arrows(changes, source, target))

    return HeatTable(
        tuple(classes), tuple((source, tuple(cell(source, target) for target in classes)) for source in classes)
    )


def _strips(study: Study, rows: Sequence[dict[str, Any]], kept: dict[str, Tensor]) -> list[Strip]:
    """Return strips of valid counterfactuals, each pair of classes in turn; a fixed order of the ids chooses."""
    if not drawable(study):
        return []
    doses = _by_image(study.tables["counterfactual_doses"])
    measures = _by_image(study.tables.get("counterfactual_measures", pa.table({})))
    places = [place for place, row in enumerate(rows) if row["strip"] is not None and row["status"] == "reached"]
    return [_strip(study, rows[place], place, kept, doses, measures) for place in in_turn(rows, places, _STRIPS)]


def _by_image(table: pa.Table) -> _Rows:
    """Return the rows of each image and target."""
    found: _Rows = {}
    for row in table.to_pylist():
        found.setdefault((row["image"], row["target"]), []).append(row)
    return found


def _strip(
    study: Study, row: dict[str, Any], place: int, kept: dict[str, Tensor], doses: _Rows, measures: _Rows
) -> Strip:
    key = row["image"], row["target"]
    view = view_of(kept["changed"][place] - kept["images"][place], study.images.record)
    steps = tuple(
        Step(picture(study, image, view), one["dose"], one["score"], one["score"] >= row["goal"], one["strain"] > 1)
        for image, one in zip(kept["strips"][row["strip"]], doses[key], strict=True)
    )
    rank = doses[key][0]["spearman"]
    told = "the score does not move" if rank is None else f"rank correlation of dose and score {rank:.2f}"
    measured = dial(measures.get(key, []), [step.dose for step in steps], study.images.record)
    return Strip(row["image"], f"{row['source']} → {row['target']}", steps, told, measured)
