"""DeepLIFT: what each pixel adds to the output, compared with a baseline image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.backward import RESCALE, Comparison
from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.errors import GuardError
from pellucid.models import Inputs, take_rows

__all__ = ["compared", "deeplift"]

_CLOSED = 0.01
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

    Raises
    ------
    GuardError
        When the network holds an operation without such a rule; the sentence names it.
    """

    baseline: Fill = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What does each pixel add to the output, compared with the baseline image?",
        needs=("gradients",),
        complete="exact",
        cost="3 forwards, 2 backwards",
        reference="Shrikumar et al. 2017, ICML",
        warning="The values speak of the difference from this baseline; another baseline gives other values.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Pull multipliers back through images and baselines at once."""
        baselines = reference(self.baseline, call.inputs, call.seeds)
        values, before = compared(call, baselines, torch.arange(len(call)))
        return Attribution(values, reference_output=before)


def compared(call: Call, baselines: Inputs, owner: Tensor) -> tuple[Inputs, Tensor]:
    """Share out the difference between rows and baselines, by the Rescale rule.

    Parameters
    ----------
    call
        The call.
    baselines
        ``(n, C, *S)`` an input.
    owner
        ``(n,)`` the row that each baseline is compared with.

    Returns
    -------
    values
        Of the baselines' shapes.
    before
        ``(n,)`` the target's values at the baselines.
    """
    several, images, output = len(call.inputs), take_rows(call.inputs, owner), call.output[owner]
    pair = Comparison(RESCALE, several)
    found = call.passes.gradient((*images, *baselines), pair.between(call.read), owner, rules=pair.rules, known=output)
    multipliers = found[2]
    call.passes.forwards += len(owner)  # each row went through beside its baseline
    call.passes.backwards += len(owner)
    values = tuple(slope * (x - b) for slope, x, b in zip(multipliers[:several], images, baselines, strict=True))
    before = call.passes.scores(baselines, call.read, owner)
    _refuse_open(values, output, before)
    return values, before


def _refuse_open(values: Inputs, output: Tensor, before: Tensor) -> None:
    total = sum((part.double().flatten(1).sum(1) for part in values), start=torch.zeros_like(output).double())
    gap = (total - (output - before).double()).abs()
    size = (
        output.abs() + before.abs() + sum((part.double().abs().flatten(1).sum(1) for part in values), start=total * 0)
    )
    if bool((gap > _CLOSED * size).any()):
        row = int((gap - _CLOSED * size).argmax())
        raise GuardError(
            f"deeplift: in row {row} the values add up to {float(total[row]):.4g} and the output differs from the "
            f"baseline's by {float(output[row] - before[row]):.4g}: part of the network depends on the image outside the "
            "graph (detached or converted to numbers), or mixes rows; use integrated_gradients"
        )
