"""Extremal perturbations: the smooth mask of a given area that keeps the score highest."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from pellucid.attribution.fills import BLUR, FillValue, as_image, gaussian_blur, known, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import affordable
from pellucid.attribution.perturbation.grids import Grid, cells_along
from pellucid.attribution.perturbation.segmenters import shared_space
from pellucid.attribution.perturbation.separable import carry, hats
from pellucid.models import Inputs, take_rows

__all__ = ["extremal_perturbation"]

CELLS, CELLS_ON_A_LINE = 12, 32
"""Default number of cells of the mask along each spatial axis, and where there is only one."""

LEVELS = 6
"""Images of the pyramid, from the sharp one to that of the fill "blur"."""

STEP, MOMENTUM, CAP = 0.1, 0.8, 4.0
"""Of the climb: the step, what it keeps of the one before, and the slope of the score above which it is cut."""

START, SHRINK = 0.9, 0.7
"""What the mask shows everywhere at first, and the share of the steps after which its area is no longer shrunk."""

HALVINGS, CONTRAST = 30, 4.0
"""How a mask is cut at the end: an edge is a quarter of a cell wide."""

HOLD = (0.1, 100.0)
"""Weight of the area's constraint in the first and in the last step, beside a score that runs from 0 to 1."""

PYRAMID = "blur_pyramid"


def _fill(value: FillValue) -> FillValue:
    return value if value == PYRAMID else known(value)


def _areas(areas: tuple[float, ...]) -> tuple[float, ...]:
    if list(areas) != sorted(set(areas)):
        raise ValueError("areas rise from the smallest to the largest")
    return areas


Areas = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1), AfterValidator(_areas)]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class extremal_perturbation(Method):
    """The smallest smooth part of the image that is enough for the score, the rest blurred.

    For each area a mask on a coarse grid, carried to the pixels by linear interpolation, climbs the score of the image
    that it shows; its sorted pixels are held to so many ones and zeros, as in the paper, ever more strongly. A pixel's
    value is the share of areas whose mask shows it, spread evenly over the channels: high where even the smallest mask
    must show the image. ``details["scores"]`` holds the score under each area's mask, ``details["areas"]`` the area that
    each mask has, ``details["masks"]`` the masks, and ``details["smallest"]`` the first area that is enough (NaN where
    none is). Nothing is drawn at random.

    Attributes
    ----------
    areas
        Shares of the image to show, rising.
    steps
        Of the climb, for each area.
    grid
        Cells of the mask, one number or one an axis (Y, X); default 12 along each axis, fewer on small axes.
    fill
        What stands in for hidden pixels: ``"blur_pyramid"`` blurs the more the lower the mask, up to `FILLS`' "blur";
        any other fill is blended in.
    enough
        Part of f(x) − f(fill) above f(fill) that a mask must keep to be called enough.

    References
    ----------
    Fong, Patrick & Vedaldi 2019, Understanding deep networks via extremal perturbations and smooth masks.
    """

    areas: Areas = (0.05, 0.1, 0.2, 0.4)
    steps: Annotated[int, Field(ge=1)] = 100
    grid: Grid = None
    fill: Annotated[FillValue, BeforeValidator(as_image), AfterValidator(_fill)] = PYRAMID
    enough: Annotated[float, Field(gt=0, le=1)] = 0.9

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="What is the smallest part of the image that is enough for the score?",
        needs=("gradients",),
        sign="positive",
        cost="areas x (steps + 1) forwards, areas x steps backwards",
        reference="Fong, Patrick & Vedaldi 2019, Understanding deep networks via extremal perturbations and smooth masks",
        warning="a mask may keep a score by what only a mask can make: compare the scores of several areas",
        mechanism="optimisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Climb for every row and area; masks share batches and know nothing of each other."""
        space = shared_space(call.inputs, self.name)
        cells = cells_along(str(self), self.grid if self.grid is not None else _default(space), space, CELLS)
        affordable(self, call, len(self.areas) * (self.steps + 1), "use fewer areas or steps")
        empty, areas = self._empty(call), torch.tensor(self.areas, dtype=torch.float64)
        jobs, size = len(call) * len(areas), call.passes.batch_size(call.inputs)
        call.passes.expect(jobs * (2 * self.steps + 1), "growing masks")
        found = []
        for start in range(0, jobs, size):
            members = torch.arange(start, min(start + size, jobs))
            owner = members // len(areas)
            found.append(_Climb(call, self, cells, owner, areas[members % len(areas)], empty[owner]).run())
        masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        masks, scores = masks.view(len(call), -1, *space), scores.view(len(call), -1)
        return self._told(call, masks, scores.to(call.output), empty)

    def _empty(self, call: Call) -> Tensor:
        fill = reference("blur" if self.fill == PYRAMID else self.fill, call.inputs, call.seeds)
        return call.passes.scores(fill, call.read)

    def levels(self, inputs: Inputs, seeds: tuple[int, ...]) -> Inputs:
        """Return the images that a mask leads through from 0 to 1, ``(L, B, C, *S)`` an input."""
        if self.fill != PYRAMID:
            return tuple(torch.stack(pair) for pair in zip(reference(self.fill, inputs, seeds), inputs, strict=True))
        widest = [BLUR * min(x.shape[2:]) for x in inputs]
        left = [1 - level / (LEVELS - 1) for level in range(LEVELS)]
        return tuple(
            torch.stack([gaussian_blur(x, sigma * share) for share in left])
            for x, sigma in zip(inputs, widest, strict=True)
        )

    def _told(self, call: Call, masks: Tensor, scores: Tensor, empty: Tensor) -> Attribution:
        wanted = empty + self.enough * (call.output - empty)
        reached = torch.where((call.output >= empty)[:, None], scores >= wanted[:, None], scores <= wanted[:, None])
        areas = torch.tensor(self.areas)
        smallest = torch.where(reached.cpu(), areas, torch.inf).amin(1)
        channels = sum(tensor.shape[1] for tensor in call.inputs)
        density = (masks.mean(1, keepdim=True) / channels).to(call.inputs[0])
        details = {
            "scores": scores.cpu(),
            "areas": masks.flatten(2).mean(2).float().cpu(),
            "masks": masks.float().cpu(),
            "smallest": torch.where(smallest.isinf(), torch.nan, smallest),
        }
        values = tuple(density.expand(-1, tensor.shape[1], *tensor.shape[2:]).clone() for tensor in call.inputs)
        return Attribution(values, details=details)


