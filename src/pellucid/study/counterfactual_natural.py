"""The nearest real case of another class: what a counterfactual looks like when nothing is generated."""

from collections.abc import Sequence
from math import prod
from typing import Any

import pyarrow as pa
from torch import Tensor

from pellucid.counterfactual import Space, embedding_space, natural_counterfactuals, pixel_space
from pellucid.counterfactual.engines.natural import SCHEMA
from pellucid.interpretation import Evidence
from pellucid.models import Passes
from pellucid.study.counterfactual_search import called, in_order, readable

__all__ = ["NATURAL", "natural_cases"]

_MOST = 300
"""Images of a class among which a case is looked for, at most."""

_VALUES = 2**25
"""Numbers of all these images together, at most: an eighth of a GiB."""

NATURAL = pa.schema([
    ("source", pa.string()), ("target", pa.string()), *SCHEMA, ("confidence", pa.float64()),
    ("counterfactual_confidence", pa.float64()), ("among", pa.int64()),
])  # fmt: skip
"""Of `natural_counterfactuals`, with the classes by name, how sure the model is of its answer to either image, and among
how many images that it calls the target the nearest was looked for."""


def natural_cases(evidence: Evidence, pairs: Sequence[tuple[str, str]]) -> pa.Table:
    """Find, for every explained image of each pair's first class, the nearest real image that the model calls the second.

    Alike is what the model's embedding hardly tells apart; for a model without one, what overlaps in pixels. Images of the
    same group are passed over. Explained images come first, then the others in a fixed order, up to 300 of a class.

    Parameters
    ----------
    evidence
        The study's model, images and predictions.
    pairs
        Classes to go from and to, by name.

    Returns
    -------
    pyarrow.Table
        See `NATURAL`; one row an explained image and target.
    """
    answers, classes = called(evidence), evidence.images.classes
    numbers = {classes.index(name) for pair in pairs for name in pair}
    chosen = _gallery(evidence, answers, numbers)
    if len(chosen) < 2:
        return NATURAL.empty_table()
    images, names = readable(evidence, chosen)
    if len(names) < 2:
        return NATURAL.empty_table()
    space, explained = _space(evidence, images), set(evidence.ids)
    sure = dict(
        zip(evidence.predictions["image"].to_pylist(), evidence.predictions["confidence"].to_pylist(), strict=True)
    )
    rows: list[dict[str, Any]] = []
    for source, target in pairs:
        own, other = classes.index(source), classes.index(target)
        asked = [name for name in names if name in explained and answers[name] == own]
        among = sum(answers[name] == other for name in names)
        told = {"source": source, "target": target, "among": among}
        if among:
            table = natural_counterfactuals(
                space, [answers[name] for name in names], names, groups=evidence.groups(names), of=asked, target=other,
                progress=evidence.progress,
            )  # fmt: skip
            rows += [told | row | _sure(row, sure) for row in table.to_pylist()]
        else:
            why = f"the model calls none of the {len(names)} images {target}"
            rows += [told | {"image": name, "called": own, "space": space.name, "rank": 1, "confidence": sure[name],
                             "reason": why} for name in asked]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=NATURAL)


def _gallery(evidence: Evidence, answers: dict[str, int], numbers: set[int]) -> list[str]:
    """Return the images among which to look: of each class the explained ones first, then others by the hash of their ids."""
    most = min(_MOST, max(1, _VALUES // (prod(evidence.images.shape) * len(numbers))))
    explained = set(evidence.ids)
    members: dict[int, list[str]] = {number: [] for number in sorted(numbers)}
    for name, number in answers.items():
        if number in members:
            members[number].append(name)
    return [
        name
        for own in members.values()
        for name in sorted(in_order(evidence, own), key=lambda name: name not in explained)[:most]
    ]


def _space(evidence: Evidence, images: Tensor) -> Space:
    if evidence.model.embedding is None:
        return pixel_space(images)
    with Passes(evidence.model, batch_size=evidence.batch_size) as passes:
        return embedding_space(passes, images)


def _sure(row: dict[str, Any], sure: dict[str, float]) -> dict[str, Any]:
    nearest = row["counterfactual"]
    return {
        "confidence": sure[row["image"]],
        "counterfactual_confidence": None if nearest is None else sure[nearest],
    }
