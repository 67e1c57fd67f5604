"""DeepLIFT: what each pixel adds to the output, compared with a baseline image."""

from dataclasses import dataclass
from typing import ClassVar

from pellucid.attribution.backward import between, rescale_rules
from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy

__all__ = ["deeplift"]

_WARN = 1e-3


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
        several = len(call.inputs)
        _, _, multipliers = call.passes.gradient(
            (*call.inputs, *baselines), between(call.read), rules=rescale_rules(several), known=call.output
        )
        call.passes.forwards += len(call)  # each row went through beside its baseline
        call.passes.backwards += len(call)
        values = tuple(
            slope * (x - b) for slope, x, b in zip(multipliers[:several], call.inputs, baselines, strict=True)
        )
        return Attribution(values, reference_output=call.passes.scores(baselines, call.read))
