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
    at
        Name of a layer: the lines run from its outputs for the references to its output for x, the rest of the net sees x.

    Raises
    ------
    ShapeError
        When background images do not have the explained images' shape.
    """

    samples: Annotated[int, Field(ge=1)] = 100
    background: Background = "zero"
    at: str | None = None

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
        rows: list[list[Moments]] = [[] for _ in range(len(call))]
        for pack in packs(call.passes, call.inputs, self.samples):
            terms = _terms(_Ends(call, known, pack, picks, self.at), places[pack.owner, pack.turn])
            for row, run in pack.runs():
                rows[row] = rows[row] or [Moments() for _ in terms]
                for moments, values in zip(rows[row], terms, strict=True):
                    moments.add(values[run])
        means = [[torch.as_tensor(moments.mean) for moments in row] for row in rows]
        errors = [[moments.error for moments in row] for row in rows]
        return Attribution(
            stacked(means, call.inputs),
            reference_output=mean_score(call, known, self.at),
            error=stacked(errors, call.inputs) if self.samples > 1 else None,
            details={"background": known.meaning},
        )

    def _draws(self, call: Call, count: int) -> tuple[Tensor, Tensor]:
        """Return ``(N, samples)`` references and places on their lines, from each row's own stream."""
        streams = call.generators()
        picks = [torch.randint(count, (self.samples,), generator=stream) for stream in streams]
        places = [torch.rand(self.samples, generator=stream) for stream in streams]
        return torch.stack(picks), torch.stack(places)


@dataclass(frozen=True)
class _Ends:
    """Both ends of the line of every member of a batch: of the images, or of a layer's outputs for them."""

    call: Call
    known: References
    pack: Pack
    picks: Tensor
    at: str | None

    @property
    def starts(self) -> Inputs:
        return self._seen(self.known.of(self.pack.owner, self.picks[self.pack.owner, self.pack.turn]))

    @property
    def stops(self) -> Inputs:
        return self._seen(take_rows(self.call.inputs, self.pack.owner))

    def _seen(self, images: Inputs) -> Inputs:
        return images if self.at is None else (self.call.passes.outputs(images, self.at),)

    def slopes(self, points: Inputs) -> Inputs:
        call, owner = self.call, self.pack.owner
        if self.at is None:
            return call.passes.gradient(points, call.read, owner)[2]
        images = take_rows(call.inputs, owner)
        return call.passes.gradient(images, call.read, owner, at=self.at, place=points[0])[2]


def _terms(ends: _Ends, place: Tensor) -> Inputs:
    starts, stops = ends.starts, ends.stops
    points = tuple(
        torch.lerp(b, x, place.to(x).view(-1, *[1] * (x.ndim - 1))) for b, x in zip(starts, stops, strict=True)
    )
    return tuple((x - b) * slope for x, b, slope in zip(stops, starts, ends.slopes(points), strict=True))


def mean_score(call: Call, known: References, at: str | None = None) -> Tensor:
    """Return ``(N,)`` the target's mean value over each row's references, or with their outputs placed at a layer."""
    totals = call.output.new_zeros(len(call), dtype=torch.float64)
    for pack in packs(call.passes, call.inputs, len(known)):
        images = known.of(pack.owner, pack.turn)
        if at is None:
            scores = call.passes.scores(images, call.read, pack.owner)
        else:
            placed = {at: call.passes.outputs(images, at)}
            scores = call.passes.scores(take_rows(call.inputs, pack.owner), call.read, pack.owner, placed=placed)
        totals.index_add_(0, pack.owner.to(totals.device), scores.double())
    return (totals / len(known)).to(call.output)
