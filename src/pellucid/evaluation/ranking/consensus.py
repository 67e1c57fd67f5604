"""Orders of methods that do not rest on mean ranks: Kemeny's, and the front of faithfulness against plausibility."""

from collections.abc import Sequence

import numpy as np

__all__ = ["EXACT", "front", "kemeny", "preferences"]

EXACT = 14
"""Methods up to which Kemeny's order is found exactly; there are 2ⁿ sets to look at."""


def preferences(places: np.ndarray) -> np.ndarray:
    """Return ``(K, K)``: the share of rows ``(N, K)`` that place i before j, a tie counting half; NaN where none can say."""
    before = places[:, :, None] < places[:, None, :]
    level = places[:, :, None] == places[:, None, :]
    known = ~np.isnan(places)
    both = (known[:, :, None] & known[:, None, :]).sum(0)
    return np.where(both > 0, (before + 0.5 * level).sum(0) / np.maximum(both, 1), np.nan)


def kemeny(preference: np.ndarray) -> list[int]:
    """Return the order that contradicts the fewest preferences, best first (Kemeny 1959).

    Exact, by dynamic programming over sets of methods that stand first, for up to `EXACT` methods. Of equally good orders
    the one that keeps the given numbering longest is returned.

    Parameters
    ----------
    preference
        ``(K, K)`` as `preferences` gives them; NaN counts as level.
    """
    number = len(preference)
    if number > EXACT:
        raise ValueError(f"{number} methods: Kemeny's order is exact for up to {EXACT}")
    weight = np.nan_to_num(preference, nan=0.5)
    np.fill_diagonal(weight, 0.0)
    sets = 1 << number
    inside = (np.arange(sets)[:, None] >> np.arange(number)) & 1
    against = weight.sum(0) - inside @ weight  # what is lost by placing j next: the weight of those left before j
    cost, last = np.full(sets, np.inf), np.zeros(sets, dtype=int)
    cost[0] = 0.0
    sizes = inside.sum(1)
    for size in range(1, number + 1):
        layer = np.flatnonzero(sizes == size)
        before = layer[:, None] & ~(1 << np.arange(number))
        arrived = cost[before] + against[before, np.arange(number)]
        arrived = np.where(inside[layer] == 1, arrived, np.inf)
        # the last member is chosen: prefer the highest number, so that low numbers stay in front
        last[layer] = number - 1 - arrived[:, ::-1].argmin(1)
        cost[layer] = arrived.min(1)
    order, left = [], sets - 1
    while left:
        order.append(int(last[left]))
        left &= ~(1 << order[-1])
    return order[::-1]


def front(sides: Sequence[np.ndarray]) -> np.ndarray:
    """Return which columns no other betters on one side without being worse on another (lower is better).

    Parameters
    ----------
    sides
        Arrays ``(..., K)`` of places; a method without a place on some side is not on the front.
    """
    stack = np.stack(sides)
    no_worse = (stack[..., :, None] <= stack[..., None, :]).all(0)
    better = (stack[..., :, None] < stack[..., None, :]).any(0)
    beaten: np.ndarray = np.any(no_worse & better, axis=-2)
    unknown: np.ndarray = np.any(np.isnan(stack), axis=0)
    return np.asarray(~beaten & ~unknown)
