"""Integrated gradients: the output's change from a reference to the image, shared out along the straight line."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.special import roots_legendre
from torch import Tensor

from pellucid.attribution.fills import Fill, meaning, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import packs
from pellucid.models import Inputs, take_rows

__all__ = ["FEWEST", "MOST", "Integral", "integrated_gradients", "until_complete"]

FEWEST, MOST = 8, 1024
"""Steps that a row begins with and ends with at the latest when their number is left to the gap."""

_GAP, _FLOOR = 1e-2, 0.05

Integral = Callable[[int, list[int]], Inputs]
"""From a number of steps and some rows to what each element of these rows adds along the row's path."""

Slopes = Callable[[Inputs, Tensor], tuple[Tensor, Inputs]]
"""From points and the row each belongs to, to the target's values and derivatives there."""


@cache
def _quadrature(steps: int) -> tuple[Tensor, Tensor]:
    """Return Gauss–Legendre nodes and weights on [0, 1]: exact for polynomials up to degree 2·steps − 1."""
    nodes, weights = roots_legendre(steps)
    return torch.from_numpy(np.asarray(nodes + 1) / 2), torch.from_numpy(np.asarray(weights) / 2)


@dataclass(frozen=True)
class _Line:
    """A straight line a row from `start` to `stop`, and the derivative of the target on it."""

    call: Call
    start: Inputs
    stop: Inputs
    slopes: Slopes

    def integral(self, steps: int, rows: list[int]) -> Inputs:
        """Return (stop − start) × the mean derivative for those rows; never more than a batch of points lives."""
        nodes, weights = _quadrature(steps)
        place = {row: at for at, row in enumerate(rows)}
        totals = tuple(x.new_zeros((len(rows), *x.shape[1:]), dtype=torch.float64) for x in self.stop)
        for pack in packs(self.call.passes, self.call.inputs, steps, rows):
            points = tuple(
                torch.lerp(a[pack.owner], b[pack.owner], nodes[pack.turn].to(b).view(-1, *[1] * (b.ndim - 1)))
                for a, b in zip(self.start, self.stop, strict=True)
            )
            found = self.slopes(points, pack.owner)[1]
            for row, run in pack.runs():
                weight = weights[pack.turn[run]].to(found[0].device)
                for total, slope in zip(totals, found, strict=True):
                    total[place[row]] += torch.tensordot(weight, slope[run].double(), 1)
        index = torch.tensor(rows)
        return tuple(
            (total * (b[index] - a[index])).to(b.dtype)
            for total, a, b in zip(totals, self.start, self.stop, strict=True)
        )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class integrated_gradients(Method):
    """How much each pixel adds to the output when the image is faded in from a reference.

    Gauss–Legendre quadrature. With `steps` left out, every row begins with 8 and doubles them until its gap is at
    most 1 % of ``max(|f(x) − f(b)|, 0.05 (|f(x)| + |f(b)|))``, up to 1,024; a row that is done leaves the batch.

    Attributes
    ----------
    steps
        Points on the line, exactly; None lets the gap decide.
    baseline
        The reference b: a name of `pellucid.attribution.fills.FILLS`, a number, or one number a channel.
    at
        Name of a layer: the line runs from its output for b to its output for x, the rest of the net sees x.
    """

    steps: Annotated[int, Field(ge=1)] | None = None
    baseline: Fill = "zero"
    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="path",
        question="What does each pixel add to the output, against the reference image?",
        needs=("gradients",),
        complete="tolerance",
        cost="steps forwards and backwards; without steps 8 to 2,040",
        reference="Sundararajan et al. 2017, ICML",
        warning="It depends on the reference: a pixel equal to it reads zero.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Integrate the gradient along the line of every row."""
        fill = reference(self.baseline, call.inputs, call.seeds)
        line = self._line(call, fill)
        at_start = call.passes.scores(fill, call.read) if self.at is None else _scores(line)
        details = {"baseline": meaning(self.baseline), "steps": torch.full((len(call),), self.steps or 0)}
        if self.steps is not None:
            values = line.integral(self.steps, list(range(len(call))))
            return Attribution(values, reference_output=at_start, details=details)
        values, details["steps"], warnings = until_complete(line.integral, line.stop, call.output, at_start)
        return Attribution(values, reference_output=at_start, warnings=warnings, details=details)

    def _line(self, call: Call, fill: Inputs) -> _Line:
        at, passes = self.at, call.passes
        if at is None:
            return _Line(call, fill, call.inputs, lambda points, rows: _ends(passes.gradient(points, call.read, rows)))

        def slopes(points: Inputs, rows: Tensor) -> tuple[Tensor, Inputs]:
            return _ends(passes.gradient(take_rows(call.inputs, rows), call.read, rows, at=at, place=points[0]))

        return _Line(call, (passes.outputs(fill, at),), (passes.outputs(call.inputs, at),), slopes)


def _ends(result: tuple[Tensor, Inputs, Inputs]) -> tuple[Tensor, Inputs]:
    scores, _, slopes = result
    return scores, slopes


def _scores(line: _Line) -> Tensor:
    """Return the target's value at the start of every line, where the rest of the net sees x."""
    every = packs(line.call.passes, line.call.inputs, 1)
    return torch.cat([line.slopes(take_rows(line.start, pack.owner), pack.owner)[0] for pack in every])


def until_complete(
    integral: Integral, like: Inputs, output: Tensor, at_start: Tensor, *, fewest: int = FEWEST
) -> tuple[Inputs, Tensor, tuple[str, ...]]:
    """Double the steps of every row from `fewest` until its gap is in the tolerance, up to `MOST`.

    Parameters
    ----------
    integral
        The path method.
    like
        Tensors of the shape and type of the values.
    output, at_start
        ``(N,)`` the target's values at the ends of the paths.
    fewest
        Steps to begin with.

    Returns
    -------
    values
        Of the shapes of `like`.
    steps
        ``(N,)`` steps that each row took.
    warnings
        The rows that did not arrive.
    """
    rise = output.double() - at_start.double()
    allowed = _GAP * torch.maximum(rise.abs(), _FLOOR * (output.abs() + at_start.abs()).double())
    values = tuple(torch.empty_like(x) for x in like)
    taken = torch.zeros(len(output), dtype=torch.long)
    rows, steps = list(range(len(output))), fewest
    while rows and steps <= MOST:
        found = integral(steps, rows)
        index = torch.tensor(rows)
        taken[index] = steps
        for kept, new in zip(values, found, strict=True):
            kept[index] = new
        total = torch.stack([new.double().flatten(1).sum(1) for new in found]).sum(0)
        open_rows = (total - rise[index]).abs() > allowed[index]
        rows = [row for row, still in zip(rows, open_rows.tolist(), strict=True) if still]
        steps *= 2
    return values, taken, (_missed(rows),) if rows else ()


def _missed(rows: list[int]) -> str:
    named = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"{MOST} steps did not bring the completeness gap of {len(rows)} row(s) ({named}) to the tolerance"
