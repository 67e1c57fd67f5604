"""The study's question ``[interpret]``: what the classes are in measured terms, and which claims about the model hold."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pellucid.attribution.scaling import resized
from pellucid.errors import BadStudy
from pellucid.interpretation import (
    Evidence,
    Finding,
    GlassBoxes,
    Interpretation,
    Interpretations,
    class_paragraph,
    guideline_overview,
    guideline_shares,
    image_paragraph,
    read_guideline,
    relevance_effects,
    relevance_measures,
)
from pellucid.interpretation.checks import SIDE, overall
from pellucid.interpretation.record import records_to_markdown
from pellucid.study.measured import Measured, named
from pellucid.study.questions import InterpretConfig
from pellucid.study.readable import Readable
from pellucid.study.setup import Setup
from pellucid.study.tested import EDIT_PANEL, Tested

__all__ = ["EDIT_PANEL", "answer"]


def answer(setup: Setup, evidence: Evidence) -> Interpretations:
    """Measure the images, compare the classes, edit and test, train readable models and put the claims to the test."""
    if evidence.images.labels is None:
        raise BadStudy("[interpret] compares classes and needs labels; give [images] labels = ... or class folders")
    measured = Measured(setup, evidence, _asked(setup))
    tested, readable, told = Tested(measured), Readable(measured), _Told(measured)
    records, tests = tested.claims
    edits = tested.with_spread(pa.concat_tables([named(name, one.effects) for name, one in tests.items()]))
    boxes, copies = readable.boxes
    tables = {
        "measures": measured.held_out, "phenotype_differences": measured.differences, "edit_tests": edits,
        "dose_response": tested.with_spread(tested.doses), "edit_shares": tested.together, "support_margins": readable.margins,
        "glass_boxes": pa.table({}) if boxes is None else boxes.table, "surrogates": copies, "phenotype_shares": measured.shares,
        "measures_alone": measured.alone, **told.under_the_map, **told.guideline,
    }  # fmt: skip
    tables["grounded"] = told.grounded(edits, tables["glass_boxes"])
    setup.store.write_json("interpret/records.json", [record.to_dict() for record in records])
    (setup.store.root / "interpret" / "records.md").write_text(records_to_markdown(records), encoding="utf-8")
    setup.store.write_json("interpret/notes.json", measured.notes)
    found = [*map(_told, records), *([] if boxes is None else [_gap(boxes)])]
    return Interpretations(tuple(found), {name: table for name, table in tables.items() if table.num_rows})


def _asked(setup: Setup) -> InterpretConfig:
    asked = setup.config.interpret
    if asked is None:
        raise BadStudy("this study interprets nothing; give a table [interpret]")
    return asked


@dataclass(frozen=True)
class _Told:
    """What is said of maps, regions and single images."""

    measured: Measured

    @cached_property
    def under_the_map(self) -> dict[str, pa.Table]:
        """What the best map's relevance lies on, over the explained images."""
        rows = [
            row
            for row in overall(self.measured.evidence.ranking, SIDE)
            if row["method"] in self.measured.evidence.judged
        ]
        method = (
            min(rows, key=lambda row: row["rank"])["method"] if rows else next(iter(self.measured.evidence.judged), "")
        )
        cases = self.measured.evidence.cases(self.measured.asked.images, self.measured.evidence.ids)
        if not method or len(cases) < 2:
            return {}
        maps = resized(
            self.measured.evidence.maps(method, [case.id for case in cases]).sum(1, keepdim=True),
            tuple(cases[0].outline.shape),
        )
        whole = [row for row, one in enumerate(maps) if bool(one.isfinite().all())]
        table = relevance_measures(maps[whole], [cases[row] for row in whole], self.measured.evidence.images.record)
        effects = relevance_effects(table, seed=self.measured.evidence.seed)
        return (
            {"under_the_map": effects.append_column("method", pa.array([method] * effects.num_rows))}
            if effects.num_rows
            else {}
        )

    @cached_property
    def guideline(self) -> dict[str, pa.Table]:
        if self.measured.asked.guideline is None:
            return {}
        shares = guideline_shares(
            self.measured.setup.model, self.measured.evidence.images, self.measured.evidence.ids, read_guideline(self.measured.asked.guideline),
            group=self.measured.evidence.group, seed=self.measured.evidence.seed, batch_size=self.measured.evidence.batch_size,
        )  # fmt: skip
        return {"guideline_shares": shares, "guideline": guideline_overview(shares, seed=self.measured.evidence.seed)}

    def grounded(self, edits: pa.Table, boxes: pa.Table) -> pa.Table:
        """Return every clause about a class or an explained image with the id of its measurement."""
        said = []
        for label in self.measured.subjects:
            name = self.measured.classes[label]
            own, moved = (
                table.filter(pc.equal(table["class"], name)).drop_columns(["class"])
                for table in (self.measured.differences, edits)
            )
            said.append(("class", class_paragraph(name, own, moved, boxes)))
        known = set(self.measured.ids)
        said += [("image", image_paragraph(image, self.measured.evidence.predictions, self.measured.held_out, self.measured.classes))
                 for image in self.measured.evidence.ids if image in known]  # fmt: skip
        return pa.Table.from_pylist(
            [{"about": about, "subject": paragraph.subject, "clause": clause.text, "source": clause.source}
             for about, paragraph in said for clause in paragraph.clauses],
            schema=pa.schema([(name, pa.string()) for name in ("about", "subject", "clause", "source")]),
        )  # fmt: skip


def _told(record: Interpretation) -> Finding:
    """Return the finding of one claim."""
    claim, card = record.claim, record.card
    line = card["edit and test"]
    lines = [f"{axis}: {one.told}" for axis, one in card.items()]
    words = {"supported": "Supported", "refuted": "Refuted", "proposed": "Undecided"}[record.status]
    return Finding(
        id=f"interpretation-{claim.id}", kind="interpretation", subject=claim.subject,
        statement=f"{words}: {claim.statement} ({claim.author})", evidence=f"{line.words}. {'; '.join(lines)}.",
        value=line.value, low=line.low, high=line.high,
        verdict={"supported": "supported", "refuted": "refuted", "proposed": "undecided"}[record.status],  # type: ignore[arg-type]
    )  # fmt: skip


def _gap(boxes: GlassBoxes) -> Finding:
    """Return what reading measured features instead of the model would cost."""
    best = max(
        (row for row in boxes.table.to_pylist() if row["model"] in boxes.fitted), key=lambda row: row["accuracy"]
    )
    gap = boxes.gap(best["model"])
    kind = {"linear": "weighted sum", "tree": "decision tree", "additive": "sum of curves"}[best["model"]]
    closes = gap.high >= 0 and gap.low <= 0
    said = "is not shown to be worse" if closes else "is worse" if gap.low > 0 else "is better"
    return Finding(
        id="interpretation-readable-model", kind="interpretation", subject="readable models",
        statement=f"A {kind} of the measured features {said} than the model at naming the class.",
        evidence=f"It is right on {100 * best['accuracy']:.1f} % of {gap.n} held-out images in {gap.groups} groups; the model on "
        f"{100 * (best['accuracy'] + gap.value):.1f} %; difference {gap}.",
        value=gap.value, low=None if np.isnan(gap.low) else gap.low, high=None if np.isnan(gap.high) else gap.high,
        verdict="undecided" if np.isnan(gap.low) else "supported",
    )  # fmt: skip
