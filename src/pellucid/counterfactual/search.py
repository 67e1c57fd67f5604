"""How a change that reaches its aim is searched for: values that print and parse, each giving a move."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.guidance import follow
from pellucid.counterfactual.moves import LatentMove, Move
from pellucid.counterfactual.parts import encoded, in_parts
from pellucid.counterfactual.support import Support
from pellucid.models import Passes
from pellucid.recipes import Recipe, Registry

__all__ = ["SEARCHES", "Problem", "Search", "latent_optimisation"]

_OUTWARD = 4.0
"""What it costs to move away from the middle of the training images, beside the step itself."""

_SMOOTH = 0.05
"""Change of a pixel, in shares of the difference between two real images, under which the price of it bends to nothing."""

_CHEAPER = (1.0, 0.25, 0.03)
"""What a large step costs at first, and when it is tried again for rows that did not arrive, as shares of the weight."""


@dataclass(frozen=True)
class Problem:
    """What is given to a search; row i depends on image i alone.

    Attributes
    ----------
    passes
        Open way through the model.
    fitted, support
        The generator and its envelope.
    x
        Images ``(N, C, *S)`` in their own units.
    aim
        What is to be reached.
    starts
        ``(N, D)`` standard normal numbers, one stream an image, for searches that need chance.
    jitter
        Size of the random step, in whitened latents, from which searches begin; 0: from the image itself.
    """

    passes: Passes
    fitted: FittedGenerator
    support: Support
    x: Tensor
    aim: Aim
    starts: Tensor
    jitter: float = 0.0


@dataclass(frozen=True, kw_only=True, repr=False)
class Search(Recipe):
    """Settings of a search."""

    control: ClassVar[bool] = False
    """Whether it is no explanation but something that a good test must see through."""

    @abstractmethod
    def find(self, problem: Problem) -> Move:
        """Return the move whose dose 1 is the best change that was found for each row, whether it reaches the aim or not."""


SEARCHES: Registry[Search] = Registry("search", Search, "pellucid.searches")  # type: ignore[type-abstract]
"""The searches by name; other packages add theirs by the entry point group ``pellucid.searches``."""


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class latent_optimisation(Search):
    """The smallest step in the latents whose change, pasted on the image, carries the score past its goal.

    Minimises the hinge of what is missing + ``weight`` × (‖u‖₁ + ‖u‖² + 4 max(0, w·u)) + ``pixels`` × the mean absolute change
    of the image, in shares of the difference between two real ones; u is the step and w the image in whitened latents, so
    that directions which real images hardly use are dear, and steps away from all real images dearer. Momentum with one step length a row: Adam's one a number would move all of them
    alike. Each row goes for itself; a row that is past its goal and no longer shrinks is done.

    Attributes
    ----------
    steps, rate
        Of the descent, in whitened latents. Rows that did not arrive get as many steps again, twice, at less of these costs.
    weight, pixels
        What a large step costs, and a large change of the image.
    patience
        Steps without a smaller success after which a row is done.
    """

    steps: Annotated[int, Field(ge=1)] = 60
    rate: Annotated[float, Field(gt=0)] = 0.1
    weight: Annotated[float, Field(ge=0)] = 0.02
    pixels: Annotated[float, Field(ge=0)] = 4.0
    patience: Annotated[int, Field(ge=1)] = 8

    def find(self, problem: Problem) -> Move:
        """Search by the slopes of the score.

        Raises
        ------
        CannotExplain
            When no derivatives reach the image.
        """
        x = problem.x
        with torch.no_grad():
            z = encoded(problem.fitted, x)
        move = LatentMove(problem.fitted, problem.support, x, z, torch.zeros_like(z))
        for rows in in_parts(torch.arange(len(x)), problem.passes.batch_size((x,))):
            climb = _Climb(problem, move, rows, problem.jitter * problem.starts[rows].to(z))
            for share in _CHEAPER:
                if not bool(climb.arrived.all()):
                    climb.run(self, share)
            move.step[rows] = climb.best @ problem.support.colour
        return move


class _Climb:
    """Descent on the steps of some rows, each stopping for itself."""

    def __init__(self, problem: Problem, move: LatentMove, rows: Tensor, start: Tensor) -> None:
        self.problem, self.move, self.rows = problem, move, rows
        self.white = problem.support.whitened(move.z[rows])
        self.now, self.best = start, start.clone()
        self.cost = torch.full((len(rows),), torch.inf)
        self.missing = torch.full((len(rows),), torch.inf)
        self.arrived = torch.zeros(len(rows), dtype=torch.bool)

    def run(self, search: latent_optimisation, share: float) -> None:
        """Take the search's steps with the rows that have not arrived, at a share of what changes cost."""
        busy = torch.nonzero(~self.arrived)[:, 0]
        first, second = torch.zeros_like(self.now), torch.zeros_like(self.now[:, :1])
        idle = torch.zeros(len(self.rows), dtype=torch.long)
        for count in range(1, search.steps + 1):
            slopes = self._look(busy, search, share, idle)
            busy_now = idle[busy] < search.patience
            busy, slopes = busy[busy_now], slopes[busy_now]
            if not len(busy):
                break
            first[busy] = 0.9 * first[busy] + 0.1 * slopes
            second[busy] = 0.99 * second[busy] + 0.01 * slopes.square().sum(1, keepdim=True)
            scaled = first[busy] / (1 - 0.9**count) / ((second[busy] / (1 - 0.99**count)).sqrt() + 1e-8)
            self.now[busy] -= search.rate * scaled

    def _look(self, busy: Tensor, search: latent_optimisation, share: float, idle: Tensor) -> Tensor:
        """Judge where the rows stand, keep what is best, and return the slopes of the loss."""
        problem, rows = self.problem, self.rows[busy]
        u = self.now[busy].detach().requires_grad_()
        images = self.move.made(self.move.z[rows] + u @ problem.support.colour, rows)
        scores, slopes = follow(problem.passes, images, problem.aim.read, rows)
        gap = problem.aim.gap(scores, rows)
        price = self._price(u, busy, images, search)
        self._keep(busy, u.detach(), gap, price.detach().cpu(), idle)
        pull = -problem.aim.direction[rows] / problem.aim.scale[rows] * (gap > 0)
        down = slopes * pull.view(-1, *[1] * (slopes.ndim - 1))
        (found,) = torch.autograd.grad([images, price], u, [down, torch.full_like(price, share)])
        return found

    def _price(self, u: Tensor, busy: Tensor, images: Tensor, search: latent_optimisation) -> Tensor:
        """Return what each row's step costs ``(B,)``."""
        scale = max(self.problem.support.typical_difference, 1e-12)
        change = (images - self.problem.x[self.rows[busy]].to(images)) / scale
        seen = ((change.square() + _SMOOTH**2).sqrt() - _SMOOTH).flatten(1).mean(1)
        outward = (self.white[busy] * u).sum(1).clamp(min=0)
        step = u.abs().sum(1) + u.square().sum(1) + _OUTWARD * outward
        return search.weight * step + search.pixels * seen

    def _keep(self, busy: Tensor, u: Tensor, gap: Tensor, cost: Tensor, idle: Tensor) -> None:
        gap = gap.cpu()
        past, before = gap <= 0, self.arrived[busy]
        better = torch.where(past, ~before | (cost < 0.99 * self.cost[busy]), ~before & (gap < self.missing[busy]))
        kept = busy[better]
        self.best[kept] = u[better]
        self.cost[kept] = torch.where(past, cost, torch.inf)[better]
        self.missing[kept] = gap[better]
        self.arrived[busy] |= past
        idle[busy] = torch.where(self.arrived[busy], torch.where(better, 0, idle[busy] + 1), 0)
