"""Which images are asked what would have to change, of which pairs of classes, and the search of one pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from pellucid.counterfactual import Counterfactuals, FittedGenerator, GateVerdict, counterfactual
from pellucid.errors import BadImage, BadStudy, CannotExplain
from pellucid.hashing import hash_key
from pellucid.interpretation import Evidence
from pellucid.study.questions import CounterfactualConfig

__all__ = ["Sought", "called", "class_pairs", "in_order", "in_turn", "readable", "sought"]


@dataclass(frozen=True)
class Sought:
    """The counterfactuals of one pair of classes."""

    source: str
    target: str
    found: Counterfactuals

    @property
    def valid(self) -> list[int]:
        """Rows whose counterfactual is one."""
        return [row for row, status in enumerate(self.found.status) if status == "reached"]


def class_pairs(config: CounterfactualConfig, evidence: Evidence) -> list[tuple[str, str]]:
    """Return the classes to go from and to, by name.

    Raises
    ------
    CannotExplain
        When the model is no classifier.
    BadStudy
        When a pair names no class of the model.
    """
    classes, model = evidence.images.classes, evidence.model
    if model.task not in {None, "classification"} or len(classes) < 2:
        raise CannotExplain(
            "[counterfactual] moves images between classes, and this model is no classifier of two or more"
        )
    if config.pairs == "all":
        return [(source, target) for source in classes for target in classes if source != target]
    for name in {name for pair in config.pairs for name in pair}:
        if name not in classes:
            raise BadStudy(f"counterfactual.pairs names no class {name!r}; the model has {', '.join(classes)}")
    return [(source, target) for source, target in config.pairs]


def in_order(evidence: Evidence, ids: Sequence[str]) -> list[str]:
    """Return ids in the order of a hash, from which the first are taken."""
    return sorted(ids, key=lambda name: hash_key(evidence.seed, "counterfactual", name))


def in_turn(rows: Sequence[Mapping[str, Any]], places: Sequence[int], most: int) -> list[int]:
    """Return up to `most` of some places of a table's rows, the pairs of classes in turn, in the order of the table."""
    rank: dict[tuple[str, str], int] = {}
    turns = []
    for place in places:
        pair = (rows[place]["source"], rows[place]["target"])
        turns.append((rank.setdefault(pair, 0), place))
        rank[pair] += 1
    return sorted(place for _, place in sorted(turns)[:most])


def called(evidence: Evidence) -> dict[str, int]:
    """Return the class number that the model gives to each predicted image."""
    predictions = evidence.predictions
    return dict(zip(predictions["image"].to_pylist(), predictions["predicted"].to_pylist(), strict=True))


def readable(evidence: Evidence, ids: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the images that can be read; those that cannot are told where they were first met."""
    tensors, names = [], []
    for name in track(ids, "reading images", transient=True, disable=not evidence.progress):
        try:
            tensors.append(evidence.images.load(name))
        except BadImage:
            continue
        names.append(name)
    if not tensors:
        raise BadStudy(f"[counterfactual]: none of {len(ids)} images can be read")
    return torch.stack(tensors), names


def sought(
    evidence: Evidence,
    config: CounterfactualConfig,
    fitted: FittedGenerator,
    verdict: GateVerdict,
    answers: Mapping[str, int],
    pair: tuple[str, str],
) -> Sought | None:
    """Search for the counterfactuals of one pair, in the explained images that the model's `answers` put in its first class."""
    source, target = pair
    number = evidence.images.classes.index(source)
    ids = [name for name in in_order(evidence, evidence.ids) if answers.get(name) == number][: config.images]
    if not ids:
        return None
    x, names = readable(evidence, ids)
    found = counterfactual(
        evidence.model, x, generator=fitted, gate=verdict, target=evidence.images.classes.index(target), search=config.search,
        ids=names, seed=evidence.seed, batch_size=evidence.batch_size,
    )  # fmt: skip
    return Sought(source, target, found)
