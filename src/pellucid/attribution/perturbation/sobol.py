"""Total Sobol indices: the part of the score's variance, under random dimming, in which a cell has a hand."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import AfterValidator, Field
from scipy.stats import qmc
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import CELLS, Game, Maps, affordable, unmoved
from pellucid.attribution.perturbation.grids import Grid, cells_along
from pellucid.attribution.perturbation.segmenters import shared_space
from pellucid.errors import CannotExplain
from pellucid.models import Inputs

__all__ = ["PickFreeze", "pick_freeze", "sobol", "total_indices"]


@dataclass(frozen=True, eq=False)
class PickFreeze:
    """Two independent sets of soft masks A and B, and for each cell A with that cell taken from B.

    Attributes
    ----------
    first, second
        ``(samples, players)`` in [0, 1].
    """

    first: Tensor
    second: Tensor

    def __len__(self) -> int:
        samples, players = self.first.shape
        return samples * (players + 2)

    def members(self, part: slice) -> Tensor:
        """Return some masks in the order A, B, cell by cell, made on demand."""
        samples, players = self.first.shape
        numbers = torch.arange(len(self))[part]
        block, row = numbers // samples, numbers % samples
        from_second = (block == 1)[:, None] | (torch.arange(players) == block[:, None] - 2)
        return torch.where(from_second, self.second[row], self.first[row])


def pick_freeze(players: int, samples: int, seed: int) -> PickFreeze:
    """Return masks from a Sobol sequence of 2 x players dimensions, scrambled by `seed`."""
    points = qmc.Sobol(2 * players, seed=seed).random_base2(int(math.log2(samples)))
    return PickFreeze(*torch.from_numpy(points).float().chunk(2, dim=1))


def total_indices(design: PickFreeze, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return total-order indices ``(players, T)`` by Jansen's estimator, their errors, and which targets never change.

    The standard error is the jackknife over the points of the design; taken as if they were independent, so that it is
    rather too large for a quasi-Monte-Carlo design.

    References
    ----------
    Jansen 1999, Analysis of variance designs for model output; Efron 1981, The jackknife.
    """
    samples = len(design.first)
    values = answers.cpu().double()
    base, swapped = values[: 2 * samples], values[2 * samples :].view(-1, samples, values.shape[1])
    still = unmoved(base)
    steps = (base[:samples] - swapped).square() / 2
    indices = steps.mean(1) / _variance(base, still)
    left = [base[torch.arange(2 * samples) % samples != point] for point in range(samples)]
    spread = torch.stack([_variance(kept, still) for kept in left])
    without = (steps.sum(1, keepdim=True) - steps) / (samples - 1) / spread
    error = ((without - without.mean(1, keepdim=True)).square().sum(1) * (samples - 1) / samples).sqrt()
    return torch.where(still, 0.0, indices), torch.where(still, 0.0, error), still


def _variance(values: Tensor, still: Tensor) -> Tensor:
    return torch.where(still, 1.0, values.var(0)).clamp(min=torch.finfo(torch.float64).tiny)


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError("a quasi-Monte-Carlo design takes a power of two")
    return number


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class sobol(Method):
    """The part of the score's variance, under random dimming of the image, in which each place has a hand.

    Each cell of a grid is blended into the fill by a random number in [0, 1]. A cell's total index is the share of
    the variance that is left when all other cells are held, its own effect and all its interactions; so indices
    exceed 1 in sum where cells interact. It is spread evenly over the cell; ``details["effects"]`` has it whole. It
    has no sign: it does not say whether the cell speaks for or against. `error` is its standard error, rather too large.
    There is no stopping rule: a quasi-Monte-Carlo design is good as a whole.

    Attributes
    ----------
    grid
        Cells, one number or one an axis (Y, X); default about 64 near-cubic ones.
    samples
        Points of the design, a power of two.
    fill
        What dimmed pixels fade into.

    References
    ----------
    Fel et al. 2021, Look at the variance! Efficient black-box explanations with Sobol-based sensitivity analysis.
    """

    grid: Grid = None
    samples: Annotated[int, Field(ge=2), AfterValidator(_power_of_two)] = 32
    fill: Fill = "zero"

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="In how much of the score's variation, under random dimming, does each place have a hand?",
        sign="unsigned",
        cost="samples x (cells + 2) forwards",
        reference="Fel et al. 2021, Look at the variance! Efficient black-box explanations with Sobol-based "
        "sensitivity analysis",
        warning="does not say whether a place speaks for or against; interactions are counted in every cell they join",
        mechanism="sensitivity analysis",
    )

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the forwards of the design."""
        cells = cells_along(str(self), self.grid, shared_space(inputs, self.name), CELLS)
        return self.samples * (math.prod(cells) + 2)

    def attribute(self, call: Call) -> Attribution:
        """Estimate the total indices of every row."""
        game = Game.on_grid(call, self, self.grid, self.fill)
        forwards = self.samples * (game.most + 2)
        affordable(self, call, forwards, "use fewer samples or a coarser grid")
        if 2 * game.most > qmc.Sobol.MAXDIM:
            raise CannotExplain(
                f"{self}: {game.most:,} cells need {2 * game.most:,} dimensions, about {forwards:,} forwards an image, and "
                f"Sobol sequences have {qmc.Sobol.MAXDIM:,}; use a coarser grid"
            )
        maps, effects, still = Maps(call, error=True), [], []
        for row, segmentation, design, answers in game.play(self._design, forwards):
            indices, error, flat = total_indices(cast("PickFreeze", design), answers)
            maps.put(row, segmentation.spread(indices), segmentation.spread(error))
            effects.append(indices)
            still.append(flat)
        return maps.attribution(warnings=game.moved(maps, still), details=game.details(maps, effects))

    def _design(self, players: int, generator: torch.Generator) -> PickFreeze:
        return pick_freeze(players, self.samples, generator.initial_seed())
