"""The question ``[concepts]``: which named or measured things the layers hold, and whether the calls hang on them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pellucid.concepts import (
    ConceptRelevance,
    Concepts,
    DiscoveredConcepts,
    class_targets,
    concept_relevance,
    discover_concepts,
    layers_over_depth,
    measured_concepts,
    read_concepts,
)
from pellucid.concepts.relevance import FEWEST
from pellucid.errors import BadStudy, CannotExplain, ShapeError
from pellucid.hashing import hash_key
from pellucid.interpretation import Evidence, Finding, Interpretations, likelier
from pellucid.measure import in_words
from pellucid.models import Target
from pellucid.study.questions import ConceptsConfig
from pellucid.study.setup import Setup

__all__ = ["answer"]

CLAIMS = 8
"""Concepts that stand among the findings at most; the table has all."""

LAYERS = 2
"""Layers that must agree before a concept is claimed."""

_IMAGES_OF_PARTS = 32
_FEWEST = 8


def answer(setup: Setup, evidence: Evidence) -> Interpretations:
    """Test the study's concepts in every layer for every class, and find parts without labels where asked."""
    asked = setup.config.concepts
    if asked is None:
        raise BadStudy("the study does not ask for concepts")
    ids = _asked_images(evidence, asked.images)
    layers = tuple(asked.layers or layers_over_depth(evidence.model, evidence.images.tensor(ids[:1])))
    findings: list[Finding] = []
    tables: dict[str, pa.Table] = {}
    vocabulary = _vocabulary(setup, evidence, asked, ids)
    if vocabulary is not None:
        found = concept_relevance(
            evidence.model, evidence.images, vocabulary, layers, ids=ids, direction=asked.direction, held=asked.held,
            groups=evidence.groups(ids), runs=asked.runs, seed=evidence.seed, batch_size=evidence.batch_size,
            progress=evidence.progress,
        )  # fmt: skip
        findings += _claims(found)
        tables |= {"concepts": found.table, "concept_slopes": found.slopes}
    if asked.parts:
        tables["concept_parts"] = _parts(evidence, asked, layers)
    return Interpretations(tuple(findings), tables)


def _asked_images(evidence: Evidence, most: int) -> list[str]:
    known = list(evidence.predictions["image"].to_pylist())
    return sorted(known, key=lambda name: hash_key(evidence.seed, "concepts", name))[:most]


def _vocabulary(setup: Setup, evidence: Evidence, asked: ConceptsConfig, ids: Sequence[str]) -> Concepts | None:
    """Return the study's concepts that are known in enough of the asked images to be tested."""
    found = None if asked.csv is None else read_concepts(asked.csv, setup.images)
    if asked.phenotypes is not None:
        names = None if asked.phenotypes == "all" else asked.phenotypes
        measured = measured_concepts(
            evidence.images, names, ids=ids, mask=evidence.object_mask, progress=evidence.progress
        )
        found = measured if found is None else found.joined(measured)
    return None if found is None else _testable(found, ids)


def _testable(concepts: Concepts, ids: Sequence[str]) -> Concepts:
    """Leave out what too few images or values tell; refuse where nothing is left."""
    kept = [name for name in concepts.names if concepts.told_apart(name, ids) >= FEWEST]
    if not kept:
        raise ShapeError(
            f"none of the concepts {', '.join(concepts.names)} is known, and varies, in {FEWEST} of the {len(ids)} images asked"
        )
    return concepts.select(kept)


def _claims(found: ConceptRelevance) -> list[Finding]:
    """Claim a concept for a class where several layers hold it, the call hangs on it in them, and all agree on the way."""
    rows = found.table.to_pylist()
    pairs = dict.fromkeys((row["concept"], row["target"]) for row in rows)
    told = [_claim(found, [row for row in rows if (row["concept"], row["target"]) == pair]) for pair in pairs]
    claims = sorted(
        (one for one in told if one is not None), key=lambda one: (one.verdict != "supported", -abs(one.value or 0))
    )
    return [*claims[:CLAIMS], _summary(found, len(claims))]


