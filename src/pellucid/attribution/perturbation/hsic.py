"""HSIC: how strongly the score depends on each cell of a grid being shown."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.fitters import Fit
from pellucid.attribution.perturbation.game import ROUNDING, Game, Maps, affordable, unmoved
from pellucid.attribution.perturbation.grids import Grid
from pellucid.attribution.perturbation.samplers import Design
from pellucid.models import Inputs

__all__ = ["dependence", "hsic"]

BLOCK = 512
"""Rows of the kernel that live at a time: memory grows with the samples, not with their square."""


def _median_distance(values: Tensor) -> Tensor:
    """Return the lower median distance of unequal values ``(n,)``, found by counting pairs instead of listing them."""
    ordered = values.sort().values
    least = math.sqrt(ROUNDING) * values.square().mean().sqrt()

    def pairs(distance: Tensor) -> int:
        return int(
            (torch.searchsorted(ordered, ordered + distance, right=True) - torch.arange(1, len(ordered) + 1)).sum()
        )

    equal = pairs(least)
    wanted = equal + (len(values) * (len(values) - 1) // 2 - equal + 1) // 2
    low, high = least, ordered[-1] - ordered[0]
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if pairs(middle) >= wanted else (middle, high)
    return high


def _kernel_rows(values: Tensor, width: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks ``(b, n)`` of the Gaussian kernel of ``(n,)``, zero on its diagonal."""
    for start in range(0, len(values), BLOCK):
        part = slice(start, min(start + BLOCK, len(values)))
        kernel = ((values[part, None] - values) / width).square_().div_(-2).exp_()
        kernel[torch.arange(len(kernel)), torch.arange(part.start, part.stop)] = 0
        yield part, kernel


def _dependences(values: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Return each sample's part ``(n, players)`` in Σ s K s with K U-centred, and Σ K²."""
    count, width = len(values), _median_distance(values)
    rows = torch.cat([kernel.sum(1) for _, kernel in _kernel_rows(values, width)]) / (count - 2)
    constant = rows.sum() / (count - 1)
    parts, squares = torch.empty_like(signs), values.new_zeros(())
    for part, kernel in _kernel_rows(values, width):
        kernel.add_(constant - rows[part, None]).sub_(rows)
        kernel[torch.arange(len(kernel)), torch.arange(part.start, part.stop)] = 0
        parts[part] = signs[part] * (kernel @ signs)
        squares += kernel.square().sum()
    return parts, squares


def dependence(masks: Tensor, answers: Tensor) -> tuple[Fit, Tensor, Tensor]:
    """Return unbiased HSIC ``(players, T)`` with its error, its spread ``(T,)`` without effect, and flat targets.

    The kernel of a cell is 1 for equal masks and 0 for unequal ones; the kernel of the score is Gaussian. The estimate is
    the U-statistic: zero in expectation where cell and score are independent. Its error comes from the spread of the
    samples' parts in it, and is never below the spread without effect.

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
    count = len(values)
    pairs = 2 * count * (count - 3)
    still = unmoved(values)
    found, error = torch.zeros(2, masks.shape[1], len(still), dtype=torch.float64)
    noise = torch.zeros(len(still), dtype=torch.float64)
    for target in (~still).nonzero()[:, 0].tolist():
        parts, squares = _dependences(values[:, target], signs)
        found[:, target] = parts.sum(0) / pairs
        noise[target] = (2 * squares).sqrt() / pairs
        parted = 4 * (parts * count / pairs).var(0) / count  # which counts the spread without effect twice
        error[:, target] = (parted - noise[target] ** 2).clamp(min=noise[target] ** 2).sqrt()
    return Fit(found, error), noise, still


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class hsic(Method):
    """How strongly the score depends, in whatever way, on each place being shown or hidden.

    Each cell of a grid is kept with probability a half; a cell's value is the Hilbert-Schmidt independence criterion
    between its being kept and the score, with the kernel "equal or not" on the cell and a Gaussian one, of the median
    width, on the score. ``details["effects"]`` holds the unbiased estimates, which noise alone takes below zero; the
    map shows those as 0. `error` is their standard error, ``details["noise"]`` their standard deviation in a cell without
    effect. Values are spread evenly over the cell and have no sign. There is no stopping rule: the kernel's width is
    settled by all samples.

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

    shares_forwards: ClassVar[bool] = True
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

    def planned_forwards(self, inputs: Inputs) -> int:  # noqa: ARG002  # whatever the images
        """Return the samples."""
        return self.samples

    def attribute(self, call: Call) -> Attribution:
        """Measure the dependence on every cell of every row."""
        affordable(self, call, self.samples, "use fewer samples")
        game = Game.on_grid(call, self, self.grid, self.fill)
        maps, effects, noises, still = Maps(call, error=True), [], [], []
        for row, segmentation, design, answers in game.play(self._design, self.samples):
            fit, noise, flat = dependence(cast("Design", design).masks, answers)
            maps.put(row, segmentation.spread(fit.effects.clamp(min=0)), segmentation.spread(fit.error))
            effects.append(fit.effects)
            noises.append(noise)
            still.append(flat)
        details = {**game.details(maps, effects), "noise": maps.detail(torch.stack(noises).float())}
        return maps.attribution(warnings=game.moved(maps, still), details=details)

    def _design(self, players: int, generator: torch.Generator) -> Design:
        masks = torch.rand(self.samples, players, generator=generator) < 0.5
        return Design(masks, torch.ones(self.samples))
