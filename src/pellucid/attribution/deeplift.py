"""DeepLIFT: what each pixel adds to the output, compared with a baseline image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.backward import RESCALE, Comparison
from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Inputs, take_rows

__all__ = ["compared", "deeplift"]

_CLOSED = 1e-3
"""Gap, as a fraction of what is explained, above which the rules cannot have followed the network."""


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deeplift(Method):
    """How much each pixel's difference from a baseline image adds to the output's difference from the baseline's.

    The Rescale rule: every nonlinear operation passes the slope between its two values, Δoutput / Δinput. Max-pooling
    sends the difference to the position that makes the larger maximum; a product of two activations passes each the mean
    of the other, softmax is taken apart into exponentials, a sum and a quotient: at each of them, and so in the whole,
    the differences add up.

    Attributes
    ----------
    baseline
        What "absent" looks like: a fill's name, a number, or one number a channel, in model space.
    at
        Name of a layer: its output's difference from the baseline's is shared out instead of the pixels'.

    Raises
    ------
    CannotExplain
        When part of the network's difference goes around the layer that `at` names.
    GuardError
        When the network holds an operation without such a rule; the sentence names it.
    """

    baseline: Fill = "zero"
    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What does each pixel add to the output, compared with the baseline image?",
        needs=("gradients",),
        complete="exact",
        cost="3 forwards, 1 backward",
        reference="Shrikumar et al. 2017, ICML",
        warning="The values speak of the difference from this baseline; another baseline gives other values.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Pull multipliers back through images and baselines at once."""
        baselines = reference(self.baseline, call.inputs, call.seeds)
        values, before = compared(
            call, baselines, torch.arange(len(call)), Comparison(RESCALE, len(call.inputs)), self.at
        )
        return Attribution(values, reference_output=before)


def compared(
    call: Call, baselines: Inputs, owner: Tensor, pair: Comparison, at: str | None = None
) -> tuple[Inputs, Tensor]:
    """Share out the difference between rows and baselines.

    Parameters
    ----------
    call
        The call.
    baselines
        ``(n, C, *S)`` an input.
    owner
        ``(n,)`` the row that each baseline is compared with.
    pair
        The rules.
    at
        Name of a layer, for its output in the place of the inputs.

    Returns
    -------
    values
        Of the baselines' shapes, or of the layer's output.
    before
        ``(n,)`` the target's values at the baselines.
    """
    images, output, passes = take_rows(call.inputs, owner), call.output[owner], call.passes
    read = pair.between(call.read)
    _, points, slopes = passes.gradient((*images, *baselines), read, owner, rules=pair.rules, known=output, at=at)
    passes.forwards += len(owner)  # each row's baseline went through before it
    before = passes.scores(baselines, call.read, owner)
    start = baselines if at is None else (passes.outputs(baselines, at),)
    values = tuple(m * (x - b) for m, x, b in zip(slopes[: len(start)], points[: len(start)], start, strict=True))
    _refuse_open(values, output, before, pair.name, at)
    return values, before


def _refuse_open(values: Inputs, output: Tensor, before: Tensor, name: str, at: str | None) -> None:
    zero = torch.zeros_like(output).double()
    total = sum((part.double().flatten(1).sum(1) for part in values), start=zero)
    size = output.abs() + before.abs() + sum((part.double().abs().flatten(1).sum(1) for part in values), start=zero)
    gap = (total - (output - before).double()).abs()
    closed = gap <= _CLOSED * size
    if bool(closed.all()):
        return
    row = int(closed.int().argmin())
    found = (
        f"{name}: in row {row} the values add up to {float(total[row]):.4g} and the output differs from the "
        f"baseline's by {float(output[row] - before[row]):.4g}: "
    )
    if at is not None:
        raise CannotExplain(
            f"{found}part of the difference goes around layer {at!r}; choose a layer that all of it goes through, or use "
            "integrated_gradients(at=...), which holds the rest of the network still"
        )
    raise GuardError(
        f"{found}part of the network depends on the image outside the graph (detached or converted to numbers), mixes "
        "rows, or leaves the range of its numbers; use integrated_gradients"
    )
