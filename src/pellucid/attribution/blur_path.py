"""Blur integrated gradients: the output's change as a blurred image comes into focus."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import gaussian_blur
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import Pack, packs
from pellucid.attribution.path import until_complete
from pellucid.errors import ShapeError
from pellucid.models import Inputs, take_rows

__all__ = ["blur_ig"]


@dataclass(frozen=True)
class _Focus:
    """The path of every row from its most blurred image, `widest` of the shortest axis, to itself."""

    call: Call
    widest: float

    def blurred(self, rows: Tensor, share: float) -> Inputs:
        """Return rows blurred by a share of the widest Gaussian."""
        inputs = take_rows(self.call.inputs, rows)
        return tuple(gaussian_blur(x, share * self.widest * min(x.shape[2:])) for x in inputs)

    def integral(self, steps: int, rows: list[int]) -> Inputs:
        """Return Σ (p_k+1 − p_k) × gradient half-way between them; never more than a batch of points lives."""
        totals = tuple(x.new_zeros((len(rows), *x.shape[1:]), dtype=torch.float64) for x in self.call.inputs)
        place = torch.full((len(self.call),), -1).index_copy(0, torch.tensor(rows), torch.arange(len(rows)))
        for pack in packs(self.call.passes, self.call.inputs, steps, rows):
            starts, stops = self._chords(pack, steps)
            middles = tuple((a + b) / 2 for a, b in zip(starts, stops, strict=True))
            slopes = self.call.passes.gradient(middles, self.call.read, pack.owner)[2]
            for total, a, b, slope in zip(totals, starts, stops, slopes, strict=True):
                for row, run in pack.runs():
                    total[place[row]] += ((b[run] - a[run]).double() * slope[run]).sum(0)
        return tuple(total.to(x.dtype) for total, x in zip(totals, self.call.inputs, strict=True))

    def _chords(self, pack: Pack, steps: int) -> tuple[Inputs, Inputs]:
        """Return both ends of every member's step; a knot between two steps is blurred once."""
        starts, stops = (
            tuple(x.new_empty((len(pack.owner), *x.shape[1:])) for x in self.call.inputs) for _ in range(2)
        )
        for knot in torch.unique(torch.cat([pack.turn, pack.turn + 1])).tolist():
            begin, end = ((pack.turn == turn).nonzero().flatten() for turn in (knot, knot - 1))
            rows, back = torch.unique(pack.owner[torch.cat([begin, end])], return_inverse=True)
            for a, b, image in zip(starts, stops, self.blurred(rows, 1 - knot / steps), strict=True):
                a[begin], b[end] = image[back[: len(begin)]], image[back[len(begin) :]]
        return starts, stops


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class blur_ig(Method):
    """How much each pixel adds to the output as the blurred image comes into focus.

    The path runs through Gaussian scales, from `max_sigma` to the image itself in equal steps of sigma, and needs no
    reference that is foreign to the image. Each step is a chord with the gradient taken at its middle: values add up to
    f(x) − f(most blurred) exactly where the model is quadratic, and within 1 % of
    ``max(|f(x) − f(b)|, 0.05 (|f(x)| + |f(b)|))`` when `steps` is left out (8 to 1,024, else a warning).

    Attributes
    ----------
    steps
        Steps on the path, exactly; None lets the gap decide.
    max_sigma
        Standard deviation of the widest Gaussian, a fraction of the shortest spatial axis.
    """

    steps: Annotated[int, Field(ge=1)] | None = None
    max_sigma: Annotated[float, Field(gt=0, le=1)] = 0.2

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="path",
        question="What does each pixel's detail add to the output, against the blurred image?",
        needs=("gradients",),
        complete="tolerance",
        cost="steps forwards and backwards; without steps 8 to 2,040",
        reference="Xu et al. 2020, CVPR",
        warning="Evidence that blurring leaves in place, such as the image's mean colour, reads zero.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Add up the chords of every row's path."""
        for number, x in enumerate(call.inputs):
            if x.ndim < 3:
                raise ShapeError(
                    f"blur_ig needs spatial axes to blur; input {number} has shape {tuple(x.shape)}: use integrated_gradients"
                )
        path = _Focus(call, self.max_sigma)
        owners = (pack.owner for pack in packs(call.passes, call.inputs, 1))
        before = torch.cat([call.passes.scores(path.blurred(rows, 1.0), call.read, rows) for rows in owners])
        if self.steps is not None:
            values = path.integral(self.steps, list(range(len(call))))
            return Attribution(values, reference_output=before)
        values, taken, warnings = until_complete(path.integral, call.inputs, call.output, before)
        return Attribution(values, reference_output=before, warnings=warnings, details={"steps": taken})
