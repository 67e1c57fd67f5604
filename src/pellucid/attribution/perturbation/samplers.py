"""Samplers: which coalitions of segments are kept, as rows of a binary design."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "DRAWS",
    "Design",
    "LeaveOneOut",
    "ShapleyDesign",
    "bernoulli",
    "joined",
    "shapley_design",
    "subsets_of_size",
    "with_more_pairs",
]

DRAWS = 5
"""Independent draws that a Bernoulli design consists of: each is what another seed would have given."""


@dataclass(frozen=True, eq=False)
class Design:
    """Distinct coalitions.

    Attributes
    ----------
    masks
        Boolean ``(n, players)``; True keeps a segment.
    counts
        ``(n,)`` how often each was drawn; ``(draws, n)`` by draw.
    """

    masks: Tensor
    counts: Tensor

    @property
    def total(self) -> Tensor:
        """``(n,)`` how often each was drawn, over all draws."""
        return self.counts if self.counts.ndim == 1 else self.counts.sum(0)

    def __len__(self) -> int:
        return len(self.masks)

    def members(self, part: slice) -> Tensor:
        """Return some rows of the design."""
        return self.masks[part]


@dataclass(frozen=True)
class LeaveOneOut:
    """Every coalition that lacks one player, made on demand: pixels would need a square of them."""

    players: int

    def __len__(self) -> int:
        return self.players

    def members(self, part: slice) -> Tensor:
        """Return some rows of the design."""
        return torch.arange(self.players) != torch.arange(self.players)[part, None]


@dataclass(frozen=True, eq=False)
class ShapleyDesign(Design):
    """Coalitions with the weights of the Shapley kernel.

    The first rows enumerate whole sizes; the last ``2 · len(draws)`` hold sampled coalitions, then their complements.

    Attributes
    ----------
    weights
        ``(n,)`` summing to 1.
    draws
        ``(pairs,)`` how often each sampled pair was drawn.
    whole
        Size up to which, from both ends, all coalitions are enumerated.
    """

    weights: Tensor
    draws: Tensor
    whole: int = 0


def joined(known: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return distinct coalitions, the `known` ones first in their order, and the place of each of all, known and drawn."""
    every = torch.cat([known, drawn])
    distinct, places = torch.unique(every, dim=0, return_inverse=True)
    first = torch.full((len(distinct),), len(every)).scatter_reduce(0, places, torch.arange(len(every)), "amin")
    order = first.argsort()
    return distinct[order], order.argsort()[places]


def bernoulli(players: int, samples: int, generator: torch.Generator, known: Design | None = None) -> Design:
    """Return coalitions in which each segment is kept with probability a half; the very first keeps all.

    Parameters
    ----------
    players, samples
        `samples` rows are drawn; equal ones are merged.
    generator
        On the CPU.
    known
        A design to go on from: its coalitions stay first.

    Returns
    -------
    Design
        With ``counts (DRAWS, n)``: the rows take turns in belonging to `DRAWS` independent draws.
    """
    masks = torch.rand(samples, players, generator=generator) < 0.5
    if known is None:
        masks[0] = True
        known = Design(masks[:0], torch.zeros(DRAWS, 0))
    distinct, places = joined(known.masks, masks)
    counts = torch.zeros(DRAWS, len(distinct))
    counts[:, : len(known)] = known.counts
    turns = (torch.arange(samples) + int(known.counts.sum())) % DRAWS
    counts.index_put_((turns, places[len(known) :]), torch.ones(samples), accumulate=True)
    return Design(distinct, counts)


def subsets_of_size(players: int, size: int) -> Tensor:
    """Return all subsets of one size, boolean ``(C(players, size), players)``."""
    chosen = torch.tensor(list(itertools.combinations(range(players), size)), dtype=torch.long)
    masks = torch.zeros(len(chosen), players, dtype=torch.bool)
    return masks.scatter_(1, chosen, value=True)


