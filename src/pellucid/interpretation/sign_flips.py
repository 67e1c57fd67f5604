"""A test that needs no more than independent groups: flip the signs of whole groups' contributions."""

from collections.abc import Hashable, Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["mean_p_value", "sign_flips", "units_of"]

_Array = NDArray[np.float64]


def units_of(groups: Sequence[Hashable] | None, count: int) -> NDArray[np.int64]:
    """Return the number of the independent unit of each row; without groups every row is one."""
    if groups is None:
        return np.arange(count)
    return np.asarray(np.unique([str(group) for group in groups], return_inverse=True)[1], dtype=np.int64)


def sign_flips(independent: int, draws: int, seed: int) -> tuple[_Array, bool]:
    """Return signs ``(flips, groups)`` and whether they are all there are, up to a common sign."""
    if 2 ** (independent - 1) <= draws:
        signs = np.array(list(product([1.0, -1.0], repeat=independent - 1))).reshape(-1, independent - 1)
        return np.concatenate([np.ones((len(signs), 1)), signs], 1), True
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, independent)), False


def mean_p_value(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    side: Literal["both", "above"] = "both",
    draws: int = 2000,
    seed: int = 0,
) -> float:
    """Return how often sign flips of whole groups give a mean as far from 0 as the values'.

    Exact where a group's total is as likely to be positive as negative (Fisher 1935); all flips are tried where they are
    few. NaN for fewer than three groups.

    Parameters
    ----------
    values
        One number a row.
    groups
        The independent unit of each row.
    side
        ``"both"``, or ``"above"`` to ask for a positive mean only.
    draws, seed
        Of the flips, where not all can be tried.
    """
    numbers = np.asarray(values, dtype=float)
    units = units_of(groups, len(numbers))
    independent = int(units.max(initial=-1)) + 1
    if independent < 3:
        return float("nan")
    totals = np.bincount(units, weights=numbers)
    flips, exact = sign_flips(independent, draws, seed)
    if exact:
        flips = np.concatenate([flips, -flips])
    drawn, told = flips @ totals, float(totals.sum())
    slack = 1e-9 * np.abs(totals).sum()
    reached = (np.abs(drawn) >= abs(told) - slack) if side == "both" else (drawn >= told - slack)
    return float(reached.mean()) if exact else float((reached.sum() + 1) / (len(flips) + 1))
