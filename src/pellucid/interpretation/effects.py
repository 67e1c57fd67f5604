"""How far changes move the model: of the whole object, and of the places where a map puts its mass, each beside its null.

Places are changed in two ways: in-painted, and edited as the whole object was but nowhere else. The second tells a
model that reads the brightness of one place from one that reads the brightness of the whole object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution.scaling import resized
from pellucid.errors import ShapeError
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.measure import EDITS, Edit, EditResult
from pellucid.measure.clumps import clump, highest

__all__ = ["SHARE", "Effect", "Holes", "Panel", "edited_there", "edited_whole", "inpainted", "places", "usable"]

SHARE = 0.1
"""Share of the object's area that is changed where a map puts most mass."""

Holes = list[tuple[Tensor, Tensor] | None]
"""For every image the places where a map puts most mass and, as the null, as many pixels of the object in random clumps."""

_Pair = tuple[Tensor, Tensor] | None
_THERE = f"the pixels where {{method}} puts most mass ({100 * SHARE:.0f} % of the object's area)"


@dataclass(frozen=True)
class Effect:
    """How far one change moves the model's log-odds beyond its null.

    Attributes
    ----------
    name
        Of the change, unique.
    kind
        ``"edit"`` of the whole object, or ``"map"`` of the places of a map.
    words
        What was done.
    moved
        ``(N,)`` one number an image, NaN where the change cannot be made.
    """

    name: str
    kind: str
    words: str
    moved: NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """The images that are changed, the class that the model calls and its log-odds before."""

    evidence: Evidence
    cases: Sequence[Case]
    classes: Tensor
    before: Tensor

    @classmethod
    def of(cls, evidence: Evidence, cases: Sequence[Case]) -> "Panel":
        """Ask the model about the untouched images."""
        images = torch.stack([case.image for case in cases])
        classes = evidence.logits(images).argmax(1)
        return cls(evidence, cases, classes, evidence.log_odds(images, classes))

    def generator(self, purpose: str, case: Case) -> torch.Generator:
        """Return the stream of one change of one image, the same for the change and its null."""
        return torch.Generator().manual_seed(int(self.evidence.random(f"{purpose} {case.id}").integers(2**31)))

    def edited(self, edit: Edit, case: Case) -> EditResult:
        """Edit one object as a whole, always with the same draws."""
        return edit(case.image, case.outline, generator=self.generator(str(edit), case))

    def moved(self, change: Callable[[Case, int], _Pair]) -> NDArray[np.float64]:
        """Return how much further the changed images move the log-odds than their nulls.

        `change` gives both images of a case and its row, or None; a change that does not fit an object is left out.
        """
        moved, rows, pairs = np.full(len(self.cases), np.nan), [], []
        for row, case in enumerate(self.cases):
            try:
                pair = change(case, row)
            except ShapeError:  # too small or too large for it, or without colour
                continue
            if pair is not None:
                rows.append(row)
                pairs.append(pair)
        if rows:
            start, classes = self.before[rows], self.classes[rows]
            images = (torch.stack(side) for side in zip(*pairs, strict=True))
            away, idle = ((self.evidence.log_odds(side, classes) - start).abs() for side in images)
            moved[rows] = (away - idle).numpy()
        return moved


def edited_whole(panel: Panel, text: str) -> Effect:
    """Change every object as a whole, beside the edit's own null."""
    edit = EDITS.parse(text)

    def change(case: Case, _row: int) -> _Pair:
        null = edit.null(case.image, case.outline, generator=panel.generator(str(edit), case))
        return panel.edited(edit, case).image, null.image

    return Effect(text, "edit", text, panel.moved(change))


def inpainted(panel: Panel, method: str, holes: Holes) -> Effect:
    """In-paint the places of a map, beside as much of the object elsewhere."""
    fill = EDITS.parse("remove_patch")

    def change(case: Case, row: int) -> _Pair:
        pair = holes[row]
        if pair is None:
            return None
        chosen, clump = (fill(case.image, hole, generator=panel.generator(method, case)).image for hole in pair)
        return chosen, clump

    return Effect(method, "map", f"in-painting {_THERE.format(method=method)}", panel.moved(change))


def edited_there(panel: Panel, method: str, holes: Holes, text: str) -> Effect:
    """Take over an edit of the object at the places of a map only, beside as many of its pixels elsewhere."""
    edit = EDITS.parse(text)

    def change(case: Case, row: int) -> _Pair:
        pair = holes[row]
        if pair is None:
            return None
        edited = panel.edited(edit, case).image
        chosen, clump = (torch.where(hole, edited, case.image) for hole in pair)
        return chosen, clump

    words = f"{text} of nothing but {_THERE.format(method=method)}"
    return Effect(f"{method}, {text} there", "map", words, panel.moved(change))


def places(panel: Panel, method: str) -> Holes:
    """Return where a map puts most mass, image by image; None where the map is not finite."""
    strengths = _strength(panel.evidence.maps(method, [case.id for case in panel.cases]), panel.cases[0].outline.shape)
    holes: Holes = []
    for case, strength in zip(panel.cases, strengths, strict=True):
        count = max(1, round(SHARE * int(case.outline.sum())))
        elsewhere = clump(case.outline, count, panel.generator(f"null of {method}", case))
        holes.append((highest(strength, count), elsewhere) if bool(strength.isfinite().all()) else None)
    return holes


def usable(effects: Sequence[Effect]) -> tuple[list[Effect], NDArray[np.int64]]:
    """Keep the changes that can be made on half of the images or more, and the images where all of them can."""
    kept = [effect for effect in effects if np.isnan(effect.moved).mean() <= 0.5]
    if not kept:
        return [], np.zeros(0, dtype=np.int64)
    return kept, np.flatnonzero(~np.isnan([effect.moved for effect in kept]).any(0))


def _strength(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return how much of the map lies at each position of the image: |channel sum|, at the image's resolution."""
    return resized(values.sum(1, keepdim=True), tuple(shape))[:, 0].abs()
