"""The section of the report on measured phenotypes: doses and responses, what is needed, latent cards, the court."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from pellucid.interpretation.phenotypes import DoseResponse
from pellucid.interpretation.phenotypes.latents import automatic_names
from pellucid.interpretation.phenotypes.necessity import ALL, CONTROL
from pellucid.intervals import Interval
from pellucid.show.charts import ACCENT, INK, MUTED, Dot, dot_figure
from pellucid.show.colour import shade
from pellucid.show.doses import plot_dose_response
from pellucid.show.picture import address, rgb
from pellucid.show.standing import Cell, HeatTable
from pellucid.show.svg import inline_svg
from pellucid.show.view import View
from pellucid.study import Study
from pellucid.study.latent_names import read_names
from pellucid.study.phenotypes import STRIPS
from pellucid.study.store import Store

__all__ = ["phenotypes_content"]

_EDGE = 96
_CARDS = 12
_CASES = 12
_STEPS = (-2, -1, 0, 1, 2)


def phenotypes_content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints; None where the study asked for no phenotypes or could not answer."""
    tables = study.tables
    if study.config.phenotypes is None or "phenotype_doses" not in tables:
        return None
    rows = tables["phenotype_doses"].to_pylist()
    numbers = {row["number"]: row for row in tables["phenotype_summary"].to_pylist()}
    passed = numbers["gate"]["value"] == 1
    return {
        "passed": passed, "numbers": numbers, "rows": sorted(rows, key=lambda row: -abs(row["slope"] or 0)),
        "curves": _curves(tables, rows),
        "responses": _responses(tables["phenotype_responses"]), "alone": _alone(tables["phenotype_responses"]),
        "needed": _needed(tables.get("phenotype_necessity", pa.table({}))), "players": _players(tables.get("phenotype_players", pa.table({}))),
        "cards": _cards(study, tables["phenotype_latents"]), "wrong": _wrong(study, tables.get("phenotype_causes", pa.table({}))),
        "court": tables.get("phenotype_court", pa.table({})).to_pylist(), "batch": study.config.phenotypes.batch or study.config.images.batch,
        "profiles": _profiles(tables.get("phenotype_profiles", pa.table({}))), "strips": _strips(study, tables) if passed else [],
        "parted": _parted(tables["phenotype_disentanglement"]), "generator": _generator(study), "segmentation": study.config.phenotypes.segmentation,
        "others": study.config.phenotypes.others, "permutations": study.config.phenotypes.permutations, "steps": _STEPS,
    }  # fmt: skip


def _generator(study: Study) -> str:
    asked = study.config.phenotypes
    if study.config.counterfactual is not None:
        return study.config.counterfactual.generator
    return "" if asked is None else asked.generator


def _svg(figure: Figure | None, name: str) -> Markup | None:
    return None if figure is None else inline_svg(figure, name)


def _curves(tables: dict[str, pa.Table], rows: Sequence[dict[str, Any]]) -> list[tuple[str, Markup]]:
    """Return the curves of each target that has some."""
    found = DoseResponse(
        tables["phenotype_doses"],
        tables["phenotype_curves"],
        tables["phenotype_responses"],
        {},
        "log-odds",
        Interval(0, 0, 0, 0, 0),
    )
    drawn = [
        row["target"] for row in rows if row["slope"] is not None and row["verdict"] not in {"not held", "not moved"}
    ]
    return [
        (target, inline_svg(plot_dose_response(found, target=target, most=6), f"doses{place}"))
        for place, target in enumerate(dict.fromkeys(drawn))
    ]


def _responses(table: pa.Table) -> HeatTable:
    """Return what changes with each phenotype, phenotypes ↓ and measures →."""
    rows = table.to_pylist()
    names = list(dict.fromkeys(row["measure"] for row in rows))
    values = {(row["phenotype"], row["measure"]): row["value"] for row in rows}

    def cell(one: str, other: str) -> Cell:
        value = values.get((one, other))
        return Cell("–") if value is None else Cell(f"{value:+.2f}", shade(min(abs(value), 1.0)))

    return HeatTable(tuple(names), tuple((one, tuple(cell(one, other) for other in names)) for one in names))


