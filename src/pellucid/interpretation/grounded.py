"""Text in which every clause carries the id of the measurement behind it: templates filled from numbers, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pellucid.errors import CannotExplain
from pellucid.interpretation.odds import pair
from pellucid.interpretation.record import looks_real
from pellucid.measure import edit_in_words, in_words

__all__ = ["Clause", "Paragraph", "class_paragraph", "image_paragraph"]

_SHOWN = 4
"""Measures named in a paragraph: those farthest from what is usual."""


@dataclass(frozen=True)
class Clause:
    """One statement and the id of the measurement behind it, ``table/row/column``."""

    text: str
    source: str


@dataclass(frozen=True)
class Paragraph:
    """Clauses about one image or class, in reading order."""

    subject: str
    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return " ".join(f"{clause.text} [{clause.source}]" for clause in self.clauses)

    def resolve(self, tables: dict[str, pa.Table]) -> list[object]:
        """Return the measurement behind each clause.

        Raises
        ------
        CannotExplain
            When a clause points at nothing.
        """
        return [_looked_up(clause.source, tables) for clause in self.clauses]


def _looked_up(source: str, tables: dict[str, pa.Table]) -> object:
    name, _, rest = source.partition("/")
    row, _, column = rest.rpartition("/")
    table = tables.get(name)
    if table is None or column not in table.column_names:
        raise CannotExplain(f"the clause points at {source}, which is no measurement here")
    places = [place for place, key in enumerate(table[table.column_names[0]].to_pylist()) if str(key) == row]
    if len(places) != 1 or table[column][places[0]].as_py() is None:
        raise CannotExplain(
            f"the clause points at {source}, of which there {'is none' if not places else 'are several'}"
        )
    return table[column][places[0]].as_py()


def image_paragraph(image: str, predictions: pa.Table, measures: pa.Table, classes: Sequence[str]) -> Paragraph:
    """Say in one paragraph what the model called an image and which of its measures are unusual for that class.

    Parameters
    ----------
    image
        Its id, first column of both tables.
    predictions
        image, predicted (class number), confidence.
    measures
        One row an image; columns carry their unit as ``unit`` in the field's metadata.
    classes
        Class names.

    Raises
    ------
    CannotExplain
        When the image is not in both tables.
    """
    called = dict(zip(predictions["image"].to_pylist(), predictions["predicted"].to_pylist(), strict=True))
    ids = measures["image"].to_pylist()
    if image not in called or image not in ids:
        raise CannotExplain(f"{image} was not both called and measured")
    row, own = ids.index(image), called[image]
    sure = predictions["confidence"][predictions["image"].to_pylist().index(image)].as_py()
    clauses = [
        Clause(f"The model calls this image {classes[own]}", f"predictions/{image}/predicted"),
        Clause(f"with a probability of {sure:.2f}.", f"predictions/{image}/confidence"),
    ]
    peers = [place for place, name in enumerate(ids) if called.get(name) == own and name != image]
    for name, value, away in _unusual(measures, row, peers)[:_SHOWN]:
        side = "above" if away > 0 else "below"
        clauses.append(
            Clause(f"Its {in_words(name)} is {_number(value, _unit(measures, name))}, {abs(away):.1f} standard deviations {side} the other "
                   f"{len(peers)} images so called.", f"measures/{image}/{name}")
        )  # fmt: skip
    return Paragraph(image, tuple(clauses))


def _unusual(measures: pa.Table, row: int, peers: Sequence[int]) -> list[tuple[str, float, float]]:
    found = []
    for name in measures.column_names[1:]:
        values = np.array([np.nan if cell is None else cell for cell in measures[name].to_pylist()], dtype=float)
        others = values[list(peers)]
        others = others[np.isfinite(others)]
        if np.isfinite(values[row]) and len(others) > 2 and others.std() > 1e-9 * max(1.0, float(np.abs(others).max())):
            found.append((name, float(values[row]), float((values[row] - others.mean()) / others.std())))
    return sorted(found, key=lambda one: -abs(one[2]))


def class_paragraph(subject: str, differences: pa.Table, edits: pa.Table, boxes: pa.Table) -> Paragraph:
    """Say in one paragraph what sets a class apart, what the model answers to, and what readable models reach.

    Parameters
    ----------
    subject
        The class.
    differences
        measure (first column), effect, low, high, unit: of this class against the others.
    edits
        `EditTests.effects` of this class's score; with the column ``spread``, the score's standard deviation over images, changes
        that are too large to be told as odds are told in it.
    boxes
        `GlassBoxes.table`.
    """
    clauses = []
    for row in differences.to_pylist()[:_SHOWN]:
        if row["low"] is None or row["low"] <= 0 <= row["high"]:
            continue
        more = "larger" if row["effect"] > 0 else "smaller"
        low, high = sorted((abs(row["low"]), abs(row["high"])))
        clauses.append(
            Clause(f"Images of {subject} have a {more} {in_words(row['measure'])} than the others, by {abs(row['effect']):.2f} standard "
                   f"deviations ({low:.2f} to {high:.2f}).", f"differences/{row['measure']}/effect")
        )  # fmt: skip
    moved = [row for row in edits.to_pylist() if row["beyond_low"] is not None and row["beyond_low"] > 0 and _real(row)]
    for row in moved[:_SHOWN]:
        change, null = pair(row["change"], row["null_change"], row.get("spread"))
        clauses.append(
            Clause(f"Edited ({edit_in_words(row['edit'])}), {subject} becomes {change} on average; under the edit's matched "
                   f"change, {null}.", f"edits/{row['edit']}/change")
        )  # fmt: skip
    clauses += [
        Clause(f"A sum of curves over the measured features is right on {100 * row['accuracy']:.0f} % of the images, the model on "
               f"{100 * (row['accuracy'] + row['gap']):.0f} %.", "boxes/additive/accuracy")
        for row in boxes.to_pylist() if row["model"] == "additive"
    ]  # fmt: skip
    return Paragraph(subject, tuple(clauses))


def _real(row: dict[str, Any]) -> bool:
    """Say whether most of the edited images look like real ones, or nothing told."""
    return looks_real(row.get("realistic"))


def _unit(measures: pa.Table, name: str) -> str:
    metadata = measures.schema.field(name).metadata or {}
    unit = metadata.get(b"unit", b"").decode()
    return "" if unit in {"", "1", "intensity"} else f" {unit}"


def _number(value: float, unit: str) -> str:
    return f"{value:.3g}{unit}"