def _default(space: tuple[int, ...]) -> tuple[int, ...]:
    most = CELLS_ON_A_LINE if len(space) == 1 else CELLS
    return tuple(min(most, max(1, size // 3)) for size in space)


class _Climb:
    """A slab of masks on their way up, each for one row and one area."""

    def __init__(
        self,
        call: Call,
        method: extremal_perturbation,
        cells: tuple[int, ...],
        owner: Tensor,
        areas: Tensor,
        empty: Tensor,
    ) -> None:
        self.call, self.steps, self.owner, self.areas = call, method.steps, owner, areas
        inputs = take_rows(call.inputs, owner)
        device = inputs[0].device
        self.levels = method.levels(inputs, tuple(call.seeds[row] for row in owner.tolist()))
        middle = torch.tensor([0.5], device=device)
        self.carriers = [
            hats(size, cell, middle).double() for size, cell in zip(inputs[0].shape[2:], cells, strict=True)
        ]
        rise = (call.output[owner] - empty).abs().double()
        floor = 1e-3 * (call.output[owner].abs() + empty.abs()).double()
        self.scale = torch.maximum(rise, floor).clamp(min=torch.finfo(torch.float32).tiny)
        shape = (len(owner), *(cell + 1 for cell in cells))
        self.knots = torch.full(shape, START, dtype=torch.float64, device=device)

    def run(self) -> tuple[Tensor, Tensor]:
        """Return the masks ``(B, *S)`` and the scores of what they show."""
        speed = torch.zeros_like(self.knots)
        for step in range(self.steps):
            hold = HOLD[0] * (HOLD[1] / HOLD[0]) ** (step / max(1, self.steps - 1))
            areas = self.areas ** min(1.0, (step + 1) / (SHRINK * self.steps))
            speed = MOMENTUM * speed + STEP * self._uphill(hold, areas)
            self.knots = (self.knots + speed).clamp(0, 1)
        masks = self._settled()
        return masks, self.call.passes.scores(self._shown(masks), self.call.read, self.owner)

    def _settled(self) -> Tensor:
        """Return the masks cut, with steep but smooth edges, at the level that gives each its area."""
        masks = carry(self.knots, self.carriers)
        low, high = masks.new_full((len(masks), 1), -1), masks.new_full((len(masks), 1), 2)
        for _ in range(HALVINGS):
            level = (low + high) / 2
            cut = (0.5 + CONTRAST * (masks.flatten(1) - level)).clamp(0, 1)
            above = cut.mean(1, keepdim=True) > self.areas.to(masks)[:, None]
            low, high = torch.where(above, level, low), torch.where(above, high, level)
        return cut.view_as(masks)

    def _uphill(self, hold: float, areas: Tensor) -> Tensor:
        """Return the direction in which the score rises and the sorted mask nears its ones and zeros."""
        knots = self.knots.clone().requires_grad_()
        with torch.enable_grad():
            masks = carry(knots, self.carriers)
            shown = self._shown(masks)
            away = (masks.flatten(1).sort(1).values - _ideal(masks, areas)).square().mean(1)
        _, _, slopes = self.call.passes.gradient(tuple(x.detach() for x in shown), self.call.read, self.owner)
        (score,) = torch.autograd.grad(shown, knots, slopes, retain_graph=True)
        (held,) = torch.autograd.grad(away.sum(), knots)
        number = knots[0].numel()
        scale = self.scale.view(-1, *[1] * (knots.ndim - 1))
        return number * ((score / scale).clamp(-CAP / number, CAP / number) - hold * held) / (1 + hold)

    def _shown(self, masks: Tensor) -> Inputs:
        """Return the images that the masks show, from the pyramid's levels on either side."""
        shown = []
        for levels in self.levels:
            height = (masks * (len(levels) - 1)).to(levels.dtype)[:, None]
            weights = [(1 - (height - level).abs()).clamp(min=0) for level in range(len(levels))]
            shown.append(
                sum((w * image for w, image in zip(weights, levels, strict=True)), start=torch.zeros_like(levels[0]))
            )
        return tuple(shown)


def _ideal(masks: Tensor, areas: Tensor) -> Tensor:
    """Return the sorted mask of each area, zeros and then ones ``(B, P)``."""
    pixels = masks[0].numel()
    places = torch.arange(pixels, 0, -1, device=masks.device)
    return (areas.to(masks.device)[:, None] * pixels - places + 1).clamp(0, 1)
