"""When enough has been sampled: the running mean of contributions, its error, and the rule that stops on it."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from scipy.stats import t as student
from torch import Tensor

__all__ = ["PILOT", "Rule", "Tally"]

PILOT = 25
"""Pairs of orders after which a stopping rule looks for the first time: with fewer, intervals fall well short of 95 %."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Running mean and spread of the contributions of `count` pairs of orders, ``(players, T)`` each."""

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, contributions: Tensor) -> Self:
        """Take the first pairs, ``(pairs, players, T)``."""
        mean = contributions.mean(0)
        return cls(len(contributions), mean, ((contributions - mean) ** 2).sum(0))

    def with_more(self, contributions: Tensor) -> Self:
        """Return the tally of these pairs too."""
        more = type(self).of(contributions)
        count = self.count + more.count
        step = more.mean - self.mean
        squares = self.squares + more.squares + step**2 * self.count * more.count / count
        return type(self)(count, self.mean + step * more.count / count, squares)

    @property
    def error(self) -> Tensor:
        """Standard error of the mean; 0 for one exact contribution."""
        return (self.squares / (max(1, self.count - 1) * self.count)).sqrt()

    @property
    def margin(self) -> Tensor:
        """Half the width of the 95 % interval by Student's t."""
        return self.error * float(student.ppf(0.975, max(1, self.count - 1)))


@dataclass(frozen=True)
class Rule:
    """When a row has enough orders: after `samples` of them, or once its largest standard error is tolerated."""

    samples: int
    tolerance: float | None

    def first(self) -> int:
        """Return the pairs of orders to begin with."""
        return self.samples // 2 if self.tolerance is None else min(PILOT, self.samples // 2)

    def more(self, tally: Tally, difference: Tensor) -> int:
        """Return the pairs still to draw by what the spread so far lets expect, a quarter more at the least."""
        excess = self.excess(tally, difference)
        if excess <= 1:
            return 0
        wanted = tally.count * (min(excess, float(self.samples)) ** 2 - 1)
        return min(self.samples // 2 - tally.count, math.ceil(max(wanted, tally.count / 4)))

    def excess(self, tally: Tally, difference: Tensor) -> float:
        """Return how many times too large the largest standard error is; 0 where nothing is asked."""
        if self.tolerance is None:
            return 0.0
        error, allowed = tally.error.amax(0), self.tolerance * difference.cpu().double().abs()
        return float(torch.where(error > 0, error / allowed, 0.0).max())
