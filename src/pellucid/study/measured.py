"""What a study measures of its images for ``[interpret]``: each table is made once, kept, and read by every test."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pellucid.errors import BadStudy
from pellucid.hashing import hash_key
from pellucid.interpretation import Evidence, class_differences, class_score, feature_alone, variance_shares
from pellucid.measure import PHENOTYPES, measure_images, per_image, read_measures
from pellucid.study.choose import training
from pellucid.study.questions import InterpretConfig
from pellucid.study.setup import Setup

__all__ = ["AT_ONCE", "Measured", "named"]

AT_ONCE = 128
"""Images that the model is asked about at once."""

_LEARNT_FROM = 2000
"""Training images measured for the readable models at most, chosen by hash of their id."""

_FAMILIES = 5
"""Kinds of measures compared by the variance that they explain: those that explain most alone."""

_SHOWN = 8
"""Measures of which it is said how much of the score each recovers alone."""


@dataclass(frozen=True)
class Measured:
    """The images of a study in measured terms, and the model's score of them."""

    setup: Setup
    evidence: Evidence
    asked: InterpretConfig

    @cached_property
    def notes(self) -> list[str]:
        """What the reader should know of the measuring."""
        return []

    @cached_property
    def ids(self) -> list[str]:
        """The labelled, predicted images: those that the model was not trained on."""
        rows = self.evidence.predictions.select(["image", "label"]).to_pylist()
        return [row["image"] for row in rows if row["label"] is not None]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes."""
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
        """Class number of each image of `ids`."""
        return list(self.evidence.images.label(self.ids))

    @cached_property
    def groups(self) -> list[str]:
        """Independent unit of each image of `ids`."""
        return self.evidence.groups(self.ids)

    @cached_property
    def confounders(self) -> pa.Table | None:
        """What is held fixed in associations, one row an image of `ids`."""
        names = self.asked.confounders
        return pa.table({name: self.evidence.images.column(name, self.ids) for name in names}) if names else None

    @cached_property
    def held_out(self) -> pa.Table:
        """Measures of the images of `ids`."""
        table = self.measure("held_out", self.ids)
        empty = table["Count_Objects"].to_pylist().count(0)
        if empty:
            self.notes.append(
                f"{empty} of {table.num_rows} held-out images hold no outlined object, so most of their measures are missing"
            )
        return table

    @cached_property
    def learnt_from(self) -> list[str]:
        """Training images, from which readable models learn."""
        known = training(self.setup.images, trained_here=self.setup.config.fit is not None, seed=self.evidence.seed)
        own = set(self.ids)
        return sorted(
            (image for image in known if image not in own), key=lambda name: hash_key(self.evidence.seed, name)
        )[:_LEARNT_FROM]

    def measure(self, part: str, ids: Sequence[str]) -> pa.Table:
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
        for start in range(0, len(self.ids), AT_ONCE):
            images = self.evidence.images.tensor(self.ids[start : start + AT_ONCE])
            for label in self.subjects:
                found[label].append(class_score(self.evidence, label)(images))
        return {label: torch.cat(parts).numpy() for label, parts in found.items()}

    @cached_property
    def differences(self) -> pa.Table:
        """How each class differs from the others, measure by measure."""
        tables = [
            class_differences(self.held_out, self.labels, label, confounders=self.confounders, groups=self.groups, seed=self.evidence.seed)
            for label in self.subjects
        ]  # fmt: skip
        return pa.concat_tables(
            [named(self.classes[label], one) for label, one in zip(self.subjects, tables, strict=True)]
        )

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
                tables.append(named(self.classes[label], found))
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
            tables.append(named(self.classes[label], found))
        return pa.concat_tables(tables) if tables else pa.table({})


def named(name: str, table: pa.Table) -> pa.Table:
    """Return the table with the class in front."""
    return table.add_column(0, "class", pa.array([name] * table.num_rows, pa.string()))
