"""Guided integrated gradients: a path that moves first what the output hardly depends on."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill, meaning, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import packs
from pellucid.attribution.path import until_complete
from pellucid.models import Inputs, take_rows

__all__ = ["guided_ig"]

_FEWEST = 32
"""Steps to begin with: the path bends at every step, and with fewer it hardly leaves the straight line."""

_PLACES = (0.125, 0.375, 0.625, 0.875)
"""Where on a step its gradients are taken: the path slides along the kinks of a network, which each step crosses, so that
the gradient of its start alone leaves a gap that no number of steps closes."""


def _first(values: Tensor) -> Tensor:
    """Return for every entry of sorted rows the place of the first entry equal to it."""
    return torch.searchsorted(values, values)


def advance(
    progress: Tensor, way: Tensor, steepness: Tensor, span: tuple[float, float], goal: float, group: int
) -> Tensor:
    """Move every row's elements on until their mean progress, weighted by `way`, is `goal`.

    Elements below the span are lifted to its lower end. Then groups of the flattest elements go to its upper end one after
    the other; the group that would overshoot goes a common share of what it has left. Equally steep ones share a group.

    Parameters
    ----------
    progress
        ``(n, D)`` from 0 at the start to 1 at the image.
    way
        ``(n, D)`` length of each element's way, ≥ 0.
    steepness
        ``(n, D)`` magnitude of the gradient.
    span
        Smallest and largest progress allowed after this step.
    goal
        Mean progress after this step.
    group
        Elements a group.

    Returns
    -------
    Tensor
        ``(n, D)`` the new progress.
    """
    low, high = span
    lifted = progress.clamp(min=low)
    left = (high - lifted).clamp(min=0) * way
    need = (goal * way.sum(1) - (lifted * way).sum(1)).clamp(min=0)[:, None]
    ranked, order = torch.where(left > 0, steepness, torch.inf).sort(1)
    number = _first(ranked) // group
    start, stop = _first(number), torch.searchsorted(number, number, right=True)
    running = torch.nn.functional.pad(left.gather(1, order).cumsum(1), (1, 0))
    before, whole = running.gather(1, start), running.gather(1, stop) - running.gather(1, start)
    share = ((need - before) / torch.where(whole > 0, whole, 1.0)).clamp(0, 1) * (whole > 0)
    share = torch.zeros_like(share).scatter(1, order, share)
    return lifted + share * (high - lifted).clamp(min=0)


@dataclass(frozen=True)
class _Guided:
    """The adaptive path of every row from `start` to the image."""

    call: Call
    start: Inputs
    fraction: float
    max_distance: float

    def integral(self, steps: int, rows: list[int]) -> Inputs:
        """Return Σ (p_t+1 − p_t) × the mean gradient between them, batch of rows after batch of rows."""
        self.call.passes.expect(len(rows) * steps * (1 + len(_PLACES)))
        found = [self._walk(steps, pack.owner) for pack in packs(self.call.passes, self.call.inputs, 1, rows)]
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    def _walk(self, steps: int, rows: Tensor) -> Inputs:
        begin, stop = (
            torch.cat([x[rows].flatten(1) for x in ends], 1).double() for ends in (self.start, self.call.inputs)
        )
        apart = stop - begin
        progress, total = torch.zeros_like(apart), torch.zeros_like(apart)
        group = int(self.fraction * (apart.shape[1] - 1)) + 1
        for step in range(1, steps + 1):
            goal = step / steps
            span = (goal - self.max_distance if step < steps else 1.0, min(1.0, goal + self.max_distance))
            here = self._slope(begin + progress * apart, rows)
            move = advance(progress, apart.abs(), here.abs(), span, goal, group) - progress
            for place in _PLACES:
                total += move * apart * self._slope(begin + (progress + place * move) * apart, rows) / len(_PLACES)
            progress = progress + move
        return self._split(total, rows)

    def _slope(self, points: Tensor, rows: Tensor) -> Tensor:
        slopes = self.call.passes.gradient(self._split(points, rows), self.call.read, rows)[2]
        return torch.cat([slope.flatten(1) for slope in slopes], 1).double()

    def _split(self, flat: Tensor, rows: Tensor) -> Inputs:
        shapes = take_rows(self.call.inputs, rows)
        parts = torch.split(flat, [x[0].numel() for x in shapes], 1)
        return tuple(part.view_as(x).to(x.dtype) for part, x in zip(parts, shapes, strict=True))


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class guided_ig(Method):
    """How much each pixel adds to the output on a path that keeps clear of where the model is steep.

    As integrated gradients, but at every step the pixels with the smallest gradient move first, within `max_distance` of
    the straight line, so that noisy slopes far from the image add less. Each step counts the mean gradient of four points
    on it, since one alone leaves a gap at the kinks that the path follows. With `steps` left out a row takes 32 and doubles
    them until its gap is at most 1 % of ``max(|f(x) − f(b)|, 0.05 (|f(x)| + |f(b)|))``, up to 1,024, else a warning.

    Attributes
    ----------
    steps
        Steps on the path, exactly; None lets the gap decide.
    baseline
        The reference b: a name of `pellucid.attribution.fills.FILLS`, a number, or one number a channel.
    fraction
        Share of all elements that moves at a time.
    max_distance
        How far a pixel's progress may lead or trail the straight line's; 0 is integrated gradients, 1 is free.
    """

    steps: Annotated[int, Field(ge=1)] | None = None
    baseline: Fill = "zero"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    max_distance: Annotated[float, Field(ge=0, le=1)] = 0.02

    version: ClassVar[int] = 2
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="path",
        question="What does each pixel add to the output against the reference, on a path of small slopes?",
        needs=("gradients",),
        complete="tolerance",
        cost="5 × steps forwards and backwards, one after the other; without steps 160 to 10,080",
        reference="Kapishnikov et al. 2021, CVPR",
        warning="The path depends on the model: two models with the same outputs elsewhere may get two maps.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Walk the adaptive path of every row."""
        path = _Guided(call, reference(self.baseline, call.inputs, call.seeds), self.fraction, self.max_distance)
        before, details = call.passes.scores(path.start, call.read), {"baseline": meaning(self.baseline)}
        if self.steps is not None:
            values = path.integral(self.steps, list(range(len(call))))
            return Attribution(values, reference_output=before, details=details)
        values, taken, warnings = until_complete(path.integral, call.inputs, call.output, before, fewest=_FEWEST)
        return Attribution(values, reference_output=before, warnings=warnings, details={**details, "steps": taken})
