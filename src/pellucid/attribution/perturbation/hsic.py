"""HSIC: how strongly the score depends on each cell of a grid being shown."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import ROUNDING, Game, Maps, unmoved
from pellucid.attribution.perturbation.grids import Grid
from pellucid.attribution.perturbation.samplers import Design
from pellucid.errors import CannotExplain

__all__ = ["dependence", "hsic"]

KERNEL = 4096
"""Samples above which a kernel of samples x samples is refused."""


def _centred_kernel(values: Tensor) -> Tensor:
    """Return the U-centred Gaussian kernel ``(n, n)`` of ``(n,)``, its width the median distance of unequal values."""
    count = len(values)
    distance = (values[:, None] - values).abs()
    unequal = distance[distance > math.sqrt(ROUNDING) * values.square().mean().sqrt()]
    kernel = distance.div_(unequal.median()).square_().div_(-2).exp_().fill_diagonal_(0)  # samples squared: in place
    rows = kernel.sum(0) / (count - 2)
    kernel.sub_(rows[:, None]).sub_(rows).add_(rows.sum() / (count - 1))
    return kernel.fill_diagonal_(0)


def dependence(masks: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unbiased HSIC ``(players, T)``, its standard deviation ``(T,)`` for a cell without effect, and flat targets.

    The kernel of a cell is 1 for equal masks and 0 for unequal ones; the kernel of the score is Gaussian. The estimate is
    the U-statistic: zero in expectation where cell and score are independent.

    Parameters
    ----------
    masks
        Boolean ``(n, players)``, each True with probability a half, independently.
    answers
        ``(n, T)``.

    References
    ----------
    Novello et al. 2022, Making sense of dependence; Song et al. 2012, Feature selection via dependence maximization.
    """
    values, signs = answers.cpu().double(), 2 * masks.double() - 1
    pairs = 2 * len(values) * (len(values) - 3)
    still = unmoved(values)
    found = torch.zeros(masks.shape[1], len(still), dtype=torch.float64)
    noise = torch.zeros(len(still), dtype=torch.float64)
    for target in (~still).nonzero()[:, 0].tolist():
        kernel = _centred_kernel(values[:, target])
        found[:, target] = (signs * (kernel @ signs)).sum(0) / pairs
        noise[target] = (2 * kernel.square().sum()).sqrt() / pairs
    return found, noise, still


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class hsic(Method):
    """How strongly the score depends, in whatever way, on each place being shown or hidden.

    Each cell of a grid is kept with probability a half; a cell's value is the Hilbert-Schmidt independence criterion
    between its being kept and the score, with the kernel "equal or not" on the cell and a Gaussian one, of the median
    width, on the score. ``details["effects"]`` holds the unbiased estimates, which noise alone takes below zero; the
    map shows those as 0. ``details["noise"]`` is their standard deviation in a cell without effect. Values are spread
    evenly over the cell and have no sign.

    Attributes
    ----------
    grid
        Cells, one number or one an axis (Y, X); default about 64 near-cubic ones.
    samples
        Forwards.
    fill
        What stands in for hidden cells.

    References
    ----------
    Novello et al. 2022, Making sense of dependence: efficient black-box explanations using dependence measure.
    """

    grid: Grid = None
    samples: Annotated[int, Field(ge=4)] = 1000
    fill: Fill = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="On which places being seen does the score depend, in whatever way?",
        sign="unsigned",
        cost="samples forwards",
        reference="Novello et al. 2022, Making sense of dependence: efficient black-box explanations using "
        "dependence measure",
        warning="does not say whether a place speaks for or against; a purely joint effect of two cells is not seen",
        mechanism="sensitivity analysis",
    )

    def attribute(self, call: Call) -> Attribution:
        """Measure the dependence on every cell of every row."""
        if self.samples > KERNEL:
            raise CannotExplain(
                f"{self} would take {self.samples:,} forwards an image and a kernel of {self.samples**2 * 8 / 1e9:.1f} GB; "
                f"use at most {KERNEL:,} samples"
            )
        game = Game.on_grid(call, self, self.grid, self.fill)
        maps, effects, noises, still = Maps(call, error=False), [], [], []
        for row, segmentation, design, answers in game.play(self._design, self.samples):
            found, noise, flat = dependence(cast("Design", design).masks, answers)
            maps.put(row, segmentation.spread(found.clamp(min=0)))
            effects.append(found)
            noises.append(noise)
            still.append(flat)
        details = {**game.details(maps, effects), "noise": maps.detail(torch.stack(noises).float())}
        return maps.attribution(warnings=game.moved(maps, still), details=details)

    def _design(self, players: int, generator: torch.Generator) -> Design:
        masks = torch.rand(self.samples, players, generator=generator) < 0.5
        return Design(masks, torch.ones(self.samples))
