"""Orders in which segments appear: sampled in opposite pairs, or every coalition that an order can lead to.

Segments come in groups whose members stay together in every order, as Owen's value asks; one group of all segments
gives Shapley's.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Lattice", "Orders", "coalitions_in_all", "drawn_orders", "lattice"]


@dataclass(frozen=True, eq=False)
class Orders:
    """The coalitions that segments form as they appear in random orders, each coalition once.

    Attributes
    ----------
    ranks
        ``(2 pairs, players)`` the place of each segment in each order; the second half holds the reverse orders.
    picks
        ``(n,)`` where each distinct coalition first stands among the ``2 pairs · (players − 1)`` proper prefixes.
    places
        ``(2 pairs, players − 1)`` which coalition each prefix is.
    """

    ranks: Tensor
    picks: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.picks)

    def members(self, part: slice) -> Tensor:
        """Return some coalitions, made on demand."""
        steps = self.ranks.shape[1] - 1
        return self.ranks[self.picks[part] // steps] <= (self.picks[part] % steps)[:, None]

    def contributions(self, answers: Tensor, empty: Tensor, full: Tensor) -> Tensor:
        """Return what each segment added, the mean of each opposite pair of orders, ``(pairs, players, T)``."""
        inner = answers.cpu().double()[self.places]
        ends = [end.cpu().double().expand(len(inner), 1, -1) for end in (empty, full)]
        added = torch.cat([ends[0], inner, ends[1]], 1).diff(dim=1)
        own = added.gather(1, self.ranks[:, :, None].expand(-1, -1, added.shape[2]))
        return own.view(2, -1, *own.shape[1:]).mean(0)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Every coalition that an order can lead to, with its part in each segment's value.

    Attributes
    ----------
    masks
        Boolean ``(n, players)`` without the empty and the full coalition.
    shares
        ``(n, players)``.
    ends
        ``(2, players)`` the parts of the empty and the full coalition.
    """

    masks: Tensor
    shares: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.masks)

    def members(self, part: slice) -> Tensor:
        """Return some coalitions."""
        return self.masks[part]

    def contributions(self, answers: Tensor, empty: Tensor, full: Tensor) -> Tensor:
        """Return the exact mean of all orders as the only one, ``(1, players, T)``."""
        outer = torch.stack([empty, full]).cpu().double()
        return (self.shares.T @ answers.cpu().double() + self.ends.T @ outer)[None]


def drawn_orders(groups: Tensor, pairs: int, generator: torch.Generator) -> Orders:
    """Draw opposite pairs of orders of segments with `groups` ``(players,)`` in which groups stay together.

    Equal coalitions are found by the sum of a random 64-bit key a segment, so that no coalition is ever written out.
    """
    players = len(groups)
    among = torch.rand(pairs, int(groups.max()) + 1, generator=generator).argsort(1).argsort(1)[:, groups]
    within = torch.rand(pairs, players, generator=generator, dtype=torch.float64)
    orders = (among + within).argsort(1)
    orders = torch.cat([orders, orders.flip(1)])
    keys = torch.randint(-(2**63), 2**63 - 1, (players,), generator=generator)
    prefixes, places = torch.unique(keys[orders].cumsum(1)[:, :-1], return_inverse=True)
    picks = torch.empty(len(prefixes), dtype=torch.long)
    picks[places.flatten()] = torch.arange(places.numel())
    return Orders(orders.argsort(1), picks, places)


def coalitions_in_all(groups: Tensor) -> int:
    """Return how many coalitions, the empty and the full one left out, orders of these groups can lead to."""
    sizes: list[int] = torch.bincount(groups).tolist()
    outer: int = 2 ** (len(sizes) - 1)
    inner: int = sum(2**size - 2 for size in sizes)
    return outer * (2 + inner) - 2


def _subsets(players: int) -> Tensor:
    return (torch.arange(2**players)[:, None] >> torch.arange(players)) & 1 == 1


def _odds(players: int) -> Tensor:
    """Return the probability that just a given set of each size stands before a player in a random order."""
    odds = [1 / (players * math.comb(players - 1, size)) for size in range(players)]
    return torch.tensor(odds, dtype=torch.float64)


def _parts(groups: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Return the coalitions in which only `group` is divided, and their parts in the values of its members."""
    count, own = int(groups.max()) + 1, groups == group
    others = _subsets(count)
    others = others[~others[:, group]]
    inner = _subsets(int(own.sum()))
    masks = others[:, groups].repeat_interleave(len(inner), 0)
    masks[:, own] = inner.repeat(len(others), 1)
    odds, sizes = _odds(inner.shape[1]), inner.sum(1, keepdim=True)
    last = inner.shape[1] - 1
    joined = torch.where(inner, odds[(sizes - 1).clamp(min=0)], -odds[sizes.clamp(max=last)])
    shares = torch.zeros(masks.shape, dtype=torch.float64)
    shares[:, own] = (_odds(count)[others.sum(1)][:, None, None] * joined).flatten(0, 1)
    return masks, shares


def lattice(groups: Tensor) -> Lattice:
    """Return every coalition with its part in the Owen values, ``2**players - 2`` of them for one group."""
    parts = [_parts(groups, group) for group in range(int(groups.max()) + 1)]
    masks, places = torch.unique(torch.cat([part[0] for part in parts]), dim=0, return_inverse=True)
    shares = torch.zeros(masks.shape, dtype=torch.float64)
    shares.index_add_(0, places, torch.cat([part[1] for part in parts]))
    return Lattice(masks[1:-1], shares[1:-1], shares[[0, -1]])
