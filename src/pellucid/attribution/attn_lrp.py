"""AttnLRP: relevance through attention, where softmax and both factors of every product have their own rule."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from pellucid.attribution.backward import Composite
from pellucid.attribution.lrp import curvature
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.relevance import relevance

__all__ = ["attn_lrp"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class attn_lrp(Method):
    """How a transformer's output is shared out among the pixels, through what attends and what is attended to alike.

    LRP with the ε rule in every layer with weights; a softmax is expanded at its own input, R_i = x_i (R_i − s_i Σ_j R_j);
    two activations that are multiplied (queries and keys, weights and values, gates) get half each; LayerNorm divides by a
    constant spread; GELU and its kind keep relevance where it is. What biases, shifts, position codes, the class token and the
    softmax's constant part take is listed as absorbed: Σ values + absorbed = f(x). It works on any net; without products and
    softmax it equals ``lrp``, and on a ReLU net without biases input × gradient.

    Attributes
    ----------
    epsilon
        Stabiliser of the ε rule, a fraction of the layer's root mean square in that row.
    at
        Name of a layer: relevance of its output, of the layer's shape, for instance of the tokens of a block.

    Raises
    ------
    GuardError
        When the network holds an operation without a rule; the sentence names it.
    """

    epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What share of the output's value does each pixel carry, through attention too?",
        needs=("gradients",),
        complete="tolerance",
        cost="1 forward and 1 backward",
        reference="Achtibat et al. 2024, Proceedings of Machine Learning Research 235 (ICML)",
        warning="What position codes, the class token and softmax take belongs to no pixel and can exceed what pixels get.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Share the target's value out."""
        found = relevance(call, Composite(method=self.name, epsilon=self.epsilon, halves=True), self.at)
        curved, warnings = curvature(call, found.started)
        return Attribution(
            found.values,
            absorbed=found.taken + curved,
            warnings=(*warnings, *found.warnings),
            details=found.details,
        )
