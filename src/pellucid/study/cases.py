"""The question ``[examples]``: cases that the model holds alike, what makes them so, and those that stand for a class."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy, CannotExplain, PellucidError
from pellucid.examples import Neighbours, explain_similarity, posed_features, prototypes, similar_cases
from pellucid.interpretation import Evidence, Finding, Interpretations
from pellucid.study.questions import ExamplesConfig
from pellucid.study.setup import Setup

__all__ = ["answer"]

_PAIRS = 4
"""Queries whose likeness to their nearest case is explained."""

_CHEAP = 'occlusion(window=8, stride=4, fill="mean")'


def answer(setup: Setup, evidence: Evidence) -> Interpretations:
    """Find similar cases for a few explained images among all held-out ones, and say how much the likeness is worth."""
    asked = setup.config.examples
    if asked is None:
        raise BadStudy("the study does not ask for examples")
    gallery = list(evidence.predictions["image"].to_pylist())
    queries = [name for name in evidence.ids if name in set(gallery)]
    layer = asked.layer or evidence.model.embedding
    if layer is None:
        raise CannotExplain("the model names no embedding; say examples.layer = one of its layers")
    features = posed_features(
        evidence.model, evidence.images, layer, ids=gallery, pose=asked.pose, batch_size=evidence.batch_size,
        progress=evidence.progress,
    )  # fmt: skip
    found = similar_cases(
        evidence.model, evidence.images, queries, ids=gallery, k=asked.k, metric=asked.metric, pose=asked.pose,
        groups=evidence.groups(gallery), features=features, seed=evidence.seed, batch_size=evidence.batch_size,
    )  # fmt: skip
    shown = queries[: asked.queries]
    kept = [row for row in found.table.to_pylist() if row["image"] in set(shown)]
    settings = {"layer": layer, "metric": asked.metric, "pose": asked.pose, "gallery": len(gallery)}
    tables = {"neighbours": pa.Table.from_pylist([row | settings for row in kept], schema=_with(found.table.schema))}
    findings, table = _worth(evidence, found, gallery, asked.k)
    if table is not None:
        tables["neighbour_precision"] = table
    pairs = _similarity(evidence, asked, layer, kept, shown[:_PAIRS])
    if pairs is not None:
        tables["similarity"] = pairs
    if asked.prototypes and evidence.images.labels is not None:
        labels = evidence.images.label(gallery)
        tables["prototypes"] = prototypes(
            features, labels, classes=evidence.images.classes, ids=gallery, count=asked.prototypes
        ).table
    return Interpretations(tuple(findings), tables)


def _with(schema: pa.Schema) -> pa.Schema:
    for name, kind in (("layer", pa.string()), ("metric", pa.string()), ("pose", pa.string()), ("gallery", pa.int64())):
        schema = schema.append(pa.field(name, kind))
    return schema


def _worth(
    evidence: Evidence, found: Neighbours, gallery: Sequence[str], k: int
) -> tuple[list[Finding], pa.Table | None]:
    """Say how often the nearest cases share the query's label, and the batch where the study names one."""
    group = dict(zip(gallery, evidence.groups(gallery), strict=True))
    columns: dict[str, dict[str, float]] = {}
    if evidence.images.labels is not None:
        columns["label"] = dict(zip(gallery, map(float, evidence.images.label(gallery)), strict=True))
    if evidence.batch is not None:
        told = [str(value) for value in evidence.images.column(evidence.batch, gallery)]
        number = {name: float(place) for place, name in enumerate(sorted(set(told)))}
        columns[evidence.batch] = {name: number[value] for name, value in zip(gallery, told, strict=True)}
    rows: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for name, values in columns.items():
        share = found.precision(values, k, groups=group)
        rows.append({"shared": name, "k": k, "precision": share.value.value, "low": share.value.low, "high": share.value.high,
                     "chance": share.chance, "queries": share.value.n})  # fmt: skip
        findings.append(_finding(found, name, rows[-1]))
    return findings, pa.Table.from_pylist(rows) if rows else None


def _finding(found: Neighbours, name: str, row: dict[str, Any]) -> Finding:
    strange = len(found.without_close_case)
    above = row["low"] > row["chance"]
    said = f"share its {name}" if above else f"share its {name} no more often than chance"
    return Finding(
        id=f"neighbours-{name}",
        kind="interpretation",
        subject=name,
        statement=f"Of the {row['k']} cases that the model holds most alike to an image, {100 * row['precision']:.0f} % {said}.",
        evidence=f"95 % interval {row['low']:.2f} to {row['high']:.2f}, chance {row['chance']:.2f}, {row['queries']} queries; layer "
        f"distances ({found.metric}, {found.pose}), a query's own group left out; {strange} queries have no close case.",
        value=row["precision"],
        low=row["low"],
        high=row["high"],
        verdict="supported" if above else "undecided",
    )


def _similarity(
    evidence: Evidence, asked: ExamplesConfig, layer: str, rows: Sequence[dict[str, Any]], queries: Sequence[str]
) -> pa.Table | None:
    """Explain the likeness of queries and their nearest case of the called class, by one method that can."""
    pairs = {row["image"]: row["neighbour"] for row in rows if row["relation"] == "same" and row["rank"] == 1}
    found: list[dict[str, Any]] = []
    for query, other in ((name, pairs[name]) for name in queries if name in pairs):
        first, second = evidence.images.tensor([query, other])
        for text in dict.fromkeys(text for text in (asked.method, *_able(evidence), _CHEAP) if text):
            try:
                maps = explain_similarity(
                    evidence.model, first, second, text, layer=layer, ids=(query, other), seed=evidence.seed,
                    batch_size=evidence.batch_size,
                )  # fmt: skip
            except PellucidError:
                if text == asked.method:  # what was asked for by name is not put in the place of another's
                    raise
                continue
            values = [one.tensors[0].double().sum(1)[0] for one in maps]
            found.append({"image": query, "neighbour": other, "method": text, "shape": list(values[0].shape),
                          "likeness": float(maps[0].output[0]), "first": values[0].flatten().tolist(),
                          "second": values[1].flatten().tolist()})  # fmt: skip
            break
    return pa.Table.from_pylist(found) if found else None


def _able(evidence: Evidence) -> list[str]:
    """Return the study's methods that give a map at the image's grid for any target, in their order."""
    families = {"gradient", "path", "perturbation"}
    return [text for text in evidence.judged if METHODS.parse(text).taxonomy.family in families][:2]