def _alone(table: pa.Table) -> dict[str, float]:
    empty = pa.table({})
    found = DoseResponse(empty, empty, table, {}, "", Interval(0, 0, 0, 0, 0)).changed_measures()
    return {name: value for name, value in found.items() if value == value}


def _needed(table: pa.Table) -> Markup | None:
    told = {ALL: "all listed phenotypes", CONTROL: "a meaningless direction (control)"}
    dots = [
        Dot(told.get(row["held"], row["held"]), row["needed"], row["low"], row["high"],
            MUTED if row["held"] == CONTROL else ACCENT if (row["low"] or 0) > 0.2 else INK, hollow=row["held"] == CONTROL)
        for row in table.to_pylist() if row["needed"] is not None
    ]  # fmt: skip
    return _svg(dot_figure(dots, "share of images that flip freely but not with this held, 95 % interval"), "needed")


def _players(table: pa.Table) -> Markup | None:
    dots = [Dot(row["player"], row["size"], row["low"], row["high"], INK) for row in table.to_pylist()]
    return _svg(dot_figure(dots, "mean size of what it adds to the log-odds of an image, 95 % interval"), "players")


def _profiles(table: pa.Table) -> HeatTable | None:
    rows = table.to_pylist()
    if not rows:
        return None
    ways, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("way", "phenotype"))
    values = {(row["phenotype"], row["way"]): row["change"] for row in rows}

    def cell(name: str, way: str) -> Cell:
        value = values.get((name, way))
        return Cell("–") if value is None else Cell(f"{value:+.2f}", shade(min(abs(value), 1.0)))

    return HeatTable(tuple(ways), tuple((name, tuple(cell(name, way) for way in ways)) for name in names))


def _parted(table: pa.Table) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["factor"] == "all"]


def _cards(study: Study, table: pa.Table) -> list[dict[str, Any]]:
    """Return the latents with the clearest ties, each with its names and its three strongest phenotypes."""
    given = read_names(Store(study.path))
    automatic = automatic_names(table)
    ties: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["value"] is not None:
            ties.setdefault(row["measure"], []).append(row)
    cards: list[dict[str, Any]] = [
        {"latent": name, "expert": given.get(name), "automatic": automatic.get(name),
         "ties": sorted(own, key=lambda row: -abs(row["value"]))[:3]}
        for name, own in ties.items()
    ]  # fmt: skip
    cards.sort(key=lambda card: (card["expert"] is None, -abs(card["ties"][0]["value"])))
    return cards[:_CARDS]


def _wrong(study: Study, table: pa.Table) -> list[dict[str, Any]]:
    """Return the wrongly called images with what speaks most for their call."""
    classes = study.images.classes
    return [
        {**row, "called": classes[row["predicted"]], "is": classes[row["label"]]}
        for row in table.to_pylist() if row["correct"] is False
    ][:_CASES]  # fmt: skip


def _strips(study: Study, tables: dict[str, pa.Table]) -> list[dict[str, Any]]:
    """Return one image at rising doses of each of the steepest phenotypes."""
    rows = tables["phenotype_strips"].to_pylist()
    if not rows or len(study.images.record.spatial) < 2:
        return []
    kept = study.tensors(STRIPS)
    if kept is None:
        return []
    view, limits = View(_middle(kept["strips"].shape[3:])), study.images.record.display_range
    return [
        {"phenotype": row["phenotype"], "image": row["image"],
         "pictures": [address(rgb(view.plane(image.float()), limits), edge=_EDGE) for image in strip]}
        for row, strip in zip(rows, kept["strips"], strict=True)
    ]  # fmt: skip


def _middle(size: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(np.floor(side / 2)) for side in size[:-2])
