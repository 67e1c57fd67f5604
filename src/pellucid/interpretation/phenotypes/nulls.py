"""What a direction that means nothing does to the score: phenotypes are dealt out to other images, and learnt again."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import false_discovery_control
from torch import Tensor

from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.directions import Directions
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.interpretation.phenotypes.space import Space

__all__ = ["RATE", "Pulls", "dealt", "null_pulls", "pull", "step_down"]

Array = NDArray[np.float64]

_TOGETHER = 192
"""Images that are made and read at a time."""

RATE = 0.05
"""Expected share of false claims among those that are made."""


@dataclass(frozen=True, eq=False)
class Pulls:
    """Ways from each image, and what the scores do on them.

    Attributes
    ----------
    ways
        ``(K, N, D)``, of length 1.
    lengths
        ``(K, N)`` Mahalanobis length that stands for one standard deviation of what the way was learnt from.
    changes
        ``(K, N, T)`` change of the scores a unit of length.
    """

    ways: Array
    lengths: Array
    changes: Array

    @property
    def rises(self) -> Array:
        """The mean change ``(K, T)`` of the scores a standard deviation."""
        return np.asarray((self.lengths[:, :, None] * self.changes).mean(1))


def dealt(groups: Sequence[Hashable], random: np.random.Generator) -> NDArray[np.int64]:
    """Return whose number each row is given: that of a row of another group, whole groups going to one group."""
    places = np.unique([str(group) for group in groups], return_inverse=True)[1]
    count = int(places.max()) + 1
    order = random.permutation(count)
    goal = np.empty(count, dtype=np.int64)
    goal[order] = np.roll(order, 1)
    taken = np.empty(len(places), dtype=np.int64)
    for group in range(count):
        own, donors = np.flatnonzero(places == group), random.permutation(np.flatnonzero(places == goal[group]))
        taken[own] = np.resize(donors, len(own))
    return taken


@torch.no_grad()
def pull(space: Space, scorer: Scorer, images: Tensor, ways: Sequence[Tensor], length: float) -> Pulls:
    """Go `length` both ways along each of the `ways` ``(N, D)``, whatever their own length, and read the scores."""
    start = space.encode(images)
    rest, own = images - space.decode(start), torch.stack(list(ways))
    lengths = own.norm(dim=2)
    units = own / lengths[:, :, None].clamp(min=1e-12)
    changes = []
    for slab in units.split(max(1, _TOGETHER // (2 * len(images)))):
        ends = start + torch.stack([slab, -slab]) * length
        shown = space.laid(rest.repeat(2 * len(slab), *[1] * (rest.ndim - 1)), ends.flatten(0, 2))
        up, down = scorer(shown).reshape(2, len(slab), len(images), -1)
        changes.append((up - down) / (2 * length))
    return Pulls(units.numpy(), lengths.numpy(), np.concatenate(changes))


def null_pulls(
    atlas: Atlas,
    scorer: Scorer,
    images: Tensor,
    *,
    length: float,
    permutations: int,
    random: np.random.Generator,
    progress: bool = False,
) -> dict[str, Pulls]:
    """Return by kernel what directions of dealt-out phenotypes do to the scores.

    Each is the pattern of one phenotype, learnt with the form of the phenotypes' own regressions from numbers given to other
    groups' images.

    Parameters
    ----------
    atlas, scorer
        Where the phenotypes lie, and the score.
    images
        Images that are moved.
    length
        Mahalanobis length of the move.
    permutations
        Directions a form.
    random, progress
        As everywhere.
    """
    heads, start = atlas.directions.heads, atlas.space.encode(images)
    found, forms = {}, list(dict.fromkeys(heads.kernels))
    for kernel in track(forms, "meaningless directions", disable=not progress, transient=True):
        own = [place for place, kind in enumerate(heads.kernels) if kind == kernel]
        columns = np.stack(
            [atlas.values[dealt(atlas.groups, random), own[turn % len(own)]] for turn in range(permutations)], 1
        )
        null = heads.refitted(columns, kernel, float(np.median([heads.penalties[place] for place in own])))
        ways = [Directions(null).pattern(start, turn) for turn in range(permutations)]
        found[kernel] = pull(atlas.space, scorer, images, ways, length)
    return found


def step_down(
    own: Pulls, null: dict[str, Pulls], forms: Sequence[str], tried: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Return p and q ``(P, T)``: whether the score follows a phenotype more than it follows meaningless directions.

    In rounds. In each, the mean change along a phenotype's way is held against those along the null's ways of its form.
    Phenotypes with q ≤ 0.05 (Benjamini and Hochberg's over all phenotypes and targets that are tried) are found; what
    their ways hold is then taken out of all others, meaningless ones too, to first order, and the rest is tried again.
    So one strong cause does not hide another, and what merely shares the way of a cause is not found after it.
    """
    count, targets = own.changes.shape[0], own.changes.shape[2]
    p = np.full((count, targets), np.nan)
    found = np.zeros((count, targets), dtype=bool)
    while True:
        for target in range(targets):
            basis = np.flatnonzero(found[:, target])
            left = {form: _strengths(one, own, basis, target) for form, one in null.items()}
            strength = _strengths(own, own, basis, target)
            for place in np.flatnonzero(tried & ~found[:, target]).tolist():
                drawn = left[forms[place]]
                p[place, target] = (1 + (drawn >= strength[place]).sum()) / (1 + len(drawn))
        q = np.full_like(p, np.nan)
        if tried.any():
            q[tried] = false_discovery_control(p[tried].ravel()).reshape(-1, targets)
        fresh = (q <= RATE) & ~found
        if not fresh.any():
            return p, q
        found |= fresh


def _strengths(pulls: Pulls, own: Pulls, basis: NDArray[np.int64], target: int) -> Array:
    """Return |mean change| ``(K,)`` along ways from which those of the phenotypes in `basis` are taken out."""
    changes = pulls.changes[:, :, target]
    if not len(basis):
        return np.asarray(np.abs(changes.mean(1)))
    axes = own.ways[basis].transpose(1, 2, 0)
    orthonormal, triangle = np.linalg.qr(axes)
    slopes = np.linalg.solve(triangle.transpose(0, 2, 1), own.changes[basis, :, target].T[:, :, None])[:, :, 0]
    parts = np.einsum("knd,ndb->knb", pulls.ways, orthonormal)
    rest = np.sqrt(np.clip(1 - (parts**2).sum(2), 0, None))
    taken = changes - np.einsum("knb,nb->kn", parts, slopes)
    return np.asarray(np.abs(np.where(rest > _LEAST, taken / np.maximum(rest, _LEAST), 0.0).mean(1)))


_LEAST = 0.2
"""Length of what is left of a way under which nothing can be told of it."""
