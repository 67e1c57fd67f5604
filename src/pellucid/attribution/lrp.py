"""Layer-wise relevance propagation: how the output's value is shared out among the pixels."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.backward import Composite, alpha_beta, box, flat, gamma, plus
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.relevance import relevance
from pellucid.errors import BadRecipe, ShapeError

__all__ = ["Bound", "curvature", "filled", "lrp"]

Bound = float | tuple[float, ...] | None

_CURVED = 0.01


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class lrp(Method):
    """How the output's value is shared out among the pixels, layer by layer, so that the shares add up to it.

    Relevance starts as the target's value and is handed back from each unit to those that fed it, in proportion to what
    they contributed; biases, BatchNorm shifts and stabilisers keep their shares, which the result lists (`absorbed`), so
    that Σ values + absorbed = f(x); ``details["absorbed by conv2d"]`` and its like say where. BatchNorm is folded into the
    operation before it as the network runs; layer, group, instance and RMS norms divide by a constant spread; a softmax is
    expanded at its own input; a maximum goes to its winner; other functions of one number keep relevance where it is, but for
    f(0), which absorbs.

    Attributes
    ----------
    composite
        Which rule goes where: ``"epsilon"`` everywhere; ``"epsilon_plus_flat"``: ε in linear layers, z⁺ in convolutions,
        equal shares in the first layer; ``"epsilon_gamma_box"``: ε, γ, and z^B in the first layer;
        ``"epsilon_alpha2_beta1_flat"``: ε, α2β1, equal shares. The first layer is every convolution or linear layer that
        sees the pixels themselves.
    low, high
        Smallest and largest value a pixel can take in model space, a number or one a channel; for z^B.
    epsilon
        Stabiliser of the ε rule, a fraction of the layer's root mean square in that row.
    gamma
        How much the γ rule favours contributions of the output's own sign.
    gates
        What a sigmoid or softmax gets that multiplies another activation (squeeze-and-excitation, attention weights, the gates
        of an LSTM): ``"constant"``: nothing, the signal takes all (Arras et al. 2017; Ali et al. 2022 for attention), so that
        ``x * sigmoid(x)`` equals SiLU; ``"half"``: half, as any other product of two activations shares (Achtibat et al.
        2024; with it, ``"epsilon"`` is `attn_lrp`).
    at
        Name of a layer: relevance of its output, of the layer's shape. Together with what was absorbed after the layer it
        adds up to f(x) if nothing passes the layer by.

    Raises
    ------
    BadRecipe
        When z^B is asked for without `low` and `high`.
    GuardError
        When the network holds an operation without a rule; the sentence names it.
    """

    composite: Literal["epsilon", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat"] = "epsilon"
    low: Bound = None
    high: Bound = None
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    gamma: Annotated[float, Field(ge=0)] = 0.25
    gates: Literal["constant", "half"] = "constant"
    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What share of the output's value does each pixel carry?",
        needs=("gradients",),
        complete="tolerance",
        cost="1 forward, 1 backward and 1 to 5 passes through each layer with weights",
        reference="Bach et al. 2015, PLoS ONE 10; Montavon et al. 2019, LNCS 11700",
        warning="Shares depend on the composite; what biases took belongs to no pixel.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        boxed = self.composite == "epsilon_gamma_box"
        if boxed and (self.low is None or self.high is None):
            raise BadRecipe(
                f"{self}: the first layer's rule needs low= and high=, the smallest and largest value that a pixel can "
                "take in model space (after normalisation), a number or one a channel"
            )
        if not boxed and (self.low is not None or self.high is not None):
            raise BadRecipe(f"{self}: low and high only mean something with composite='epsilon_gamma_box'")

    def attribute(self, call: Call) -> Attribution:
        """Share the target's value out."""
        found = relevance(call, self._rules(), self.at)
        curved, warned = curvature(call, found.started)
        warnings = (*warned, *self._outside(call), *found.warnings)
        return Attribution(found.values, absorbed=found.taken + curved, warnings=warnings, details=found.details)

    def _rules(self) -> Composite:
        same = partial(Composite, epsilon=self.epsilon, halves=self.gates == "half")
        if self.composite == "epsilon_plus_flat":
            return same(convolution=plus, first=flat)
        if self.composite == "epsilon_alpha2_beta1_flat":
            return same(convolution=alpha_beta, first=flat)
        if self.low is not None and self.high is not None:
            low, high = (lambda x, bound=bound: filled(bound, x) for bound in (self.low, self.high))
            return same(convolution=gamma(self.gamma), first=box(low, high))
        return same()

    def _outside(self, call: Call) -> tuple[str, ...]:
        low, high = self.low, self.high
        if low is None or high is None:
            return ()
        if any(bool(((x < filled(low, x)) | (x > filled(high, x))).any()) for x in call.inputs):
            return ("some pixels lie outside low and high, where the first layer's rule loses its meaning",)
        return ()


def curvature(call: Call, started: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Return what a target that is not linear in the outputs keeps for itself, and the sentence that says so."""
    curved = call.output - started
    if not bool((curved.abs() > _CURVED * call.output.abs()).any()):
        return curved, ()
    said = (
        "the target is not linear in the model's outputs: relevance starts from its slope, and what its curvature keeps is "
        "counted as absorbed; a class or a contrast has no such part"
    )
    return curved, (said,)


def filled(bound: float | tuple[float, ...], x: Tensor) -> Tensor:
    """Return a bound, a number or one a channel, as a tensor of the input's shape."""
    if not isinstance(bound, tuple):
        return torch.full_like(x, bound)
    if len(bound) != x.shape[1]:
        raise ShapeError(
            f"low or high {bound} has {len(bound)} numbers and the input {x.shape[1]} channels (shape {tuple(x.shape)})"
        )
    return x.new_tensor(bound).view(1, -1, *[1] * (x.ndim - 2)).expand_as(x)