def _claim(found: ConceptRelevance, rows: list[dict[str, Any]]) -> Finding | None:
    sure = [row for row in rows if row["significant"] and row["effect"] * row["observed"] > 0]
    if not sure:
        return None
    best = max(sure, key=lambda row: row["fit"])
    against = [row["layer"] for row in rows if row["significant"] and row["effect"] * row["observed"] < 0]
    concept, target = best["concept"], best["target"]
    way = "rises" if best["effect"] > 0 else "falls"
    fit = (
        "rightly in this share (both kinds weighed alike)"
        if best["kind"] == "set"
        else "up to this share of its variation (R²)"
    )
    enough = len(sure) >= min(LAYERS, len(rows))
    more = (
        ""
        if not against
        else f" In {', '.join(against)} the slope points the other way: moving all places of an early layer alike is not what the concept does there."
    )
    return Finding(
        id=f"concept-{concept}-{target}",
        kind="concept",
        subject=target,
        statement=f"The model's score for {target} {way} with {in_words(concept).replace('_', ' ')}"
        + (f" ({best['unit']})." if best["unit"] not in {"", "1"} else "."),
        evidence=f"{len(sure)} of {len(rows)} layers hold it and pass it on (false discovery rate {found.alpha:g} over "
        f"{found.table.num_rows} tests, {found.runs} random concepts each); in {best['layer']} it is told on unseen groups with "
        f"{fit}: {best['fit']:.2f} [{best['fit_low']:.2f}, {best['fit_high']:.2f}]; where there is one standard deviation more of it, the call "
        f"is {likelier(best['observed'])} in the images and {likelier(best['effect'])} through that layer. What goes together in "
        f"the images is not taken apart.{more}",
        value=best["effect"],
        verdict="supported" if enough else "undecided",
    )


def _summary(found: ConceptRelevance, claims: int) -> Finding:
    rows = found.table.to_pylist()
    names = sorted({row["concept"] for row in rows})
    idle = sorted(set(names) - {row["concept"] for row in rows if row["significant"]})
    told = (
        f"Not seen to be used for any class: {', '.join(map(in_words, idle))}."
        if idle
        else "Every one is used for some class."
    )
    return Finding(
        id="concepts",
        kind="concept",
        subject="concepts",
        statement=f"Of {len(names)} concepts asked, {len(names) - len(idle)} are held by some layer and moved with by some call. {told}",
        evidence=f"{sum(row['significant'] for row in rows)} of {len(rows)} tests (concept × layer × class) at a false discovery "
        f"rate of {found.alpha:g}, direction: {found.direction}; {claims} concept–class pairs agree in sign with the images. A "
        "concept that no layer tells may still be used in a way that no straight line shows; random concepts keep what a concept "
        "says of whole groups, so that one that goes with patient or smear alone is not called used.",
        value=float(len(names) - len(idle)),
        verdict="supported",
    )


def _parts(evidence: Evidence, asked: ConceptsConfig, layers: Sequence[str]) -> pa.Table:
    """Find parts in the images that are called each class, in the deepest layer that gives any."""
    rows: list[dict[str, Any]] = []
    table = evidence.predictions
    called = dict(zip(table["image"].to_pylist(), table["predicted"].to_pylist(), strict=True))
    first = evidence.images.tensor(list(called)[:1])
    for number, target in class_targets(evidence.model, first, batch_size=evidence.batch_size).items():
        ids = [name for name in _asked_images(evidence, len(called)) if called[name] == number][:_IMAGES_OF_PARTS]
        if len(ids) < _FEWEST:
            continue
        found = _found(evidence, asked, layers, ids, target)
        for row in found.table.to_pylist():
            shown = found.exemplars(row["concept"], 5)
            rows.append(row | {
                "called": evidence.images.classes[number], "layer": found.layer, "explained": found.explained,
                "fidelity": found.fidelity, "exemplars": [one.image for one in shown],
                "boxes": [[edge for corner in one.box for edge in corner] for one in shown],
            })  # fmt: skip
    if not rows:
        raise ShapeError(f"no class is called in {_FEWEST} held-out images or more, so no parts were sought")
    return pa.Table.from_pylist(rows)


def _found(
    evidence: Evidence, asked: ConceptsConfig, layers: Sequence[str], ids: Sequence[str], target: Target
) -> DiscoveredConcepts:
    tried = [asked.part_layer] if asked.part_layer is not None else [*layers[-2:-1], *layers[::-1]]
    reason = "no layer was named"
    for layer in tried:
        try:
            return discover_concepts(
                evidence.model, evidence.images, layer, ids=ids, target=target, concepts=asked.parts,
                groups=evidence.groups(ids), seed=evidence.seed, batch_size=evidence.batch_size,
                progress=evidence.progress,
            )  # fmt: skip
        except CannotExplain as error:  # negative values, or no feature map: the next layer may do
            reason = str(error)
    raise CannotExplain(f"no parts were found in {', '.join(tried)}: {reason}")
