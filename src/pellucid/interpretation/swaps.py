"""Objects before foreign backgrounds: what the background says of the class, held against a matched null.

Each object is set before the background of an image of another class and, as the null, before that of another image of
its own class. The gaps that both donors' objects leave are filled in both backgrounds with the same draws, so the two
composites have the same seams and the same filled pixels: a donor's size does not leak through its gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.measure import swap_background

__all__ = ["Swap", "composed", "donor_for", "grown", "plan_swaps", "pulled", "rim_of"]

_RIM = 0.02


@dataclass(frozen=True)
class Swap:
    """One object and two foreign backgrounds: one of another class, one (the null) of its own."""

    case: Case
    donor: Case
    null: Case
    seed: int

    def composites(self) -> tuple[Tensor, Tensor]:
        """Return the object before the donor's background and before the null's.

        Raises
        ------
        ShapeError
            When the objects leave no background between them.
        """
        gap, own = grown(self.donor.outline) | grown(self.null.outline), grown(self.case.outline)
        other, same = (
            swap_background(
                self.case.image, own, source.image, gap, generator=torch.Generator().manual_seed(self.seed)
            ).image
            for source in (self.donor, self.null)
        )
        return other, same


def grown(outline: Tensor) -> Tensor:
    """Return the outline with a rim of about 2 % of the short side, so that the object's edge stays with the object."""
    return torch.from_numpy(ndimage.binary_dilation(outline.numpy(), iterations=rim_of(outline)))


def rim_of(outline: Tensor) -> int:
    """Return the width of the rim in pixels."""
    return max(1, round(_RIM * min(outline.shape)))


def plan_swaps(cases: Sequence[Case], random: np.random.Generator, donors: int) -> list[Swap]:
    """Pair every object with up to `donors` backgrounds of other classes; classes of one image have no null and stay out."""
    by_class: dict[int, list[Case]] = {}
    for case in cases:
        by_class.setdefault(case.label, []).append(case)
    pools = {label: pool for label, pool in by_class.items() if len(pool) > 1}
    planned = []
    for case in cases:
        others = sorted(set(pools) - {case.label})
        if case.label not in pools:
            continue
        for label in random.permutation(others)[:donors]:
            donor, null = (donor_for(pools[chosen], case, random) for chosen in (int(label), case.label))
            planned.append(Swap(case, donor, null, int(random.integers(2**31))))
    return planned


def donor_for(pool: Sequence[Case], case: Case, random: np.random.Generator) -> Case:
    """Return another image of the pool, from another group where there is one."""
    others = [other for other in pool if other.id != case.id]
    apart = [other for other in others if other.group != case.group] or others
    return apart[random.integers(len(apart))]


def composed(swaps: Sequence[Swap]) -> tuple[list[Swap], Tensor, Tensor]:
    """Return the swaps that can be made, with their images ``(N, C, *S)`` before other and before own backgrounds."""
    kept, pairs = [], []
    for swap in swaps:
        try:
            pairs.append(swap.composites())
        except ShapeError:  # objects so large that no background is left between them
            continue
        kept.append(swap)
    if not kept:
        return [], torch.empty(0), torch.empty(0)
    other, same = (torch.stack(images) for images in zip(*pairs, strict=True))
    return kept, other, same


def pulled(evidence: Evidence, swaps: Sequence[Swap], images: Tensor, on_same: Tensor) -> NDArray[np.float64]:
    """Return the share of probability that goes from the object's class to the donor's, one a swap.

    Parameters
    ----------
    evidence, swaps
        The model and what was swapped.
    images
        ``(N, C, *S)`` what takes the place of the null's composites.
    on_same
        ``(N, K)`` the probabilities on the null's composites.
    """
    own = torch.tensor([swap.case.label for swap in swaps])
    foreign = torch.tensor([swap.donor.label for swap in swaps])
    rows, there = torch.arange(len(swaps)), evidence.probabilities(images)
    moved = (on_same[rows, own] - there[rows, own] + there[rows, foreign] - on_same[rows, foreign]) / 2
    return np.asarray(moved.numpy(), dtype=np.float64)
