"""The edits of a study's ``[interpret]``: claims put to the test, their doses, and edits of one class head to head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import torch

from pellucid.errors import CannotExplain, PellucidError
from pellucid.interpretation import (
    Claim,
    EditTests,
    Grounds,
    Interpretation,
    Realism,
    class_score,
    dose_response,
    doses_of,
    edit_shares,
    try_claims,
)
from pellucid.interpretation.edit_test import Score
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.record import looks_real
from pellucid.measure import EDITS
from pellucid.models import load_model
from pellucid.study.measured import Measured, named
from pellucid.study.repeats import SHUFFLED, net_names, net_weights

__all__ = ["EDIT_PANEL", "Tested"]

EDIT_PANEL = (
    "resize_object(factor=1.25)", "stretch_object", "shift_rim", "brighten", "recolour", "blur_texture", "brighten_rim", "blur_rim",
    "add_spots", "remove_spots", "scale_spots", "move_object", "replace_background", "flatten_illumination",
)  # fmt: skip
"""What is tried where the study file names no edits."""

_TOGETHER = 5
"""Edits of one class that are made together at most: those claimed of it, then those that move its call most."""

_DRAWS = 4


@dataclass(frozen=True)
class Tested:
    """What the edits of the measured images showed."""

    measured: Measured

    @cached_property
    def cases(self) -> list[Case]:
        """The images that are edited."""
        return self.measured.evidence.cases(self.measured.asked.images)

    @cached_property
    def realism(self) -> Realism | None:
        """What these images look like; None where they are too few or of several sizes."""
        groups = [case.group for case in self.cases]
        try:
            return Realism.of(
                torch.stack([case.image for case in self.cases]), [case.id for case in self.cases], groups=groups
            )
        except (PellucidError, RuntimeError):
            return None

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Class name to what is explained of it."""
        whole = self.measured
        return {whole.classes[label]: class_score(whole.evidence, label) for label in whole.subjects}

    @cached_property
    def spreads(self) -> dict[str, float]:
        """Class name to the standard deviation of its score over the unedited images."""
        images = torch.stack([case.image for case in self.cases])
        return {name: float(score(images).double().std(correction=0)) for name, score in self.scores.items()}

    def with_spread(self, table: pa.Table) -> pa.Table:
        """Return a table of classes with the spread of each class's score: what a change of it is large or small against."""
        spreads = [self.spreads[name] for name in table["class"].to_pylist()] if table.num_rows else []
        return table.append_column("spread", pa.array(spreads, pa.float64())) if spreads else table

    @cached_property
    def claims(self) -> tuple[tuple[Interpretation, ...], dict[str, EditTests]]:
        """Every claim's record, and the edit tests of every class."""
        whole, asked = self.measured, self.measured.asked
        natural = {whole.classes[label]: whole.scores[label].tolist() for label in whole.subjects}
        return try_claims([Claim(**claim.said) for claim in asked.claims], Grounds(
            cases=self.cases, scores=self.scores, measures=whole.held_out, labels=[whole.classes[label] for label in whole.labels],
            groups=whole.groups, confounders=whole.confounders, natural=natural, others=self._others,
            votes={claim.id: claim.votes for claim in asked.claims if claim.votes}, realism=self.realism, matters=asked.matters,
            edits=EDIT_PANEL if asked.edits == "panel" else asked.edits, seed=whole.evidence.seed, progress=whole.evidence.progress,
        ))  # fmt: skip

    @property
    def _others(self) -> dict[str, list[Score]]:
        """Return the scores of the nets that learnt the task again, where the study has such."""
        whole, setup = self.measured, self.measured.setup
        names = [name for name in net_names(setup) if name != SHUFFLED and net_weights(setup, name).is_file()]
        nets = [
            replace(whole.evidence, model=load_model(net_weights(setup, name), device=setup.plan.device))
            for name in names
        ]
        if not nets:
            return {}
        return {whole.classes[label]: [class_score(net, label) for net in nets] for label in whole.subjects}

    @cached_property
    def doses(self) -> pa.Table:
        """Every claim's edit at four doses, where it has a dose."""
        tables = []
        for claim in self.measured.asked.claims:
            found = self._doses(claim.edit, claim.subject)
            if found is not None:
                tables.append(found.add_column(0, "claim", pa.array([claim.id] * found.num_rows, pa.string())))
        return pa.concat_tables(tables) if tables else pa.table({})

    def _doses(self, edit: str, subject: str) -> pa.Table | None:
        turned = doses_of(edit)
        if turned is None:
            return None
        try:
            found = dose_response(
                self.scores[subject], self.cases, edit, *turned, realism=self.realism, seed=self.measured.evidence.seed
            )
        except CannotExplain as error:
            self.measured.notes.append(str(error))
            return None
        return named(subject, found)

    @cached_property
    def together(self) -> pa.Table:
        """Edits of each class made together at random: how much of the change of its call each explains."""
        tables = []
        for subject, score in self.scores.items():
            edits = self._rivals(subject, self.claims[1])
            if len(edits) < 2:
                continue
            try:
                found = edit_shares(score, self.cases, edits, draws=_DRAWS, seed=self.measured.evidence.seed)
            except CannotExplain as error:
                self.measured.notes.append(f"{subject}: {error}")
                continue
            tables.append(named(subject, found))
        return pa.concat_tables(tables) if tables else pa.table({})

    def _rivals(self, subject: str, tests: Mapping[str, EditTests]) -> list[str]:
        """Return the edits that are held against each other: those claimed of the class, then the strongest that look real."""
        claimed = [str(EDITS.parse(claim.edit)) for claim in self.measured.asked.claims if claim.subject == subject]
        strong = [row["edit"] for row in tests[subject].effects.to_pylist() if looks_real(row["realistic"])]
        tried = set(tests[subject].effects["edit"].to_pylist())
        return [edit for edit in dict.fromkeys([*claimed, *strong]) if edit in tried][:_TOGETHER]
