"""Excitation backpropagation: the probability that a winner, drawn layer by layer, ends at a pixel."""

from dataclasses import dataclass
from typing import ClassVar

from pellucid.attribution.backward import Composite, unbiased_plus
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.positive import positive
from pellucid.attribution.relevance import relevance
from pellucid.errors import CannotExplain

__all__ = ["excitation_backprop"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class excitation_backprop(Method):
    """How likely each pixel is to have set off the output, when every unit blames those that excited it.

    The output starts with probability one; every unit passes its own on to the units before it in proportion to their
    activation × positive weight (z⁺ without biases; positive terms of a sum). A row adds up to one, less what reached
    units that nothing excites (``details["lost"]``). In the first layer, where pixels may be negative, a negative pixel with a
    negative weight excites too.

    Attributes
    ----------
    at
        Name of a layer: winning probabilities of its output, of the layer's shape.

    Raises
    ------
    CannotExplain
        When an output is exactly zero, or relevance turns negative, as it does where activations are not rectified.
    """

    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="Which pixels excited the units that excited the output?",
        needs=("gradients",),
        sign="positive",
        cost="1 forward, 1 backward and 1 to 3 passes through each layer with weights",
        reference="Zhang et al. 2018, International Journal of Computer Vision 126",
        warning="It sees excitation only; what inhibits the class reads zero, and maps of two classes look alike.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Pass winning probabilities down from the target."""
        rules = Composite(method=self.name, convolution=unbiased_plus, dense=unbiased_plus, positive_sums=True)
        found = relevance(call, rules, self.at)
        started = found.started
        if bool((started == 0).any()):
            row = int((started == 0).nonzero()[0])
            raise CannotExplain(f"{self.name}: the output of row {row} is exactly zero and has no winner; leave it out")
        shares = tuple(part / started.view(-1, *[1] * (part.ndim - 1)) for part in found.values)
        return Attribution(
            positive(shares, self.name), details={"lost": (found.taken / started).cpu()}, warnings=found.warnings
        )
