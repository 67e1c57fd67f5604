"""The study's question ``[interpret]``: what the classes are in measured terms, and which claims about the model hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pellucid.attribution.scaling import resized
from pellucid.errors import BadStudy, PellucidError
from pellucid.hashing import hash_key
from pellucid.interpretation import (
    Claim,
    EditTests,
    Evidence,
    Finding,
    GlassBoxes,
    Grounds,
    Held,
    Interpretation,
    Interpretations,
    Realism,
    class_differences,
    class_paragraph,
    class_score,
    feature_alone,
    glass_boxes,
    guideline_overview,
    guideline_shares,
    image_paragraph,
    read_guideline,
    relevance_effects,
    relevance_measures,
    surrogates,
    try_claims,
    variance_shares,
)
from pellucid.interpretation.checks import SIDE, overall
from pellucid.interpretation.edit_test import Score
from pellucid.interpretation.record import records_to_markdown
from pellucid.measure import PHENOTYPES, measure_images, per_image, read_measures
from pellucid.models import load_model
from pellucid.models.predict import predict
from pellucid.study.choose import training
from pellucid.study.questions import InterpretConfig
from pellucid.study.repeats import SHUFFLED, net_names, net_weights
from pellucid.study.setup import Setup

__all__ = ["EDIT_PANEL", "answer"]

EDIT_PANEL = (
    "resize_object(factor=1.25)", "stretch_object", "shift_rim", "brighten", "recolour", "blur_texture", "brighten_rim", "blur_rim",
    "add_spots", "remove_spots", "scale_spots", "move_object", "replace_background", "flatten_illumination",
)  # fmt: skip
"""What is tried where the study file names no edits."""

_LEARNT_FROM = 2000
"""Training images measured for the readable models at most, chosen by hash of their id."""

_AT_ONCE = 128
_FAMILIES = 5
"""Kinds of measures compared by the variance that they explain: those that explain most alone."""

_SHOWN = 8
"""Measures of which it is said how much of the score each recovers alone."""


def answer(setup: Setup, evidence: Evidence) -> Interpretations:
    """Measure the images, compare the classes, edit and test, train readable models and put the claims to the test."""
    if evidence.images.labels is None:
        raise BadStudy("[interpret] compares classes and needs labels; give [images] labels = ... or class folders")
    inquest = _Inquest(setup, evidence, _asked(setup))
    records, tests = inquest.claims
    boxes, copies = inquest.boxes
    tables = {
        "measures": inquest.held_out, "phenotype_differences": inquest.differences, "edit_tests": _by_class(tests),
        "glass_boxes": pa.table({}) if boxes is None else boxes.table, "surrogates": copies, "phenotype_shares": inquest.shares,
        "measures_alone": inquest.alone, **inquest.under_the_map, **inquest.guideline,
    }  # fmt: skip
    tables["grounded"] = inquest.grounded(tests, tables["glass_boxes"])
    setup.store.write_json("interpret/records.json", [record.to_dict() for record in records])
    (setup.store.root / "interpret" / "records.md").write_text(records_to_markdown(records), encoding="utf-8")
    setup.store.write_json("interpret/notes.json", inquest.notes)
    found = [*map(_told, records), *([] if boxes is None else [_gap(boxes)])]
    return Interpretations(tuple(found), {name: table for name, table in tables.items() if table.num_rows})


def _asked(setup: Setup) -> InterpretConfig:
    asked = setup.config.interpret
    if asked is None:
        raise BadStudy("this study interprets nothing; give a table [interpret]")
    return asked


@dataclass(frozen=True)
class _Inquest:
    """The parts of the answer, each made once."""

    setup: Setup
    evidence: Evidence
    asked: InterpretConfig

    @cached_property
    def notes(self) -> list[str]:
        return []

    @cached_property
    def ids(self) -> list[str]:
        """The labelled, predicted images: those that the model was not trained on."""
        rows = self.evidence.predictions.select(["image", "label"]).to_pylist()
        return [row["image"] for row in rows if row["label"] is not None]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.evidence.images.classes

    @cached_property
    def subjects(self) -> tuple[int, ...]:
        """The classes that are spoken of."""
        if self.asked.classes is None:
            present = set(self.evidence.images.label(self.ids))
            return tuple(label for label in range(len(self.classes)) if label in present)
        for name in self.asked.classes:
            if name not in self.classes:
                raise BadStudy(f"interpret.classes names {name!r}; the classes are {', '.join(self.classes)}")
        return tuple(self.classes.index(name) for name in self.asked.classes)

    @cached_property
    def labels(self) -> list[int]:
        return list(self.evidence.images.label(self.ids))

    @cached_property
    def groups(self) -> list[str]:
        return self.evidence.groups(self.ids)

    @cached_property
    def confounders(self) -> pa.Table | None:
        names = self.asked.confounders
        return pa.table({name: self.evidence.images.column(name, self.ids) for name in names}) if names else None

    @cached_property
    def held_out(self) -> pa.Table:
        table = self._measured("held_out", self.ids)
        empty = table["Count_Objects"].to_pylist().count(0)
        if empty:
            self.notes.append(
                f"{empty} of {table.num_rows} held-out images hold no outlined object, so most of their measures are missing"
            )
        return table

    @cached_property
    def learnt_from(self) -> list[str]:
        known = training(self.setup.images, trained_here=self.setup.config.fit is not None, seed=self.evidence.seed)
        own = set(self.ids)
        return sorted(
            (image for image in known if image not in own), key=lambda name: hash_key(self.evidence.seed, name)
        )[:_LEARNT_FROM]

    def _measured(self, part: str, ids: Sequence[str]) -> pa.Table:
        """Return one row an image, measured once and kept; the user's own measures beside ours."""
        path = f"interpret/{part}.parquet"
        table = self.setup.store.read_table(path)
        if table is None:
            objects = measure_images(
                self.evidence.images, self._mask, ids=ids, panel=self.asked.panel, progress=self.evidence.progress
            )
            table = per_image(objects, ids)
            self.setup.store.write_table(path, table)
        given = self.given
        if given is None:
            return table
        place = {name: row for row, name in enumerate(self.evidence.images.ids)}
        rows = [place[image] for image in ids]
        for name in given.column_names[1:]:
            new = name if name not in table.column_names else f"{name}_given"
            table = table.append_column(new, given[name].take(pa.array(rows, pa.int64())))
        return table

    @cached_property
    def given(self) -> pa.Table | None:
        """The user's own measures, one row an image of the set."""
        if self.asked.csv is None:
            return None
        joined = read_measures(self.asked.csv, self.evidence.images.ids, key=self.asked.key)
        if joined.told:
            self.notes.append(f"{self.asked.csv.name}: {joined.told}")
        return joined.table

    @property
    def _mask(self) -> str | None:
        masks = self.evidence.images.masks
        name = self.asked.measures or self.evidence.object_mask or next(iter(masks), None)
        if name == "segment":
            return None
        if name is not None and name not in masks:
            raise BadStudy(
                f"interpret.measures = {name!r} is no mask of these images; they have {', '.join(masks) or 'none'}"
            )
        return name

    @cached_property
    def scores(self) -> dict[int, NDArray[np.float64]]:
        """The model's log-odds of each class on the held-out images."""
        found: dict[int, list[torch.Tensor]] = {label: [] for label in self.subjects}
        for start in range(0, len(self.ids), _AT_ONCE):
            images = self.evidence.images.tensor(self.ids[start : start + _AT_ONCE])
            for label in self.subjects:
                found[label].append(class_score(self.evidence, label)(images))
        return {label: torch.cat(parts).numpy() for label, parts in found.items()}

    @cached_property
    def differences(self) -> pa.Table:
        tables = [
            class_differences(self.held_out, self.labels, label, confounders=self.confounders, groups=self.groups, seed=self.evidence.seed)
            for label in self.subjects
        ]  # fmt: skip
        return pa.concat_tables(
            [_named(self.classes[label], one) for label, one in zip(self.subjects, tables, strict=True)]
        )

    @cached_property
    def claims(self) -> tuple[tuple[Interpretation, ...], dict[str, EditTests]]:
        cases = self.evidence.cases(self.asked.images)
        names = {label: self.classes[label] for label in self.subjects}
        seen = [case.id for case in cases]
        claims = [Claim(**claim.said) for claim in self.asked.claims]
        try:
            realism = Realism.of(
                torch.stack([case.image for case in cases]), seen, groups=[case.group for case in cases]
            )
        except (PellucidError, RuntimeError):
            realism = None
        return try_claims(claims, Grounds(
            cases=cases, scores={name: class_score(self.evidence, label) for label, name in names.items()},
            measures=self.held_out, labels=[self.classes[label] for label in self.labels], groups=self.groups,
            confounders=self.confounders, natural={name: self.scores[label].tolist() for label, name in names.items()},
            others=self._others, votes={claim.id: claim.votes for claim in self.asked.claims if claim.votes}, realism=realism,
            matters=self.asked.matters, edits=EDIT_PANEL if self.asked.edits == "panel" else self.asked.edits,
            seed=self.evidence.seed, progress=self.evidence.progress,
        ))  # fmt: skip

    @property
    def _others(self) -> dict[str, list[Score]]:
        """Return the scores of the nets that learnt the task again, where the study has such."""
        names = [name for name in net_names(self.setup) if name != SHUFFLED and net_weights(self.setup, name).is_file()]
        nets = [
            replace(self.evidence, model=load_model(net_weights(self.setup, name), device=self.setup.plan.device))
            for name in names
        ]
        return (
            {self.classes[label]: [class_score(net, label) for net in nets] for label in self.subjects} if nets else {}
        )

    @cached_property
    def boxes(self) -> tuple[GlassBoxes | None, pa.Table]:
        """Readable models next to the black one; None where nothing but the judged images is known."""
        ids, images = self.learnt_from, self.evidence.images
        if not ids:
            self.notes.append("readable models were not trained: no training image is known; give [images] split")
            return None, pa.table({})
        held = Held(
            train=self._measured("learnt_from", ids), test=self.held_out, train_labels=images.label(ids), test_labels=self.labels,
            test_groups=self.groups,
        )  # fmt: skip
        told = predict(self.setup.model, images, [*ids, *self.ids], batch_size=self.evidence.batch_size).table
        called = dict(zip(told["image"].to_pylist(), told["predicted"].to_pylist(), strict=True))
        label = self.subjects[-1]
        wanted = [
            class_score(self.evidence, label)(images.tensor(ids[start : start + _AT_ONCE]))
            for start in range(0, len(ids), _AT_ONCE)
        ]
        own = [called[image] for image in self.ids]
        copies = surrogates(
            held,
            [called[image] for image in ids],
            own,
            torch.cat(wanted).numpy(),
            self.scores[label],
            seed=self.evidence.seed,
        )
        return glass_boxes(held, own, seed=self.evidence.seed), copies

    @cached_property
    def alone(self) -> pa.Table:
        """How much of each class's score single measures recover: those that set the class apart most."""
        tables = []
        for label in self.subjects:
            rows = [
                row["measure"]
                for row in self.differences.to_pylist()
                if row["class"] == self.classes[label] and row["effect"]
            ]
            chosen = rows[:_SHOWN]
            told = {
                claim.feature for claim in self.asked.claims if claim.feature and claim.subject == self.classes[label]
            }
            chosen += [name for name in sorted(told) if name in self.held_out.column_names and name not in chosen]
            if chosen:
                found = feature_alone(
                    self.scores[label], self.held_out.select(chosen), groups=self.groups, seed=self.evidence.seed
                )
                tables.append(_named(self.classes[label], found))
        return pa.concat_tables(tables) if tables else pa.table({})

    @cached_property
    def shares(self) -> pa.Table:
        """How much of each class's score the kinds of measures explain."""
        families: dict[str, list[str]] = {}
        kinds = {phenotype.name: phenotype.family for phenotype in PHENOTYPES}
        for name in self.held_out.column_names[1:]:
            known = [kind for start, kind in kinds.items() if name.startswith(start)]
            if len(set(self.held_out[name].to_pylist())) > 1:
                families.setdefault(known[-1] if known else "given", []).append(name)
        explain = partial(variance_shares, measures=self.held_out, groups=self.groups, seed=self.evidence.seed)
        tables = []
        for label in self.subjects:
            single = {
                kind: explain(self.scores[label], {kind: names})["share"][0].as_py() for kind, names in families.items()
            }
            best = sorted(single, key=lambda kind: -single[kind])[:_FAMILIES]
            found = explain(self.scores[label], {kind: families[kind] for kind in best})
            tables.append(_named(self.classes[label], found))
        return pa.concat_tables(tables) if tables else pa.table({})

    @cached_property
    def under_the_map(self) -> dict[str, pa.Table]:
        """What the best map's relevance lies on, over the explained images."""
        rows = [row for row in overall(self.evidence.ranking, SIDE) if row["method"] in self.evidence.judged]
        method = min(rows, key=lambda row: row["rank"])["method"] if rows else next(iter(self.evidence.judged), "")
        cases = self.evidence.cases(self.asked.images, self.evidence.ids)
        if not method or len(cases) < 2:
            return {}
        maps = resized(
            self.evidence.maps(method, [case.id for case in cases]).sum(1, keepdim=True), tuple(cases[0].outline.shape)
        )
        whole = [row for row, one in enumerate(maps) if bool(one.isfinite().all())]
        table = relevance_measures(maps[whole], [cases[row] for row in whole], self.evidence.images.record)
        effects = relevance_effects(table, seed=self.evidence.seed)
        return (
            {"under_the_map": effects.append_column("method", pa.array([method] * effects.num_rows))}
            if effects.num_rows
            else {}
        )

    @cached_property
    def guideline(self) -> dict[str, pa.Table]:
        if self.asked.guideline is None:
            return {}
        shares = guideline_shares(
            self.setup.model, self.evidence.images, self.evidence.ids, read_guideline(self.asked.guideline),
            group=self.evidence.group, seed=self.evidence.seed, batch_size=self.evidence.batch_size,
        )  # fmt: skip
        return {"guideline_shares": shares, "guideline": guideline_overview(shares, seed=self.evidence.seed)}

    def grounded(self, tests: dict[str, EditTests], boxes: pa.Table) -> pa.Table:
        """Return every clause about a class or an explained image with the id of its measurement."""
        said = []
        for label in self.subjects:
            name = self.classes[label]
            own = self.differences.filter(pc.equal(self.differences["class"], name)).drop_columns(["class"])
            said.append(("class", class_paragraph(name, own, tests[name].effects, boxes)))
        known = set(self.ids)
        said += [("image", image_paragraph(image, self.evidence.predictions, self.held_out, self.classes))
                 for image in self.evidence.ids if image in known]  # fmt: skip
        return pa.Table.from_pylist(
            [{"about": about, "subject": paragraph.subject, "clause": clause.text, "source": clause.source}
             for about, paragraph in said for clause in paragraph.clauses],
            schema=pa.schema([(name, pa.string()) for name in ("about", "subject", "clause", "source")]),
        )  # fmt: skip


def _named(name: str, table: pa.Table) -> pa.Table:
    return table.add_column(0, "class", pa.array([name] * table.num_rows, pa.string()))


def _by_class(tests: dict[str, EditTests]) -> pa.Table:
    return pa.concat_tables([_named(name, one.effects) for name, one in tests.items()])


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
