"""Expected gradients: integrated gradients, averaged over a set of reference images."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.backgrounds import Background, References, references
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.moments import Moments, stacked
from pellucid.attribution.packing import Pack, packs
from pellucid.models import Inputs, take_rows

__all__ = ["expected_gradients", "mean_score"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class expected_gradients(Method):
    """How much each pixel adds to the output, compared with the typical image of a background set.

    Every sample draws a reference and a point on the line from it to the image, both uniformly; the mean over samples is
    an unbiased estimate of integrated gradients averaged over the background, ``error`` its standard error.

    Attributes
    ----------
    samples
        Draws a row.
    background
        A fill, several fills as a tuple, or images ``(M, C, *S)`` in model space, a tensor.

    Raises
    ------
    ShapeError
        When background images do not have the explained images' shape.
    """

    samples: Annotated[int, Field(ge=1)] = 100
    background: Background = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="path",
        question="What does each pixel add to the output, against the images of a background set?",
        needs=("gradients",),
        cost="samples forwards and backwards, and one forward a background image",
        reference="Erion et al. 2021, Nature Machine Intelligence 3",
        warning="It is sampled: values add up to f(x) less the background's mean output in expectation only.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Average (x − b) × gradient over random references and random points on the lines."""
        known = references(self.background, call)
        picks, places = self._draws(call, len(known))
        rows: list[list[Moments]] = [[Moments() for _ in call.inputs] for _ in range(len(call))]
        for pack in packs(call.passes, call.inputs, self.samples):
            for parts, values in zip(zip(*rows, strict=True), _terms(call, known, pack, picks, places), strict=True):
                for row, run in pack.runs():
                    parts[row].add(values[run])
        means = [[torch.as_tensor(moments.mean) for moments in row] for row in rows]
        errors = [[moments.error for moments in row] for row in rows]
        return Attribution(
            stacked(means, call.inputs),
            reference_output=mean_score(call, known),
            error=stacked(errors, call.inputs) if self.samples > 1 else None,
            details={"background": known.meaning},
        )

    def _draws(self, call: Call, count: int) -> tuple[Tensor, Tensor]:
        """Return ``(N, samples)`` references and places on their lines, from each row's own stream."""
        streams = call.generators()
        picks = [torch.randint(count, (self.samples,), generator=stream) for stream in streams]
        places = [torch.rand(self.samples, generator=stream) for stream in streams]
        return torch.stack(picks), torch.stack(places)


def _terms(call: Call, known: References, pack: Pack, picks: Tensor, places: Tensor) -> Inputs:
    starts = known.of(pack.owner, picks[pack.owner, pack.turn])
    place = places[pack.owner, pack.turn]
    stops = take_rows(call.inputs, pack.owner)
    points = tuple(
        torch.lerp(b, x, place.to(x).view(-1, *[1] * (x.ndim - 1))) for b, x in zip(starts, stops, strict=True)
    )
    slopes = call.passes.gradient(points, call.read, pack.owner)[2]
    return tuple((x - b) * slope for x, b, slope in zip(stops, starts, slopes, strict=True))


def mean_score(call: Call, known: References) -> Tensor:
    """Return ``(N,)`` the target's mean value over each row's references."""
    totals = call.output.new_zeros(len(call), dtype=torch.float64)
    for pack in packs(call.passes, call.inputs, len(known)):
        scores = call.passes.scores(known.of(pack.owner, pack.turn), call.read, pack.owner)
        totals.index_add_(0, pack.owner.to(totals.device), scores.double())
    return (totals / len(known)).to(call.output)
