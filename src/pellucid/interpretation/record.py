"""The record of an interpretation: a claim with its author, its tests, its score card, its status and what to do next."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from pellucid.errors import BadStudy
from pellucid.interpretation.odds import fold
from pellucid.intervals import Interval

__all__ = [
    "CARD",
    "LIKE_REAL",
    "CardLine",
    "Claim",
    "Interpretation",
    "Status",
    "looks_real",
    "records_from_json",
    "records_to_json",
    "records_to_markdown",
]

Status = Literal["proposed", "supported", "refuted"]
Sign = Literal["more", "less", "any"]
Axis = Literal["edit and test", "specificity", "natural variation", "cross-model", "live evidence", "expert agreement"]

LIKE_REAL = 0.5
"""Share of the edited images that must look real before an answer to them, or none, decides a claim."""


def looks_real(share: float | None) -> bool:
    """Say whether enough edited images look real for the answer to count; None, where nothing told, speaks against none."""
    return share is None or share >= LIKE_REAL


CARD: tuple[Axis, ...] = get_args(Axis)
"""The score card: what can speak for or against an interpretation."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What somebody says that the model reads, in a form that can be tested.

    Attributes
    ----------
    id
        Unique within the study.
    statement
        One sentence.
    author
        Who says so.
    subject
        The class whose call it is about.
    edit
        Text of the edit that changes the image as the claim says.
    feature
        Column of the measured phenotype that the claim speaks of, or None.
    sign
        Whether the edit makes the class more likely, less likely, or either.
    evidence
        Where the claim comes from: ids of findings, maps, counterfactuals.
    """

    id: str
    statement: str
    author: str
    subject: str
    edit: str
    feature: str | None = None
    sign: Sign = "any"
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CardLine:
    """One line of the score card.

    Attributes
    ----------
    axis
        One of `CARD`.
    words
        What was done and found.
    value, low, high
        The number with its interval, or None.
    least
        The smallest number that matters: an interval above it speaks for the claim, one at or below it against.
    n, groups
        Behind the number.
    spread
        Standard deviation of the score over untouched images, of lines that tell a change of the score; else None.
    """

    axis: Axis
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    least: float = 0.0
    n: int = 0
    groups: int = 0
    spread: float | None = None

    @classmethod
    def of(
        cls, axis: Axis, words: str, found: Interval, *, least: float = 0.0, spread: float | None = None
    ) -> "CardLine":
        """Return the line of a measured number."""
        low, high = (None if math.isnan(edge) else edge for edge in (found.low, found.high))
        value = None if math.isnan(found.value) else found.value
        return cls(
            axis=axis, words=words, value=value, low=low, high=high, least=least, n=found.n, groups=found.groups, spread=spread
        )  # fmt: skip

    @property
    def says(self) -> Literal["for", "against", "open"]:
        """Whether it speaks for the claim, against it (what it could still be does not matter), or leaves it open."""
        if self.low is None or self.high is None:
            return "open"
        return "for" if self.low > self.least else "against" if self.high <= self.least else "open"

    @property
    def told(self) -> str:
        """The number as text: a change of the score in its own standard deviations (SD) and as a fold change of the odds."""
        if self.value is None:
            return "not tested"
        unit, size = ("", 1.0) if not self.spread else (" SD", self.spread)
        odds = f"; {fold(self.value)}" if self.spread else ""
        if self.low is None or self.high is None:
            return f"{self.value / size:.3g}{unit}{odds} (no interval from {self.groups} group{'' if self.groups == 1 else 's'})"
        return f"{self.value / size:.3g}{unit} [{self.low / size:.3g}, {self.high / size:.3g}]{odds}"


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """A claim and what became of it.

    Attributes
    ----------
    claim
        What is said.
    tests
        What was tested; an axis of `CARD` without a test is "not tested".
    next_experiment
        What to do at the bench, and with how many samples; empty where nothing can be computed.
    realistic
        Share of the edited images that look like real ones; None where that was not judged.
    notes
        What else a reader must know.
    """

    claim: Claim
    tests: tuple[CardLine, ...] = ()
    next_experiment: str = ""
    realistic: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def card(self) -> dict[str, CardLine]:
        """The whole score card in order, "not tested" included."""
        known = {test.axis: test for test in self.tests}
        return {axis: known.get(axis, CardLine(axis=axis, words="")) for axis in CARD}

    @property
    def status(self) -> Status:
        """Decided by rule: refuted where edit-and-test or specificity speaks against it; supported where both speak for it.

        Everything else is proposed: agreement of other models or experts alone never makes a claim supported, and edited
        images of which fewer than half look real decide nothing either way.
        """
        card = self.card
        deciding = [card["edit and test"].says, card["specificity"].says]
        if not looks_real(self.realistic):
            return "proposed"
        if "against" in deciding:
            return "refuted"
        return "supported" if deciding == ["for", "for"] else "proposed"

    def tested(self, *tests: CardLine) -> "Interpretation":
        """Return the record with further lines; a line of the same axis is replaced."""
        axes = {test.axis for test in tests}
        return replace(self, tests=(*(test for test in self.tests if test.axis not in axes), *tests))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the status and the whole card spelt out."""
        return {
            "claim": asdict(self.claim) | {"evidence": list(self.claim.evidence)}, "status": self.status,
            "card": {axis: asdict(test) | {"says": test.says, "told": test.told} for axis, test in self.card.items()},
            "realistic": self.realistic, "next_experiment": self.next_experiment, "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Interpretation":
        """Read what `to_dict` wrote; the status is decided anew.

        Raises
        ------
        BadStudy
            When it is no such record.
        """
        try:
            claim = Claim(**values["claim"] | {"evidence": tuple(values["claim"].get("evidence", ()))})
            lines = [{name: value for name, value in line.items() if name not in {"says", "told"}}
                     for line in values.get("card", {}).values() if line["value"] is not None]  # fmt: skip
            tests = tuple(CardLine(**line) for line in lines)
        except (KeyError, TypeError) as error:
            raise BadStudy(f"this is no record of an interpretation: {error}") from error
        return cls(
            claim=claim,
            tests=tests,
            next_experiment=values.get("next_experiment", ""),
            realistic=values.get("realistic"),
            notes=tuple(values.get("notes", ())),
        )

    def to_markdown(self) -> str:
        """Return the record as a page for people."""
        lines = [
            f"## {self.claim.statement}",
            "",
            f"*{self.status}* — {self.claim.author}; about class {self.claim.subject}",
            "",
        ]
        lines += [f"- edit: `{self.claim.edit}`" + (f"; feature: `{self.claim.feature}`" if self.claim.feature else "")]
        lines += [f"- from: {', '.join(self.claim.evidence)}"] if self.claim.evidence else []
        lines += [
            "",
            "| test | result (95 % interval; SD: of the call over images; n-fold: of its odds) | n (groups) | says | what was done |",
            "|---|---|---|---|---|",
        ]
        for axis, test in self.card.items():
            count = f"{test.n} ({test.groups})" if test.value is not None else ""
            lines.append(
                f"| {axis} | {test.told} | {count} | {test.says if test.value is not None else ''} | {test.words} |"
            )
        lines += ["", f"Next: {self.next_experiment}"] if self.next_experiment else []
        return "\n".join([*lines, *(f"\nNote: {note}" for note in self.notes), ""])


def records_to_json(records: Sequence[Interpretation]) -> str:
    """Return records as JSON text."""
    return json.dumps([record.to_dict() for record in records], indent=2, ensure_ascii=False, allow_nan=False)


def records_from_json(text: str) -> tuple[Interpretation, ...]:
    """Read `records_to_json` back.

    Raises
    ------
    BadStudy
        When it is none.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadStudy(f"the records of interpretations are no JSON: {error}") from error
    return tuple(Interpretation.from_dict(value) for value in values)


def records_to_markdown(records: Sequence[Interpretation]) -> str:
    """Return records as one page."""
    return "# Interpretations\n\n" + "\n".join(record.to_markdown() for record in records)
