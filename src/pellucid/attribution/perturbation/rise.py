"""RISE: randomised soft masks, in any number of spatial axes."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import Maps, affordable
from pellucid.attribution.perturbation.grids import Grid, cells_along
from pellucid.attribution.perturbation.render import Canvas, Plan
from pellucid.attribution.perturbation.segmenters import shared_space
from pellucid.attribution.perturbation.separable import carry, hats
from pellucid.attribution.perturbation.stopping import PILOT, Rule, Tolerance, in_rounds
from pellucid.models import Inputs

__all__ = ["SoftMasks", "covariance", "rise"]

CELLS = 8
"""Default number of cells along each spatial axis."""

ENOUGH = 10
"""Pilots of a stopping rule that looks at many pixels at once."""


@dataclass(frozen=True, eq=False)
class SoftMasks(Plan):
    """Random grids of kept cells, blown up smoothly and shifted by less than a cell without wrapping.

    Attributes
    ----------
    row
        The explained row.
    grids
        ``(n, *G)`` of 0 and 1, one cell more than fits along each axis.
    shifts
        ``(n, axes)`` in cells.
    space
        The spatial axes.
    """

    row: int
    grids: Tensor
    shifts: Tensor
    space: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.grids)

    def masks(self, part: slice) -> Tensor:
        """Return soft masks ``(n, *S)`` in [0, 1], each pixel with mean `probability`."""
        grids, shifts = self.grids[part], self.shifts[part]
        weights = [
            hats(size, cells - 1, shifts[:, axis])
            for axis, (size, cells) in enumerate(zip(self.space, grids.shape[1:], strict=True))
        ]
        return carry(grids, weights)

    def with_more(self, more: "SoftMasks") -> "SoftMasks":
        """Return these masks and more of the same row."""
        return replace(self, grids=torch.cat([self.grids, more.grids]), shifts=torch.cat([self.shifts, more.shifts]))

    def paint(self, canvas: Canvas, place: slice, part: slice) -> None:
        """Blend the image into the fill."""
        masks = self.masks(part)[:, None]
        for slots, x, fill in zip(canvas.slots, canvas.inputs, canvas.fills, strict=True):
            torch.lerp(fill[self.row], x[self.row], masks.to(x), out=slots[place])


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class rise(Method):
    """Which places go with a high score when random parts of the image are seen: a smooth, signed map.

    A pixel's value is the covariance of its mask with the score divided by p (1 − p), so that a constant model gives
    0; it is spread evenly over the channels. `error` is its standard error.

    Attributes
    ----------
    samples
        Forwards.
    grid
        Cells, one number or one an axis (Y, X); default 8 along each, fewer on smaller axes.
    probability
        With which a cell is kept.
    fill
        What stands in for hidden pixels.
    tolerance
        Stop a row when its largest standard error (of a pixel's value before it is spread over channels) is below this
        part of |f(x) − f(fill)|; None draws all samples. ``details["samples"]`` says how many were drawn.

    References
    ----------
    Petsiuk et al. 2018, RISE: randomized input sampling for explanation of black-box models.
    """

    samples: Annotated[int, Field(ge=2)] = 1000
    grid: Grid = None
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    fill: Fill = "zero"
    tolerance: Tolerance | None = None

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="Which places go with a high score when only random parts of the image are seen?",
        cost="samples forwards",
        reference="Petsiuk et al. 2018, RISE: randomized input sampling for explanation of black-box models",
        warning="evidence smaller than a grid cell is smeared over the cell",
        mechanism="perturbation",
    )

    def _cells(self, space: tuple[int, ...]) -> tuple[int, ...]:
        if self.grid is None:
            return tuple(min(CELLS, size) for size in space)
        return cells_along(str(self), self.grid, space, CELLS)

    def draw(self, row: int, samples: int, call: Call, generator: torch.Generator, space: tuple[int, ...]) -> SoftMasks:
        """Return so many soft masks."""
        shape = (samples, *(cell + 1 for cell in self._cells(space)))
        grids = (torch.rand(shape, generator=generator) < self.probability).float()
        shifts = torch.rand(samples, len(space), generator=generator)
        device = call.inputs[0].device
        return SoftMasks(row, grids.to(device), shifts.to(device), space)

    def planned_forwards(self, inputs: Inputs) -> int:  # noqa: ARG002  # whatever the images
        """Return the samples."""
        return self.samples + (self.tolerance is not None)

    def attribute(self, call: Call) -> Attribution:
        """Correlate masks and scores of every row."""
        space = shared_space(call.inputs, self.name)
        self._cells(space)
        affordable(self, call, self.samples, "use fewer samples")
        maps, fills = Maps(call, error=True), reference(self.fill, call.inputs, call.seeds)
        difference = torch.zeros_like(maps.outputs)
        if self.tolerance is not None:
            shown = tuple(fill.clone() for fill in fills)
            difference = maps.outputs - call.passes.scores(shown, call.read).reshape(len(call), -1)
        rule = Rule(self.samples, self.tolerance, ENOUGH * PILOT)
        rows = [_Row(row, call, self, space, rule, difference[row], own) for row, own in enumerate(call.generators())]
        in_rounds(call, fills, rows, "hiding random parts")
        for row in rows:
            maps.put(row.number, _over_channels(row.mean, call), _over_channels(row.error, call))
        short = torch.stack([rule.excess(row.error.flatten(1).T, row.difference) > 1 for row in rows])
        missed = maps.doubts(short, lambda count: rule.missed(count, len(rows), f"{self.samples:,} samples"))
        drawn = torch.tensor([len(row.masks) for row in rows])
        return maps.attribution(warnings=missed, details={"samples": drawn})


@dataclass(eq=False)
class _Row:
    """One row's masks and answers so far, and what they say of every pixel, ``(T, *S)``."""

    number: int
    call: Call
    method: rise
    space: tuple[int, ...]
    rule: Rule
    difference: Tensor
    generator: torch.Generator

    def __post_init__(self) -> None:
        self.pending = self.rule.first()
        self.masks = self.method.draw(self.number, 0, self.call, self.generator, self.space)
        self.answers = self.difference.new_zeros(0, len(self.difference))

    @property
    def forwards(self) -> int:
        return self.pending

    def plan(self) -> SoftMasks:
        return self.method.draw(self.number, self.pending, self.call, self.generator, self.space)

    def learn(self, plan: SoftMasks, answers: Tensor) -> None:
        self.masks = self.masks.with_more(plan)
        self.answers = torch.cat([self.answers, answers.float()])
        slab = self.call.passes.batch_size(self.call.inputs)
        self.mean, self.error = covariance(self.masks, self.answers, self.method.probability, slab)
        enough = self.rule.tolerance is None
        self.pending = 0 if enough else self.rule.more(len(self.masks), self.error.flatten(1).T, self.difference)


def covariance(plan: SoftMasks, answers: Tensor, probability: float, slab: int) -> tuple[Tensor, Tensor]:
    """Return the covariance of masks and answers over p (1 − p) and its standard error, ``(T, *S)``; `slab` masks live."""
    centred = (answers - answers.mean(0)).T
    count, pixels = len(plan), math.prod(plan.space)
    first, second = centred.new_zeros(2, len(centred), pixels)
    for start in range(0, count, slab):
        part = slice(start, start + slab)
        masks = plan.masks(part).flatten(1) - probability
        first += centred[:, part] @ masks
        second += centred[:, part] ** 2 @ masks**2
    mean = first / (count - 1)
    variance = (second - first**2 / count).clamp(min=0) / (count - 1)
    scale = probability * (1 - probability)
    shape = (-1, *plan.space)
    return (mean / scale).view(shape), ((variance / count).sqrt() / scale).view(shape)


def _over_channels(fields: Tensor, call: Call) -> tuple[Tensor, ...]:
    channels = [tensor.shape[1] for tensor in call.inputs]
    spread = fields[:, None] / sum(channels)
    return tuple(spread.expand(-1, count, *fields.shape[1:]) for count in channels)
