"""Does the model read the background? Objects are moved to other backgrounds and the call is watched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.swaps import Swap, composed, grown, plan_swaps, pulled
from pellucid.intervals import Interval, mean_interval

__all__ = ["find_background_use", "untested_background"]

LEAST_CASES = 20
"""Fewer labelled and outlined images than this give no verdict."""

MATTERS = 0.05
"""Share of probability that the background must move, by the interval's lower end, before it is called used."""

BLOCKS = {1: 16, 2: 8, 3: 4, 4: 3}
"""The background is searched in a grid of this many blocks an axis, by the number of axes."""

STRONGEST = 40
"""Swaps in which it is searched."""

_EVERY = "all classes"
_SLAB = 32

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Use:
    """How far backgrounds pull the call, over the swaps of one subject."""

    subject: str
    rows: NDArray[np.int64]
    interval: Interval


def find_background_use(evidence: Evidence, *, most: int = 160, donors: int = 2) -> tuple[list[Finding], pa.Table]:
    """Test whether the background, apart from the object, moves the model's call.

    Parameters
    ----------
    evidence
        Needs labels and an object mask.
    most
        Images to test at most.
    donors
        Other classes that each object is moved to at most.

    Returns
    -------
    findings
        A ``shortcut`` where the interval of the pull lies above `MATTERS`, with where in the background it sits;
        ``refused`` where it cannot be tested.
    table
        One row a swap: image, class, donor, donor_class, group, pull.
    """
    cases = evidence.cases(most)
    reason = _lacking(evidence, cases)
    if reason:
        return [untested_background(reason)], pa.table({})
    swaps, pull = _swapped(evidence, plan_swaps(cases, evidence.random("background"), donors))
    moved = len({swap.case.id for swap in swaps})
    if moved < LEAST_CASES:
        return [untested_background(f"only {moved} objects leave room for another background")], pa.table({})
    classes = evidence.images.classes
    table = pa.table({
        "image": [swap.case.id for swap in swaps],
        "class": [classes[swap.case.label] for swap in swaps],
        "donor": [swap.donor.id for swap in swaps],
        "donor_class": [classes[swap.donor.label] for swap in swaps],
        "group": [swap.case.group for swap in swaps],
        "pull": pull.tolist(),
    })  # fmt: skip
    uses = [_use(evidence, swaps, pull, subject, rows) for subject, rows in _subjects(swaps, classes)]
    return [_named(evidence, swaps, pull, use) for use in _strongest(uses)], table


def _lacking(evidence: Evidence, cases: Sequence[Case]) -> str:
    """Say what is missing for a test, or ""."""
    if len(cases) < LEAST_CASES:
        return f"{len(cases)} labelled images have an outline of {evidence.outlined}"
    labels = [case.label for case in cases]
    if sum(labels.count(label) > 1 for label in set(labels)) < 2:
        return "fewer than two classes have two images or more"
    if len({case.group for case in cases}) < 2:
        return f"all {len(cases)} images come from one {evidence.group}"
    return ""


def untested_background(reason: str) -> Finding:
    """Return the finding that says why nothing can be said."""
    return Finding(
        id="background-untested",
        kind="refused",
        subject="background",
        statement="Whether the background is being used was not tested.",
        evidence="Moving objects to other backgrounds needs a classifier and "
        f"{LEAST_CASES} labelled, outlined images of two classes and two groups; {reason}.",
        verdict="undecided",
    )


def _swapped(evidence: Evidence, planned: Sequence[Swap]) -> tuple[list[Swap], Array]:
    """Return the swaps that can be made and their pulls; a slab of images is in memory at a time."""
    made: list[Swap] = []
    pulls: list[Array] = []
    slabs = range(0, len(planned), _SLAB)
    for start in track(slabs, "swapping backgrounds", transient=True, disable=not evidence.progress):
        swaps, other, same = composed(planned[start : start + _SLAB])
        if swaps:
            made += swaps
            pulls.append(pulled(evidence, swaps, other, evidence.probabilities(same)))
    return made, np.concatenate([np.zeros(0), *pulls])


