"""Gradients of the target: alone, times the input, and over noisy copies of the image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy, row_seeds
from pellucid.attribution.moments import Moments, stacked
from pellucid.attribution.packing import LazyCall, Pack, owned, packs
from pellucid.errors import BadRecipe
from pellucid.models import Inputs, take_rows

__all__ = ["gradient", "input_x_gradient", "saliency", "smoothgrad", "vargrad"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class gradient(Method):
    """Which way each pixel would have to change to raise the model's output, signed.

    Attributes
    ----------
    at
        Name of a layer: the derivative by that layer's output instead of the image.
    """

    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="gradient",
        question="In which direction would a small change of this pixel move the output?",
        needs=("gradients",),
        cost="1 forward, 1 backward",
        reference="Baehrens et al. 2010, JMLR 11; Simonyan et al. 2014, ICLR workshop",
        warning="It is the slope at the image, not the share of each pixel in the output; it saturates.",
        kind="visualisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Differentiate the target at every row."""
        return Attribution(call.gradient(self.at)[1])


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class saliency(Method):
    """How sensitive the output is to each pixel, without the sign.

    Attributes
    ----------
    at
        Name of a layer: the sensitivity to that layer's output instead of the image.
    """

    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="gradient",
        question="To which pixels is the output most sensitive, whichever way?",
        needs=("gradients",),
        sign="unsigned",
        cost="1 forward, 1 backward",
        reference="Simonyan et al. 2014, ICLR workshop",
        warning="It cannot show whether a pixel speaks for or against the class.",
        kind="visualisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Take the magnitude of the gradient."""
        _, slopes = call.gradient(self.at)
        return Attribution(tuple(slope.abs() for slope in slopes))


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class input_x_gradient(Method):
    """How much each pixel adds to the output, were the model linear round this image.

    Attributes
    ----------
    at
        Name of a layer: activation × gradient there instead of in the image.
    """

    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="gradient",
        question="What does each pixel add to the output, to first order, against zero?",
        needs=("gradients",),
        cost="1 forward, 1 backward",
        reference="Shrikumar et al. 2017, ICML",
        warning="Pixels that are zero in model space read zero, whatever they mean.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Multiply the gradient by the point where it is taken."""
        points, slopes = call.gradient(self.at)
        return Attribution(tuple(point * slope for point, slope in zip(points, slopes, strict=True)))


def _noisy(call: Call, pack: Pack, spreads: Inputs, streams: list[torch.Generator]) -> Call:
    """Return the call on one noisy copy a member; each has a stream of its own for what the base method draws."""
    rows = pack.owner.tolist()
    drawn = [tuple(torch.randn(x.shape[1:], generator=streams[row]) for x in call.inputs) for row in rows]
    here, wide = take_rows(call.inputs, pack.owner), take_rows(spreads, pack.owner)
    noises = zip(*drawn, strict=True)
    inputs = tuple(x + spread * torch.stack(noise).to(x) for x, spread, noise in zip(here, wide, noises, strict=True))
    read = owned(call.read, pack.owner)
    members = zip(rows, pack.turn.tolist(), strict=True)
    seeds = tuple(row_seeds(call.seeds[row], (f"sample {turn}",), 1)[0] for row, turn in members)
    return LazyCall(call.passes, inputs, read, seeds, lambda: call.passes.scores(inputs, read))


def _ranges(inputs: Inputs, sigma: float) -> Inputs:
    """Return sigma × (maximum − minimum) of every row, one number a row that spreads over its axes."""
    return tuple(sigma * (x.flatten(1).amax(1) - x.flatten(1).amin(1)).view(-1, *[1] * (x.ndim - 1)) for x in inputs)


