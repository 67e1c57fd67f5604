"""Put claims to the test: each becomes a record with its score card, its status by rule and the next experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import torch

from pellucid.errors import BadRecipe, CannotExplain
from pellucid.interpretation.associate import associate
from pellucid.interpretation.differences import class_differences
from pellucid.interpretation.edit_test import EditTests, Score, edit_and_test_each
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.power import likeness_within_groups, sample_size
from pellucid.interpretation.realism import Realism
from pellucid.interpretation.record import CardLine, Claim, Interpretation, looks_real
from pellucid.intervals import Interval, mean_interval, share_interval
from pellucid.measure import EDITS, edit_in_words, in_words

__all__ = ["MATTERS", "Grounds", "Votes", "try_claims"]

MATTERS = 0.2
"""Change of the score that an edit must make before it counts, in standard deviations of the score over the images."""

Votes = tuple[int, int]
"""Experts who agree, and experts asked."""


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What claims are tested on.

    Attributes
    ----------
    cases
        Images with outlines, that edits are tried on.
    scores
        Class name to the score that is explained.
    measures
        One row an image of measured features, first column ``image``; or None.
    labels, groups
        Class name and independent unit of each image of `measures`.
    confounders
        Columns held fixed in associations, one row an image of `measures`.
    natural
        Class name to the model's score of each image of `measures`.
    others
        Class name to scores of other models.
    votes
        Claim id to experts who agree and experts asked.
    realism
        Of real images.
    matters
        See `MATTERS`.
    edits
        Further edits to try on the same images, whether or not anybody claims something of them.
    seed, progress
        As everywhere.
    """

    cases: Sequence[Case]
    scores: Mapping[str, Score]
    measures: pa.Table | None = None
    labels: Sequence[str] = ()
    groups: Sequence[str] = ()
    confounders: pa.Table | None = None
    natural: Mapping[str, Sequence[float]] = field(default_factory=dict)
    others: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    votes: Mapping[str, Votes] = field(default_factory=dict)
    realism: Realism | None = None
    matters: float = MATTERS
    edits: Sequence[str] = ()
    seed: int = 0
    progress: bool = False

    def spread(self, subject: str) -> float:
        """Return the standard deviation of a class's score over the untouched images."""
        return float(self.scores[subject](torch.stack([case.image for case in self.cases])).double().std(correction=0))


def try_claims(claims: Sequence[Claim], grounds: Grounds) -> tuple[tuple[Interpretation, ...], dict[str, EditTests]]:
    """Test every claim on the same images.

    Returns
    -------
    records
        One a claim, in their order.
    tests
        Edit tests by class of `Grounds.scores`: of all claims' edits and of `Grounds.edits`, so that their false discovery
        rate is joint.

    Raises
    ------
    BadRecipe
        When a claim names no edit, or a class that has no score.
    """
    for claim in claims:
        if claim.subject not in grounds.scores:
            raise BadRecipe(
                f"there is no class {claim.subject!r} to make a claim about; there are {', '.join(grounds.scores)}"
            )
    edits = list(dict.fromkeys(_canonical(edit) for edit in (*(claim.edit for claim in claims), *grounds.edits)))
    beside = {
        f"{subject}\n{place}": score for subject, each in grounds.others.items() for place, score in enumerate(each)
    }
    found = edit_and_test_each(
        {**grounds.scores, **beside}, grounds.cases, edits, realism=grounds.realism, seed=grounds.seed,
        progress=grounds.progress,
    )  # fmt: skip
    return tuple(_record(claim, found, grounds) for claim in claims), {name: found[name] for name in grounds.scores}


def _record(claim: Claim, found: Mapping[str, EditTests], grounds: Grounds) -> Interpretation:
    tests = found[claim.subject]
    try:
        beyond = tests.beyond(claim.edit)
    except BadRecipe:
        return Interpretation(claim=claim, notes=("the edit fits too few of these images to be tried",))
    effect = next(row for row in tests.effects.to_pylist() if row["edit"] == _canonical(claim.edit))
    spread = grounds.spread(claim.subject)
    least = grounds.matters * spread
    answered = CardLine.of(
        "edit and test", f"how the call for {claim.subject} answers to the edit ({edit_in_words(claim.edit)}), in the claimed direction; "
        f"what matters is {grounds.matters:g} standard deviations (SD) of the call over the same images unedited",
        _directed(claim, tests, grounds.seed), least=least, spread=spread,
    )  # fmt: skip
    null = f"how much more the call answers to the edit than to its matched change ({effect['null']}); q = {_text(effect['q'])}"
    lines = [
        answered, CardLine.of("specificity", null, beyond, spread=spread), *_natural(claim, grounds), *_cross_model(claim, found, grounds, least),
        *_voted(claim, grounds),
    ]  # fmt: skip
    real = effect["realistic"]
    strange = () if looks_real(real) else (
        f"only {100 * real:.0f} % of the edited images look like real ones: the model may answer to that",
    )  # fmt: skip
    record = Interpretation(claim=claim, tests=tuple(lines), realistic=real, notes=strange)
    return replace(record, next_experiment=_next(record, grounds))


