"""Where a batch that is tied to classes reaches the model: by the colour of the background, the edge or the object.

Two facts are needed of each region: its mean colour gives the batch away, and giving the region the mean colour of
another batch, all else unchanged, moves the call to the classes of that batch. The null gives it the colour of another
image of its own batch. A background without a trace of the batch says nothing of the object's own colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.interpretation.batches import REGIONS, Batches, batch_probe, find_batches, mean_colour, region_of
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.swaps import donor_for
from pellucid.intervals import Interval, mean_interval

__all__ = ["find_batch_colour", "untested_batch"]

LEAST_CASES = 12
"""A batch of fewer labelled, outlined images, or of a single group, is left out."""

MATTERS = 0.05
"""Share of probability that a colour must move, by the interval's lower end, before it is called used."""

TIED = 0.1
"""Batches that classes are shared out over more evenly than this cannot betray the class."""

Array = NDArray[np.float64]

_WORDS = {
    "inside": "the object's own colour",
    "rim": "the colour of the object's edge",
    "outside": "the background's colour",
}


@dataclass(frozen=True)
class _Pair:
    """One object, an image of another batch (the donor) and, as the null, one of its own."""

    case: Case
    donor: Case
    null: Case
    tie: Array


@dataclass(frozen=True)
class _Region:
    """What one region says of the batch, and what the model makes of it."""

    region: str
    accuracy: Interval
    chance: float
    pull: Interval
    away: float

    @property
    def readable(self) -> bool:
        """Whether its colour gives the batch away."""
        return self.accuracy.low > self.chance

    @property
    def used(self) -> bool:
        """Whether its colour moves the call."""
        return self.pull.low > MATTERS


def find_batch_colour(evidence: Evidence, *, most: int = 240) -> tuple[list[Finding], pa.Table]:
    """Say in which region's colour a batch can be read that classes are tied to, and whether the model reads it there.

    Parameters
    ----------
    evidence
        Needs labels, outlines and a batch: a column that is named, or groups of their own that a class lies in.
    most
        Images to test at most, as many of each batch.

    Returns
    -------
    findings
        Of kind ``confounder``: ``supported`` for each region that is used, ``undecided`` where the object's colour gives
        the batch but was not seen to move the call, ``refuted`` where no region's colour gives it; ``refused`` where
        it cannot be tested; none where no batch is known or none is tied to a class.
    table
        One row a region: balanced accuracy of the batch from its mean colour, and the pull of another batch's colour.
    """
    batches = find_batches(evidence)
    if batches is None:
        return [], pa.table({})
    cases = _cases(evidence, batches, most)
    if len({batches.of[case.id] for case in cases}) < 2:
        reason = f"fewer than two batches ({batches.name}) have {LEAST_CASES} outlined images of two groups"
        return [untested_batch(reason)], pa.table({})
    pairs = _pairs(evidence, batches, cases)
    if not pairs:
        return [], pa.table({})
    found = [_region(evidence, batches, cases, pairs, region) for region in REGIONS]
    return _findings(batches, found), _table(found)


def untested_batch(reason: str) -> Finding:
    """Return the finding that says why nothing can be said."""
    return Finding(
        id="batch-untested",
        kind="refused",
        subject="batch",
        statement="Whether the model reads the batch from colours was not tested.",
        evidence=f"Recolouring objects as another batch needs a classifier and labelled, outlined images; {reason}.",
        verdict="undecided",
    )