def _kernel_masses(players: int) -> list[float]:
    """Return the share of the Shapley kernel that sizes k and players − k hold together, for k = 1, 2, ..."""
    masses = [(1 if 2 * k == players else 2) / (k * (players - k)) for k in range(1, players // 2 + 1)]
    return [mass / sum(masses) for mass in masses]


def _pairs(players: int, size: int) -> int:
    subsets = math.comb(players, size)
    return subsets // 2 if 2 * size == players else subsets


def _enumerable(players: int, budget: int, masses: list[float]) -> int:
    """Return up to which size all coalitions fit into a budget of pairs; size 1 always does."""
    whole = 1
    left = budget - _pairs(players, 1)
    for size in range(2, len(masses) + 1):
        rest = range(size, len(masses) + 1)
        fits_all = left >= 0 and sum(_pairs(players, k) for k in rest) <= left
        share = left * masses[size - 1] / sum(masses[size - 1 :])
        if not fits_all and _pairs(players, size) > share:
            break
        whole, left = size, left - _pairs(players, size)
    return whole


def shapley_design(players: int, samples: int, generator: torch.Generator) -> ShapleyDesign:
    """Return at most `samples` coalitions for the kernel regression of Shapley values.

    Sizes are enumerated from the outside in while they fit into their share of the budget, each with its kernel mass;
    the rest of the mass is sampled: a size by the kernel, a subset of it uniformly, its complement with it, weight 1.
    Single segments are always enumerated, so that the regression has full rank. The full and the empty coalition are
    not in it: they are constraints. With ``samples >= 2**players - 2`` the design is complete.

    Parameters
    ----------
    players, samples
        ``samples >= 2 * players`` unless the design is complete.
    generator
        On the CPU.
    """
    if players == 1:
        return ShapleyDesign(
            torch.zeros(0, 1, dtype=torch.bool), torch.zeros(0), torch.zeros(0).double(), torch.zeros(0)
        )
    masses = _kernel_masses(players)
    budget = samples // 2
    whole = _enumerable(players, budget, masses)
    masks: list[Tensor] = []
    weights: list[Tensor] = []
    for size in range(1, whole + 1):
        subsets = subsets_of_size(players, size)
        both = subsets if 2 * size == players else torch.cat([subsets, ~subsets])
        masks.append(both)
        weights.append(torch.full((len(both),), masses[size - 1] / len(both), dtype=torch.float64))
    left = budget - sum(_pairs(players, size) for size in range(1, whole + 1))
    draws = torch.zeros(0)
    if whole < len(masses) and left > 0:
        drawn, draws = _drawn(players, torch.tensor(masses[whole:]), whole + 1, left, generator)
        masks += [drawn, ~drawn]
        weights += [draws.double() * sum(masses[whole:]) / (2 * left)] * 2
    coalitions = torch.cat(masks)
    return ShapleyDesign(coalitions, torch.ones(len(coalitions)), torch.cat(weights), draws, whole)


def with_more_pairs(design: ShapleyDesign, pairs: int, generator: torch.Generator) -> ShapleyDesign:
    """Return the design with so many more pairs drawn: enumerated sizes stay, known pairs stay first among the drawn."""
    players = design.masks.shape[1]
    masses = _kernel_masses(players)[design.whole :]
    enumerated = len(design) - 2 * len(design.draws)
    known = design.masks[enumerated : enumerated + len(design.draws)]
    fresh, again = _drawn(players, torch.tensor(masses), design.whole + 1, pairs, generator)
    drawn, places = joined(known, fresh)
    draws = torch.zeros(len(drawn), dtype=again.dtype).index_add_(0, places, torch.cat([design.draws.to(again), again]))
    weights = draws.double() * sum(masses) / (2 * draws.sum())
    coalitions = torch.cat([design.masks[:enumerated], drawn, ~drawn])
    weighed = torch.cat([design.weights[:enumerated], weights, weights])
    return ShapleyDesign(coalitions, torch.ones(len(coalitions)), weighed, draws, design.whole)


def _drawn(
    players: int, masses: Tensor, smallest: int, pairs: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw pairs by the kernel and merge those that are equal; the member without player 0 stands for its pair."""
    sizes = torch.multinomial(masses, pairs, replacement=True, generator=generator) + smallest
    ranks = torch.rand(pairs, players, generator=generator).argsort(1).argsort(1)
    masks = ranks < sizes[:, None]
    distinct, counts = torch.unique(masks ^ masks[:, :1], dim=0, return_counts=True)
    return distinct, counts