def _subjects(swaps: Sequence[Swap], classes: Sequence[str]) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the whole set, and each class with the swaps that it takes part in."""
    sides = np.array([(swap.case.label, swap.donor.label) for swap in swaps])
    parts = [(_EVERY, np.arange(len(swaps)))]
    if len(np.unique(sides)) > 2:
        parts += [(name, np.flatnonzero((sides == label).any(1))) for label, name in enumerate(classes)]
    return [(subject, rows) for subject, rows in parts if len(rows) >= LEAST_CASES]


def _use(evidence: Evidence, swaps: Sequence[Swap], pull: Array, subject: str, rows: NDArray[np.int64]) -> _Use:
    groups = [swaps[row].case.group for row in rows]
    return _Use(subject, rows, mean_interval(pull[rows], groups=groups, bounds=(-1.0, 1.0), seed=evidence.seed))


def _strongest(uses: Sequence[_Use]) -> list[_Use]:
    """Keep, of the uses that matter, the whole set and those classes that are pulled more than all together."""
    matter = [use for use in uses if use.interval.low > MATTERS]
    whole = [use for use in matter if use.subject == _EVERY]
    level = whole[0].interval.value if whole else 0.0
    parts = [use for use in matter if use.subject != _EVERY and use.interval.low > level]
    return whole + sorted(parts, key=lambda use: -use.interval.value)


def _named(evidence: Evidence, swaps: Sequence[Swap], pull: Array, use: _Use) -> Finding:
    found, whole = use.interval, use.subject == _EVERY
    strong = sorted(use.rows, key=lambda row: -pull[row])[:STRONGEST]
    where = _where(evidence, [swaps[row] for row in strong])
    objects = len({swaps[row].case.id for row in use.rows})
    aside = "" if evidence.object_mask is not None else f" (all but {evidence.outlined})"
    return Finding(
        id=f"background-{use.subject.replace(' ', '-')}",
        kind="shortcut",
        subject="background" if whole else f"background of {use.subject}",
        statement=f"The background{aside} is being used{'' if whole else f' for class {use.subject}'}: with the object unchanged, "
        f"the background of another class moves {100 * found.value:.0f} % of the probability to that class; {where}.",
        evidence=f"{objects} objects in {found.n} moves to the background of another class, each against a move to another "
        f"background of its own class (the null); background is all but {evidence.outlined}; mean pull {found}, 95 % interval "
        f"from {found.groups} groups.",
        value=found.value,
        low=found.low,
        high=found.high,
    )


def _where(evidence: Evidence, strong: Sequence[Swap]) -> str:
    """Say where in the background it sits: a place that all images share, or the whole of it.

    A place holds it when taking that place alone from the other background moves more than half as much as taking all
    of it does, and taking all but that place less than half.
    """
    swaps, other, same = composed(strong)
    on_same = evidence.probabilities(same)

    def pull(images: Tensor) -> float:
        return float(pulled(evidence, swaps, images, on_same).mean())

    whole = max(pull(other), 1e-12)
    window, place = _strongest_place(evidence, same.shape[2:], lambda block: pull(torch.where(block, other, same)))
    there, elsewhere = pull(torch.where(window, other, same)) / whole, pull(torch.where(window, same, other)) / whole
    colour = f"the background's mean colour alone carries {_percent(pull(_tinted(swaps, other, same)) / whole)} of that"
    if there > 0.5 > elsewhere:
        return f"most of it sits in one place, at {place} of the image, which alone carries {_percent(there)} of that ({colour})"
    return f"it is spread over the background ({colour})"


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.0f} %"


def _strongest_place(evidence: Evidence, shape: Sequence[int], pull: Callable[[Tensor], float]) -> tuple[Tensor, str]:
    """Return the block that pulls most when it is taken alone, with its neighbours, and where it is in words."""
    grid = tuple(min(BLOCKS[len(shape)], size) for size in shape)

    def block(low: Sequence[int], high: Sequence[int]) -> Tensor:
        mask = torch.zeros(tuple(shape), dtype=torch.bool)
        mask[tuple(slice(size * start // parts, size * stop // parts)
                   for size, start, stop, parts in zip(shape, low, high, grid, strict=True))] = True  # fmt: skip
        return mask

    places = list(np.ndindex(*grid))
    searched = track(places, "searching the background", transient=True, disable=not evidence.progress)
    effects = [pull(block(place, [index + 1 for index in place])) for place in searched]
    top = places[int(np.argmax(effects))]
    window = block(
        [max(0, index - 1) for index in top], [min(parts, index + 2) for index, parts in zip(top, grid, strict=True)]
    )
    return window, ", ".join(f"{axis} {100 * (index + 0.5) / parts:.0f} %" for axis, index, parts in
                             zip(evidence.images.record.spatial, top, grid, strict=True))  # fmt: skip


def _tinted(swaps: Sequence[Swap], other: Tensor, same: Tensor) -> Tensor:
    """Return the null composites with the background's mean colour of the other ones."""
    images = []
    for swap, foreign, own in zip(swaps, other, same, strict=True):
        outside = ~grown(swap.case.outline)
        shift = (foreign[:, outside].mean(1) - own[:, outside].mean(1)).view(-1, *[1] * outside.ndim)
        images.append(torch.where(outside, own + shift, own))
    return torch.stack(images)
