"""Does the model read the background? Objects are moved to other backgrounds and the call is watched.

Each object is put on the background of an image of another class and, as the null, on that of another image of its own
class: both are composites with the same seams, so what differs between them is what the background says of the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from scipy import ndimage
from torch import Tensor

from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import Interval, mean_interval
from pellucid.measure import swap_background

__all__ = ["find_background_use"]

LEAST_CASES = 20
"""Fewer labelled and outlined images than this give no verdict."""

MATTERS = 0.05
"""Share of probability that the background must move, by the interval's lower end, before it is called used."""

BLOCKS = 8
"""The background is searched in a grid of this many blocks an axis."""


@dataclass(frozen=True)
class Swap:
    """One object on two foreign backgrounds: one of another class, one (the null) of its own."""

    case: Case
    donor: Case
    other: Tensor
    same: Tensor


def _grown(outline: Tensor) -> Tensor:
    """Return the outline with a rim of about 2 % of the short side, so that the object's edge stays with the object."""
    steps = max(1, round(0.02 * min(outline.shape)))
    return torch.from_numpy(ndimage.binary_dilation(outline.numpy(), iterations=steps))


def _moved(case: Case, donor: Case, random: np.random.Generator) -> Tensor:
    grain = torch.Generator().manual_seed(int(random.integers(2**31)))
    return swap_background(case.image, _grown(case.outline), donor.image, _grown(donor.outline), generator=grain).image


def _donor(pool: Sequence[Case], case: Case, random: np.random.Generator) -> Case | None:
    """Return another image of the pool, from another group where there is one."""
    others = [other for other in pool if other.id != case.id]
    apart = [other for other in others if other.group != case.group] or others
    return apart[random.integers(len(apart))] if apart else None


def _swaps(cases: Sequence[Case], random: np.random.Generator, donors: int) -> list[Swap]:
    by_class: dict[int, list[Case]] = {}
    for case in cases:
        by_class.setdefault(case.label, []).append(case)
    made = []
    for case in cases:
        null = _donor(by_class[case.label], case, random)
        if null is None:
            continue
        same = _moved(case, null, random)
        others = sorted(set(by_class) - {case.label})
        for label in random.permutation(others)[:donors]:
            donor = _donor(by_class[int(label)], case, random)
            if donor is not None:
                made.append(Swap(case, donor, _moved(case, donor, random), same))
    return made


def _pull(evidence: Evidence, swaps: Sequence[Swap], other: Tensor, same: Tensor) -> np.ndarray:
    """Return the share of probability that goes from the object's class to the background's, one a swap."""
    own = torch.tensor([swap.case.label for swap in swaps])
    foreign = torch.tensor([swap.donor.label for swap in swaps])
    rows = torch.arange(len(swaps))
    on_other, on_same = evidence.probabilities(other), evidence.probabilities(same)
    lost = on_same[rows, own] - on_other[rows, own]
    gained = on_other[rows, foreign] - on_same[rows, foreign]
    return ((lost + gained) / 2).numpy()


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
        A ``shortcut`` where the interval of the pull lies above `MATTERS`, with where in the background it sits; a
        ``confounder`` where that class also shares no group with the others; ``refused`` where it cannot be tested.
    table
        One row a swap: image, class, donor, donor_class, group, pull.
    """
    cases = evidence.cases(most)
    if len(cases) < LEAST_CASES or len({case.label for case in cases}) < 2:
        return [_untested(evidence, len(cases))], pa.table({})
    swaps = _swaps(cases, evidence.random("background"), donors)
    other, same = torch.stack([swap.other for swap in swaps]), torch.stack([swap.same for swap in swaps])
    pull = _pull(evidence, swaps, other, same)
    classes = evidence.images.classes
    table = pa.table({
        "image": [swap.case.id for swap in swaps],
        "class": [classes[swap.case.label] for swap in swaps],
        "donor": [swap.donor.id for swap in swaps],
        "donor_class": [classes[swap.donor.label] for swap in swaps],
        "group": [swap.case.group for swap in swaps],
        "pull": pull.tolist(),
    })  # fmt: skip
    findings = []
    for subject, rows in _subjects(swaps, classes):
        interval = mean_interval(pull[rows], groups=[swaps[row].case.group for row in rows], seed=evidence.seed)
        if interval.low > MATTERS:
            findings.append((interval, subject, rows))
    return [_named(evidence, swaps, pull, found) for found in _strongest(findings)], table


def _subjects(swaps: Sequence[Swap], classes: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Return the whole set, and each class with the swaps that it takes part in."""
    every = np.arange(len(swaps))
    parts = [("all classes", every)]
    if len(classes) > 2:
        for label, name in enumerate(classes):
            rows = np.array(
                [row for row, swap in enumerate(swaps) if label in {swap.case.label, swap.donor.label}],
                dtype=int,
            )
            if len(rows) >= LEAST_CASES:
                parts.append((name, rows))
    return parts