@dataclass(frozen=True, kw_only=True, repr=False)
class _Sampled(Method):
    """Settings and sampling that every method over noisy copies shares."""

    samples: Annotated[int, Field(ge=1)] = 32
    sigma: Annotated[float, Field(ge=0)] = 0.1
    method: str = "gradient"
    at: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "method", str(METHODS.parse(self.method)))
        if self.base.of is not None:
            raise BadRecipe(
                f"{self}: {self.name} chooses what is explained; write {self.name}(of={self.base.of!r}, ...)"
            )

    @property
    def base(self) -> Method:
        """The method that is averaged, at the layer that `at` names.

        Raises
        ------
        BadRecipe
            When it takes no layer, or names another.
        """
        base = METHODS.parse(self.method)
        if self.at is None:
            return base
        if base.settings.get("at", self.at) not in {None, self.at} or "at" not in base.settings:
            raise BadRecipe(f"{self}: at={self.at!r} does not fit {base}, which takes no layer or names another")
        return base.replace(at=self.at)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the method that is averaged asks of the model."""
        return self.base.needs

    def _results(self, call: Call) -> Iterator[tuple[Pack, Attribution]]:
        base, streams = self.base, call.generators()
        spreads = _ranges(call.inputs, self.sigma)
        for pack in packs(call.passes, call.inputs, self.samples):
            yield pack, base.attribute(_noisy(call, pack, spreads, streams))

    def _moments(
        self, call: Call, power: Literal["mean", "magnitude", "square"]
    ) -> tuple[list[list[Moments]], list[str]]:
        """Return for every row and input the moments over its samples, and what the base method warned of."""
        rows: list[list[Moments]] = [[] for _ in range(len(call))]
        warnings: dict[str, None] = {}
        for pack, result in self._results(call):
            warnings.update(dict.fromkeys(result.warnings))
            for row, run in pack.runs():
                rows[row] = rows[row] or [Moments() for _ in result.values]
                for moments, values in zip(rows[row], result.values, strict=True):
                    moments.add(_POWERS[power](values[run]))
        return rows, list(warnings)


_POWERS = {"mean": lambda values: values, "magnitude": torch.abs, "square": torch.square}


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class smoothgrad(_Sampled):
    """A map that small noise in the image does not change: any method, averaged over noisy copies.

    Attributes
    ----------
    samples
        Noisy copies a row.
    sigma
        Standard deviation of the noise as a fraction of the row's own range, maximum − minimum.
    method
        Text of the method that is averaged.
    at
        Name of a layer: what the method gives there, averaged; the method must take ``at=`` itself.
    reduce
        ``"mean"`` of its values, of their ``"magnitude"``, or of their ``"square"``.
    """

    reduce: Literal["mean", "magnitude", "square"] = "mean"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="gradient",
        question="Which pixels matter, whatever the fine noise of the image?",
        needs=("gradients",),
        cost="samples × the base method",
        reference="Smilkov et al. 2017, arXiv:1706.03825; square: Hooker et al. 2019, NeurIPS",
        warning="It looks cleaner; that does not make it more faithful. The noise leaves the images' own distribution.",
        kind="visualisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Average the base method over noisy copies; the class was chosen before the noise."""
        rows, warnings = self._moments(call, self.reduce)
        if self.reduce != "mean":
            warnings.append(f"{self} averages {self.reduce}s: its values carry no sign")
        means = [[torch.as_tensor(moments.mean) for moments in row] for row in rows]
        errors = [[moments.error for moments in row] for row in rows]
        error = stacked(errors, call.inputs) if self.samples > 1 else None
        return Attribution(stacked(means, call.inputs), error=error, warnings=tuple(warnings))


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class vargrad(_Sampled):
    """Where the explanation itself is unsteady: the variance of a method over noisy copies of the image.

    The variance is the unbiased one (samples − 1), never negative; ``error`` is its standard error for normal values.

    Attributes
    ----------
    samples, sigma, method, at
        As for `smoothgrad`.
    """

    samples: Annotated[int, Field(ge=2)] = 32

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="gradient",
        question="Where does the map change most under small noise?",
        needs=("gradients",),
        sign="unsigned",
        cost="samples × the base method",
        reference="Adebayo et al. 2018, NeurIPS",
        warning="It is independent of the gradient's size and carries no sign.",
        kind="visualisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Take the variance of the base method over noisy copies."""
        rows, warnings = self._moments(call, "mean")
        spread = stacked([[moments.variance for moments in row] for row in rows], call.inputs)
        scale = (2 / (self.samples - 1)) ** 0.5
        return Attribution(spread, error=tuple(values * scale for values in spread), warnings=tuple(warnings))
