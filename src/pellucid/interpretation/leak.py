"""What a hole gives away: a removed place still tells the class by its outline, so that removal can look harmless.

Greying out what an expert marked leaves its place, size and shape in the picture. How far these alone tell the class is
measured without the model; what the model loses is then measured under holes that tell less and fills that look like tissue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from torch import Tensor

from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import Interval, mean_interval, or_null
from pellucid.measure.surface import fill_hole

__all__ = ["HOLES", "LEAK", "find_leak"]

Mask = NDArray[np.bool_]

LEAK = pa.schema(
    [
        pa.field("hole", pa.string(), nullable=False),
        pa.field("outline", pa.float64()),
        pa.field("outline_low", pa.float64()),
        pa.field("outline_high", pa.float64()),
        pa.field("chance", pa.float64()),
        pa.field("fill", pa.string(), nullable=False),
        pa.field("drop", pa.float64()),
        pa.field("drop_low", pa.float64()),
        pa.field("drop_high", pa.float64()),
        pa.field("kept", pa.int64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
    ]
)
"""One line a hole and fill: balanced accuracy of the class from the hole's outline alone; drop of the called class's
log-odds; how many of `n` calls stay."""

LEAST = 8
"""Marked images that a class must have, and classes two."""

_JOINED = 3
_FOLDS = 4


@dataclass(frozen=True)
class _Marked:
    """One image with what an expert marked on it."""

    id: str
    label: int
    called: int
    group: str
    mask: Mask


def find_leak(evidence: Evidence, mask: str, *, most: int = 160) -> tuple[list[Finding], pa.Table]:
    """Say how far the outline of a removed place tells the class, and what removal costs the model under other holes.

    Parameters
    ----------
    evidence
        Needs labels.
    mask
        The expert's mask that removal would follow.
    most
        Images to use at most.

    Returns
    -------
    findings
        One of kind ``leak`` (supported, or refuted where the outline is no better than chance); none with fewer than two
        classes of `LEAST` marked images.
    table
        Columns of `LEAK`.
    """
    cases = _marked(evidence, mask, most)
    if not cases:
        return [], LEAK.empty_table()
    random = evidence.random("holes")
    lines, told = [], {}
    for hole, make in HOLES.items():
        holes = [make(case.mask, _others(cases, place, random)) for place, case in enumerate(cases)]
        told[hole] = _outline(cases, holes, evidence.seed)
        lines += [_line(evidence, cases, holes, hole, fill, told[hole]) for fill in _FILLS]
    table = pa.Table.from_pylist(lines, schema=LEAK)
    return [_finding(cases, mask, told, lines)], table


def _marked(evidence: Evidence, name: str, most: int) -> list[_Marked]:
    """Return marked images of classes that have enough of them, classes as they come."""
    if evidence.images.labels is None or name not in evidence.images.masks:
        return []
    rows = [row for row in evidence.predictions.to_pylist() if row["label"] is not None]
    found = []
    for row in rows[:: max(1, len(rows) // (2 * most))]:
        mask = evidence.images.mask(name, [row["image"]])[0]
        inside = None if mask is None else mask.numpy() != 0
        if inside is not None and inside.any() and inside.mean() < 0.5 and not _box(inside, ()).all():
            group = evidence.groups([row["image"]])[0]
            found.append(_Marked(row["image"], int(row["label"]), int(row["predicted"]), group, inside))
    found = found[:most]
    labels = [case.label for case in found]
    kept = [case for case in found if labels.count(case.label) >= LEAST]
    return kept if len({case.label for case in kept}) > 1 else []


def _others(cases: Sequence[_Marked], place: int, random: np.random.Generator) -> list[Mask]:
    """Return the marks of other images, drawn whatever their class."""
    free = [other for other in range(len(cases)) if other != place]
    return [cases[other].mask for other in random.choice(free, size=_JOINED, replace=False)]


def _box(mask: Mask, _others: Sequence[Mask]) -> Mask:
    filled = np.zeros_like(mask)
    filled[ndimage.find_objects(mask.astype(int))[0]] = True
    return filled


HOLES: dict[str, Callable[[Mask, Sequence[Mask]], Mask]] = {
    "its own shape": lambda mask, others: mask,  # noqa: ARG005  # one signature for all holes
    "its box": _box,
    f"its shape joined with {_JOINED} others'": lambda mask, others: np.logical_or.reduce([mask, *others]),
}
"""Holes by name, of a mark and the marks of other images, from the most telling to the least."""


def _grey(image: NDArray[np.float64], hole: Mask) -> NDArray[np.float64]:
    mean = image.reshape(len(image), -1).mean(1)
    return np.where(hole, mean.reshape(-1, *[1] * hole.ndim), image)


_FILLS: dict[str, Callable[[NDArray[np.float64], Mask], NDArray[np.float64]]] = {
    "greyed out": _grey,
    "in-painted": fill_hole,
}


def _shape(hole: Mask) -> list[float]:
    """Return size, place and form of a hole."""
    spots = np.argwhere(hole) / np.array(hole.shape)
    extent = np.ptp(spots, axis=0) + 1 / np.array(hole.shape)
    parts = ndimage.label(hole)[1]
    return [
        float(hole.mean()),
        *spots.mean(0),
        *spots.std(0),
        *extent,
        float(hole.mean() / extent.prod()),
        float(parts),
    ]


def _outline(cases: Sequence[_Marked], holes: Sequence[Mask], seed: int) -> tuple[Interval, float]:
    """Return the balanced accuracy of the class from the outlines alone, out of sample, and chance."""
    shapes, labels = np.array([_shape(hole) for hole in holes]), np.array([case.label for case in cases])
    groups = [case.group for case in cases]
    spread = all(
        len({group for group, label in zip(groups, labels, strict=True) if label == one}) >= _FOLDS
        for one in set(labels)
    )
    fold = StratifiedGroupKFold if spread else StratifiedKFold
    folds = list(fold(_FOLDS, shuffle=True, random_state=seed).split(shapes, labels, groups if spread else None))
    forest = RandomForestClassifier(200, class_weight="balanced", min_samples_leaf=2, random_state=seed)
    right = cross_val_predict(forest, shapes, labels, cv=folds) == labels
    counts = {label: int((labels == label).sum()) for label in set(labels)}
    weighed = [hit * len(labels) / (len(counts) * counts[label]) for hit, label in zip(right, labels, strict=True)]
    return mean_interval(weighed, groups=groups, bounds=(0.0, 1.0), seed=seed), 1 / len(counts)


def _line(
    evidence: Evidence,
    cases: Sequence[_Marked],
    holes: Sequence[Mask],
    hole: str,
    fill: str,
    told: tuple[Interval, float],
) -> dict[str, object]:
    images = evidence.images.tensor([case.id for case in cases])
    hidden = torch.stack([_hidden(image, gap, fill) for image, gap in zip(images, holes, strict=True)])
    called = torch.tensor([case.called for case in cases])
    before, after = evidence.log_odds(images, called), evidence.log_odds(hidden, called)
    drop = mean_interval((before - after).numpy(), groups=[case.group for case in cases], seed=evidence.seed)
    stays = evidence.logits(hidden).argmax(1) == called
    accuracy, chance = told
    return {
        "hole": hole, "outline": accuracy.value, "outline_low": or_null(accuracy.low), "outline_high": or_null(accuracy.high),
        "chance": chance, "fill": fill, "drop": drop.value, "drop_low": or_null(drop.low), "drop_high": or_null(drop.high),
        "kept": int(stays.sum()), "n": len(cases),
    }  # fmt: skip


def _hidden(image: Tensor, hole: Mask, fill: str) -> Tensor:
    return torch.from_numpy(_FILLS[fill](image.double().numpy(), hole)).float()


def _finding(
    cases: Sequence[_Marked], mask: str, told: dict[str, tuple[Interval, float]], lines: Sequence[dict[str, object]]
) -> Finding:
    own, chance = next(iter(told.values()))
    joined, _ = list(told.values())[-1]
    leaks = own.low > chance
    verb = "predicts" if leaks else "is not shown to predict"
    kept = "; ".join(f"{line['hole']} {line['fill']}: {line['kept']}/{line['n']}" for line in lines)
    return Finding(
        id=f"leak-{mask}", kind="leak", subject=mask,
        statement=f"Removal by the shape of {mask} {'leaks' if leaks else 'is not shown to leak'}: the outline alone {verb} the "
        f"class (balanced accuracy {own.value:.2f}, chance {chance:.2f}).",
        evidence=f"Size, place and form of the hole, {len(cases)} marked held-out images, out of sample: {own}; of its shape "
        f"joined with {_JOINED} others' drawn whatever their class: {joined}. Calls of the model that stay: {kept}.",
        value=own.value, low=or_null(own.low), high=or_null(own.high), verdict="supported" if leaks else "refuted",
    )  # fmt: skip