def _strongest(findings: list[tuple[Interval, str, np.ndarray]]) -> list[tuple[Interval, str, np.ndarray]]:
    """Keep the whole set, and of the classes those that are pulled more than all together."""
    whole = [found for found in findings if found[1] == "all classes"]
    level = whole[0][0].value if whole else 0.0
    parts = sorted((found for found in findings if found[1] != "all classes" and found[0].low > level),
                   key=lambda found: -found[0].value)  # fmt: skip
    return whole + parts


def _named(
    evidence: Evidence, swaps: Sequence[Swap], pull: np.ndarray, found: tuple[Interval, str, np.ndarray]
) -> Finding:
    interval, subject, rows = found
    strong = sorted(rows, key=lambda row: -pull[row])[:40]
    where = _where(evidence, [swaps[row] for row in strong])
    whose = "" if subject == "all classes" else f" for class {subject}"
    return Finding(
        id=f"background-{subject.replace(' ', '-')}",
        kind="shortcut",
        subject="background" if subject == "all classes" else f"background of {subject}",
        statement=f"The background is being used{whose}: with the object unchanged, the background of another class moves "
        f"{100 * interval.value:.0f} % of the probability to that class; {where}.",
        evidence=f"{interval.n} objects moved to the background of another class, each against a move to another background of "
        f"its own class (the null); background is all but {evidence.outlined}; mean pull {interval}, 95 % interval from {interval.groups} groups.",
        value=interval.value,
        low=interval.low,
        high=interval.high,
    )


def _where(evidence: Evidence, swaps: Sequence[Swap]) -> str:
    """Say where in the background it sits: a place that all images share, or the whole of it."""
    other, same = torch.stack([swap.other for swap in swaps]), torch.stack([swap.same for swap in swaps])
    whole = float(_pull(evidence, swaps, other, same).mean())
    tinted = float(_pull(evidence, swaps, _tinted(swaps), same).mean())
    effects = _block_effects(evidence, swaps, other, same)
    positive = effects.clip(min=0)
    top = np.unravel_index(positive.argmax(), positive.shape)
    near = positive[tuple(slice(max(0, place - 1), place + 2) for place in top)].sum() / max(positive.sum(), 1e-12)
    place = ", ".join(f"{axis} {100 * (index + 0.5) / size:.0f} %" for axis, index, size in
                      zip(evidence.images.record.spatial, top, positive.shape, strict=True))  # fmt: skip
    colour = f"its mean colour alone carries {100 * np.clip(tinted / max(whole, 1e-12), 0, 1):.0f} % of that"
    if near > 0.5 and positive.max() > 0.25 * whole:
        return f"most of it sits in one place, at {place} of the image ({colour})"
    return f"it is spread over the background ({colour})"


def _tinted(swaps: Sequence[Swap]) -> Tensor:
    """Return the null composites with the background's mean colour of the other ones."""
    images = []
    for swap in swaps:
        outside = ~_grown(swap.case.outline)
        shift = (swap.other[:, outside].mean(1) - swap.same[:, outside].mean(1)).view(-1, *[1] * outside.ndim)
        images.append(torch.where(outside, swap.same + shift, swap.same))
    return torch.stack(images)


def _block_effects(evidence: Evidence, swaps: Sequence[Swap], other: Tensor, same: Tensor) -> np.ndarray:
    """Return the mean pull of each block when only that block is taken from the other background."""
    shape = tuple(same.shape[2:])
    grid = tuple(min(BLOCKS, size) for size in shape)
    effects = np.zeros(grid)
    for place in np.ndindex(*grid):
        block = tuple(slice(size * index // parts, size * (index + 1) // parts)
                      for size, index, parts in zip(shape, place, grid, strict=True))  # fmt: skip
        mixed = same.clone()
        mixed[(slice(None), slice(None), *block)] = other[(slice(None), slice(None), *block)]
        effects[place] = _pull(evidence, swaps, mixed, same).mean()
    return effects


def _untested(evidence: Evidence, cases: int) -> Finding:
    reason = f"{cases} labelled images have an outline of {evidence.outlined}"
    return Finding(
        id="background-untested",
        kind="refused",
        subject="background",
        statement="Whether the background is being used was not tested.",
        evidence=f"Moving objects to other backgrounds needs {LEAST_CASES} labelled, outlined images of two classes; {reason}.",
        verdict="undecided",
    )
