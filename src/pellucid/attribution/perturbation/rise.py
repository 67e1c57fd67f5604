"""RISE: randomised soft masks, in any number of spatial axes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import Maps, affordable
from pellucid.attribution.perturbation.grids import Grid, cells_along
from pellucid.attribution.perturbation.render import Canvas, Plan, respond
from pellucid.attribution.perturbation.segmenters import shared_space
from pellucid.attribution.perturbation.separable import carry, hats

__all__ = ["SoftMasks", "rise"]

CELLS = 8
"""Default number of cells along each spatial axis."""


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

    References
    ----------
    Petsiuk et al. 2018, RISE: randomized input sampling for explanation of black-box models.
    """

    samples: Annotated[int, Field(ge=2)] = 1000
    grid: Grid = None
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    fill: Fill = "zero"

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

    def _plan(self, row: int, call: Call, generator: torch.Generator, space: tuple[int, ...]) -> SoftMasks:
        shape = (self.samples, *(cell + 1 for cell in self._cells(space)))
        grids = (torch.rand(shape, generator=generator) < self.probability).float()
        shifts = torch.rand(self.samples, len(space), generator=generator)
        device = call.inputs[0].device
        return SoftMasks(row, grids.to(device), shifts.to(device), space)

    def attribute(self, call: Call) -> Attribution:
        """Correlate masks and scores of every row."""
        space = shared_space(call.inputs, self.name)
        self._cells(space)
        affordable(self, call, self.samples, "use fewer samples")
        call.passes.expect(self.samples * len(call), "hiding random parts")
        maps = Maps(call, error=True)
        slab = call.passes.batch_size(call.inputs)
        plans = (self._plan(row, call, generator, space) for row, generator in enumerate(call.generators()))
        for plan, answers in respond(call, reference(self.fill, call.inputs, call.seeds), plans):
            mean, error = self._covariance(plan, answers.float(), slab)
            maps.put(plan.row, _over_channels(mean, call), _over_channels(error, call))
        return maps.attribution()

    def _covariance(self, plan: SoftMasks, answers: Tensor, slab: int) -> tuple[Tensor, Tensor]:
        """Return the covariance over p (1 − p) and its standard error, ``(T, *S)``."""
        centred = (answers - answers.mean(0)).T
        count, pixels = len(plan), math.prod(plan.space)
        first, second = centred.new_zeros(2, len(centred), pixels)
        for part, masks in self._slabs(plan, slab):
            first += centred[:, part] @ masks
            second += centred[:, part] ** 2 @ masks**2
        mean = first / (count - 1)
        variance = (second - first**2 / count).clamp(min=0) / (count - 1)
        scale = self.probability * (1 - self.probability)
        shape = (-1, *plan.space)
        return (mean / scale).view(shape), ((variance / count).sqrt() / scale).view(shape)

    def _slabs(self, plan: SoftMasks, slab: int) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(plan), slab):
            part = slice(start, start + slab)
            yield part, plan.masks(part).flatten(1) - self.probability


def _over_channels(fields: Tensor, call: Call) -> tuple[Tensor, ...]:
    channels = [tensor.shape[1] for tensor in call.inputs]
    spread = fields[:, None] / sum(channels)
    return tuple(spread.expand(-1, count, *fields.shape[1:]) for count in channels)