def _cases(evidence: Evidence, batches: Batches, most: int) -> list[Case]:
    """Return as many cases of each batch as there are, up to an equal share."""
    each = max(LEAST_CASES, most // len(batches.names))
    parts = [
        evidence.cases(each, [image for image, own in batches.of.items() if own == name]) for name in batches.names
    ]
    known = [part for part in parts if len(part) >= LEAST_CASES and len({case.group for case in part}) > 1]
    return [case for part in known for case in part]


def _pairs(evidence: Evidence, batches: Batches, cases: Sequence[Case]) -> list[_Pair]:
    """Pair each object with an image of another batch, where the two are tied to classes, and one of its own."""
    random, pools = evidence.random("batch colour"), dict[str, list[Case]]()
    for case in cases:
        pools.setdefault(batches.of[case.id], []).append(case)
    pairs = []
    for case in cases:
        own = batches.of[case.id]
        others = [name for name in sorted(pools) if name != own and batches.span(own, name) > TIED]
        if others:
            other = others[random.integers(len(others))]
            donor, null = donor_for(pools[other], case, random), donor_for(pools[own], case, random)
            pairs.append(_Pair(case, donor, null, batches.tie(own, other)))
    return pairs


def _region(
    evidence: Evidence, batches: Batches, cases: Sequence[Case], pairs: Sequence[_Pair], region: str
) -> _Region:
    own = [batches.of[case.id] for case in cases]
    towards, away = _pulls(evidence, pairs, region)
    groups = [pair.case.group for pair in pairs]
    pull = mean_interval(towards, groups=groups, bounds=(-1.0, 1.0), seed=evidence.seed)
    accuracy = batch_probe(cases, own, region, evidence)
    return _Region(region, accuracy, 1 / len(set(own)), pull, float(away.mean()))


def _pulls(evidence: Evidence, pairs: Sequence[_Pair], region: str) -> tuple[Array, Array]:
    """Return the share of probability ``(N,)`` that goes to the classes of the donor's batch, beyond the null's.

    The second is that of the same shift the other way: what any disturbance of that size and place would do.
    """
    shifted = [_shifted(pair, region) for pair in pairs]
    towards, away, same = (evidence.probabilities(torch.stack(images)) for images in zip(*shifted, strict=True))
    ties = torch.from_numpy(np.stack([pair.tie for pair in pairs]))
    known = towards[:, : ties.shape[1]], away[:, : ties.shape[1]], same[:, : ties.shape[1]]
    moved = [((there - known[2]) * ties).sum(1).numpy() for there in known[:2]]
    return moved[0], moved[1]


def _shifted(pair: _Pair, region: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the object with a region in the donor's mean colour, shifted the other way, and in the null's colour."""
    where, own = region_of(pair.case, region), mean_colour(pair.case, region)
    image = pair.case.image
    to_donor, to_null = (
        (mean_colour(other, region) - own).to(image).view(-1, *[1] * where.ndim) for other in (pair.donor, pair.null)
    )
    return (
        torch.where(where, image + to_donor, image),
        torch.where(where, image - to_donor, image),
        torch.where(where, image + to_null, image),
    )


def _findings(batches: Batches, found: Sequence[_Region]) -> list[Finding]:
    reached = sorted((one for one in found if one.used), key=lambda one: -one.pull.value)
    used = [_used(batches, one, found) for one in reached]
    inside = next(one for one in found if one.region == "inside")
    if inside.readable and not inside.used:
        used.append(_readable(batches, inside))
    return used or ([] if any(one.readable for one in found) else [_unreadable(batches, found)])


def _evidence(found: Sequence[_Region]) -> str:
    told = "; ".join(
        f"{_WORDS[one.region]}: batch {one.accuracy}, moved {one.pull} (the other way {one.away:.2f})" for one in found
    )
    first = found[0]
    return (
        "Balanced accuracy of the batch from a region's mean colour (logistic regression on groups left out, chance "
        f"{first.chance:.2f}), and probability that the colour of an image of another batch moves beyond that of another image of "
        f"its own batch (the null), beside the same shift the other way; {first.pull.n} images of {first.pull.groups} groups. "
        f"{told[:1].upper()}{told[1:]}."
    )


def _used(batches: Batches, one: _Region, found: Sequence[_Region]) -> Finding:
    outside = next(other for other in found if other.region == "outside")
    moved = one.region == "inside" and not (outside.used or outside.readable)
    where = "has moved into" if moved else "sits in"
    also = " The background no longer carries it, but the confounder is not gone." if moved else ""
    return Finding(
        id=f"batch-{one.region}", kind="confounder", subject=f"{batches.name}: {_WORDS[one.region]}",
        statement=f"The confounder ({batches.name}) {where} {_WORDS[one.region]}, and the model reads it there: the mean colour "
        f"gives the batch with balanced accuracy {one.accuracy.value:.2f}, and giving it the colour of another batch, the "
        f"shape unchanged, moves {100 * one.pull.value:.0f} % of the probability to the classes of that batch.{also}",
        evidence=_evidence([one, *(other for other in found if other is not one)]),
        value=one.pull.value, low=one.pull.low, high=one.pull.high,
    )  # fmt: skip


def _readable(batches: Batches, inside: _Region) -> Finding:
    return Finding(
        id="batch-inside", kind="confounder", subject=f"{batches.name}: {_WORDS['inside']}",
        statement=f"The mean colour inside the object gives the confounder ({batches.name}) with balanced accuracy "
        f"{inside.accuracy.value:.2f}; whether the model reads it there stays open: recolouring alone was not seen to move "
        "the call far enough.",
        evidence=_evidence([inside]), value=inside.pull.value, low=inside.pull.low, high=inside.pull.high,
        verdict="undecided",
    )  # fmt: skip


def _unreadable(batches: Batches, found: Sequence[_Region]) -> Finding:
    return Finding(
        id="batch-colour", kind="confounder", subject=batches.name,
        statement=f"The mean colour of no region was seen to give {batches.name}, which is tied to classes, or to move the call "
        "with it; traces other than colour (texture, sharpness, size) were not tested.",
        evidence=_evidence(found), verdict="refuted",
    )  # fmt: skip


def _table(found: Sequence[_Region]) -> pa.Table:
    def column(numbers: Sequence[float]) -> pa.Array:
        return pa.array(list(numbers), pa.float64(), from_pandas=True)

    return pa.table({
        "region": [one.region for one in found],
        "accuracy": column([one.accuracy.value for one in found]),
        "accuracy_low": column([one.accuracy.low for one in found]),
        "accuracy_high": column([one.accuracy.high for one in found]),
        "chance": [one.chance for one in found],
        "pull": column([one.pull.value for one in found]),
        "low": column([one.pull.low for one in found]),
        "high": column([one.pull.high for one in found]),
        "away": column([one.away for one in found]),
        "images": [one.pull.n for one in found],
        "groups": [one.pull.groups for one in found],
    })  # fmt: skip
