"""When enough has been sampled: the running mean of contributions, its error, the rule that stops on it, the rounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, Self, TypeVar

import torch
from pydantic import Field
from scipy.stats import t as student
from torch import Tensor

from pellucid.attribution.method import Call
from pellucid.attribution.perturbation.render import Plan, respond
from pellucid.models import Inputs

__all__ = ["PILOT", "Ongoing", "Rule", "Tally", "Tolerance", "in_rounds"]

PILOT = 25
"""Pairs of orders after which a stopping rule looks for the first time: with fewer, intervals fall well short of 95 %."""


Tolerance = Annotated[float, Field(gt=0, lt=1)]
"""Annotation of a recipe's ``tolerance``."""


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
    """When a row has enough: after `most` draws, or once its largest standard error is tolerated.

    Attributes
    ----------
    most
        Draws (pairs of orders, pairs of coalitions, masks) at most.
    tolerance
        Part of |f(x) − f(fill)| that the largest standard error may be; None: all draws are made.
    pilot
        Draws after which the rule looks for the first time.
    """

    most: int
    tolerance: float | None
    pilot: int = PILOT

    def first(self) -> int:
        """Return the draws to begin with."""
        return self.most if self.tolerance is None else min(self.pilot, self.most)

    def more(self, count: int, error: Tensor, difference: Tensor) -> int:
        """Return the draws still to make by what the spread so far lets expect, a quarter more at the least."""
        excess = float(self.excess(error, difference).max())
        if excess <= 1 or count >= self.most:
            return 0
        wanted = count * (min(excess, float(self.most)) ** 2 - 1)
        return min(self.most - count, math.ceil(max(wanted, count / 4)))

    def excess(self, error: Tensor, difference: Tensor) -> Tensor:
        """Return ``(T,)`` how many times too large the largest standard error is; 0 where nothing is asked.

        Parameters
        ----------
        error
            ``(players, T)``.
        difference
            ``(T,)`` f(x) − f(fill).
        """
        if self.tolerance is None:
            return torch.zeros(len(difference), dtype=torch.float64)
        worst, allowed = error.amax(0).cpu().double(), self.tolerance * difference.cpu().double().abs()
        return torch.where(worst > 0, worst / allowed, 0.0)

    def missed(self, count: int, rows: int, drawn: str) -> str:
        """Say that `count` of `rows` images ended before their errors were tolerated."""
        return (
            f"the largest standard error stayed above {self.tolerance:.3g} of |f(x) - f(fill)| in {count} of {rows} "
            f"images after {drawn}; give more samples or fewer segments"
        )


P = TypeVar("P", bound=Plan)


class Ongoing(Protocol[P]):
    """A row that may need several rounds."""

    pending: int
    """Draws to make next; 0 where the row has enough."""

    @property
    def forwards(self) -> int:
        """About how many the next plan takes."""
        ...

    def plan(self) -> P:
        """Return what is to be seen next."""
        ...

    def learn(self, plan: P, answers: Tensor) -> None:
        """Take the answers ``(n, T)`` of a plan, and say in `pending` what is still wanted."""
        ...


def in_rounds(call: Call, fills: Inputs, rows: Sequence[Ongoing[P]], told: str) -> None:
    """Go on with every row of the call until it has enough; rows that go on share batches."""
    going = list(rows)
    while going:
        call.passes.expect(sum(row.forwards for row in going), told)
        for plan, answers in respond(call, fills, (row.plan() for row in going)):
            rows[plan.row].learn(plan, answers)
        going = [row for row in going if row.pending]
