"""Deep Taylor decomposition: positive evidence, handed back by first-order expansions at root points."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.backward import Composite, ShareRule, box, squared, unbiased_plus
from pellucid.attribution.lrp import Bound, filled
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.positive import positive
from pellucid.attribution.relevance import relevance
from pellucid.errors import BadRecipe, CannotExplain

__all__ = ["deep_taylor"]

_ROUNDING = 1e-5


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deep_taylor(Method):
    """Which pixels carry the evidence for the output, when every part of it is counted as evidence for, never against.

    LRP with z⁺ in hidden layers, without biases, and in the first z^B where the pixels' bounds are given, else w², the rule for
    pixels that may take any value; a sum of activations hands relevance to its positive terms. It explains max(0, f(x)): a row whose output is not positive reads zero and is named in a warning.

    Attributes
    ----------
    low, high
        Smallest and largest value a pixel can take in model space, a number or one a channel; give both or neither.
    at
        Name of a layer: evidence at its output, of the layer's shape.

    Raises
    ------
    BadRecipe
        When only one of `low` and `high` is given.
    CannotExplain
        When pixels lie outside `low` and `high`, or the network's activations are not the rectified ones that it supposes, so
        that relevance turns negative.
    """

    low: Bound = None
    high: Bound = None
    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="Which pixels carry the evidence for the output?",
        needs=("gradients",),
        sign="positive",
        complete="tolerance",
        cost="1 forward, 1 backward and 1 to 3 passes through each layer with weights",
        reference="Montavon et al. 2017, Pattern Recognition 65",
        warning="It supposes a ReLU network and cannot show evidence against the class.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.low is None) != (self.high is None):
            raise BadRecipe(
                f"{self}: give low= and high= together, the smallest and largest value that a pixel can take in model space "
                "(after normalisation), a number or one a channel; or neither, for pixels without bounds"
            )

    def attribute(self, call: Call) -> Attribution:
        """Share the positive part of the target's value out."""
        z_plus = Composite(method=self.name, convolution=unbiased_plus, dense=unbiased_plus, positive_sums=True)
        rules = replace(z_plus, first=self._first(call))
        found = relevance(call, rules, self.at)
        on = call.output > 0
        shares = tuple(torch.where(_wide(on, part), part, 0.0) for part in found.values)
        kept = torch.where(on, found.taken + call.output - found.started, call.output)
        warnings = (*_silent(on), *found.warnings)
        return Attribution(positive(shares, str(self)), absorbed=kept, warnings=warnings, details=found.details)

    def _first(self, call: Call) -> ShareRule:
        low, high = self.low, self.high
        if low is None or high is None:
            return squared
        for number, x in enumerate(call.inputs):
            bottom, top = filled(low, x), filled(high, x)
            leeway = _ROUNDING * (top - bottom)
            if bool(((x < bottom - leeway) | (x > top + leeway)).any()):
                raise CannotExplain(
                    f"{self}: input {number} has values from {float(x.min()):.4g} to {float(x.max()):.4g}, outside low and "
                    "high, where no root point lies; give the bounds in model space, after normalisation"
                )
        return box(lambda x: filled(low, x), lambda x: filled(high, x))


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.ndim - 1))


def _silent(on: Tensor) -> tuple[str, ...]:
    rows = (~on).nonzero().flatten().tolist()
    if not rows:
        return ()
    named = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return (
        f"the output of {len(rows)} row(s) ({named}) is not positive: deep Taylor explains max(0, f), which is zero",
    )