def _canonical(edit: str) -> str:
    return str(EDITS.parse(edit))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _directed(claim: Claim, tests: EditTests, seed: int) -> Interval:
    """Return the change in the claimed direction: as it is, turned round, or its size."""
    own = [row for row in tests.table.to_pylist() if row["edit"] == _canonical(claim.edit)]
    turn = {"more": 1.0, "less": -1.0}.get(claim.sign)
    values = [abs(row["change"]) if turn is None else turn * row["change"] for row in own]
    return mean_interval(values, groups=[row["group"] for row in own], seed=seed)


def _natural(claim: Claim, grounds: Grounds) -> list[CardLine]:
    """Ask whether the score goes with the feature over images that nobody edited, beyond the confounders."""
    if claim.feature is None or grounds.measures is None or claim.subject not in grounds.natural:
        return []
    if claim.feature not in grounds.measures.column_names:
        raise BadRecipe(f"claim {claim.id!r}: {claim.feature!r} was not measured")
    row = associate(
        grounds.measures.select([claim.feature]), {"score": grounds.natural[claim.subject]}, groups=list(grounds.groups),
        confounders=grounds.confounders, seed=grounds.seed,
    ).to_pylist()[0]  # fmt: skip
    if row["value"] is None:
        return []
    low, high = (np.nan, np.nan) if row["low"] is None else _sized(row)
    held = f" with {row['confounders']} held fixed" if row["confounders"] else ""
    words = f"rank correlation of {in_words(claim.feature)} and the call over unedited images{held} (sign {row['value']:+.2f}); q = {_text(row['q'])}"
    return [CardLine.of("natural variation", words, Interval(abs(row["value"]), low, high, row["n"], row["groups"]))]


def _sized(row: dict[str, float]) -> tuple[float, float]:
    """Return the bounds of the size of a correlation."""
    return (row["low"], row["high"]) if row["value"] >= 0 else (-row["high"], -row["low"])


def _cross_model(claim: Claim, found: Mapping[str, EditTests], grounds: Grounds, least: float) -> list[CardLine]:
    """Ask how many other models answer to the same edit, in the claimed direction and beyond its null."""
    others = [found[f"{claim.subject}\n{place}"] for place, _ in enumerate(grounds.others.get(claim.subject, ()))]
    if not others:
        return []
    agreeing = sum(
        _directed(claim, tests, grounds.seed).low > least and tests.beyond(claim.edit).low > 0 for tests in others
    )
    words = f"share of {len(others)} other models that answer to the edit as claimed"
    return [CardLine.of("cross-model", words, share_interval(agreeing, len(others)), least=0.5)]


def _voted(claim: Claim, grounds: Grounds) -> list[CardLine]:
    if claim.id not in grounds.votes:
        return []
    agree, asked = grounds.votes[claim.id]
    return [
        CardLine.of("expert agreement", f"{agree} of {asked} experts agree", share_interval(agree, asked), least=0.5)
    ]


def _next(record: Interpretation, grounds: Grounds) -> str:
    """Propose the next experiment: a comparison of the feature between the classes, with its sample size."""
    claim = record.claim
    if record.status == "refuted":
        return "none: the model does not answer to what is claimed"
    if claim.feature is None or grounds.measures is None:
        return "measure the feature that the claim speaks of; without its spread no sample size can be computed"
    labels = [int(label == claim.subject) for label in grounds.labels]
    found = class_differences(
        grounds.measures.select([claim.feature]), labels, 1, groups=grounds.groups, seed=grounds.seed
    )
    row = found.to_pylist()[0]
    if row["effect"] is None:
        return f"none: {in_words(claim.feature)} is known of too few images of {claim.subject}"
    values = [np.nan if cell is None else cell for cell in grounds.measures[claim.feature].to_pylist()]
    sizes = np.unique(list(grounds.groups), return_counts=True)[1]
    per_group, likeness = max(1, int(np.median(sizes))), likeness_within_groups(values, list(grounds.groups))
    try:
        size = sample_size(row["effect"], per_group=per_group, likeness=likeness)
    except CannotExplain as error:
        return f"none: {error}"
    return f"measure {in_words(claim.feature)} in {claim.subject} and in controls, blind, on new material: {size}"
