"""Layer-wise relevance propagation: how the output's value is shared out among the pixels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.backward import Composite, alpha_beta, box, flat, gamma, plus, relevance_rules
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.errors import BadRecipe, ShapeError

__all__ = ["Bound", "filled", "lrp"]

Bound = float | tuple[float, ...] | None

_CURVED = 0.01


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class lrp(Method):
    """How the output's value is shared out among the pixels, layer by layer, so that the shares add up to it.

    Relevance starts as the target's value and is handed back from each unit to those that fed it, in proportion to what
    they contributed; biases, BatchNorm shifts and stabilisers keep their shares, which the result lists (`absorbed`), so
    that Σ values + absorbed = f(x). BatchNorm is folded into the operation before it as the network runs.

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
        account = call.inputs[0].new_zeros(len(call), 2)
        rules = relevance_rules(self._rules())
        *values, accounts = call.passes.gradient((*call.inputs, account), call.read, rules=rules, known=call.output)[2]
        taken, started = accounts.unbind(1)
        curved = call.output - started  # what a target that is not linear in the outputs keeps for itself
        return Attribution(tuple(values), absorbed=taken + curved, warnings=self._warnings(call, curved))

    def _rules(self) -> Composite:
        if self.composite == "epsilon_plus_flat":
            return Composite(convolution=plus, first=flat, epsilon=self.epsilon)
        if self.composite == "epsilon_alpha2_beta1_flat":
            return Composite(convolution=alpha_beta, first=flat, epsilon=self.epsilon)
        if self.low is not None and self.high is not None:
            low, high = (lambda x, bound=bound: filled(bound, x) for bound in (self.low, self.high))
            return Composite(convolution=gamma(self.gamma), first=box(low, high), epsilon=self.epsilon)
        return Composite(epsilon=self.epsilon)

    def _warnings(self, call: Call, curved: Tensor) -> tuple[str, ...]:
        found = []
        if bool((curved.abs() > _CURVED * call.output.abs()).any()):
            found.append(
                "the target is not linear in the model's outputs: relevance starts from its slope, and what its "
                "curvature keeps is counted as absorbed; a class or a contrast has no such part"
            )
        if self.low is not None and self.high is not None:
            outside = any(bool(((x < filled(self.low, x)) | (x > filled(self.high, x))).any()) for x in call.inputs)
            if outside:
                found.append("some pixels lie outside low and high, where the first layer's rule loses its meaning")
        return tuple(found)


def filled(bound: float | tuple[float, ...], x: Tensor) -> Tensor:
    """Return a bound, a number or one a channel, as a tensor of the input's shape."""
    if not isinstance(bound, tuple):
        return torch.full_like(x, bound)
    if len(bound) != x.shape[1]:
        raise ShapeError(
            f"low or high {bound} has {len(bound)} numbers and the input {x.shape[1]} channels (shape {tuple(x.shape)})"
        )
    return x.new_tensor(bound).view(1, -1, *[1] * (x.ndim - 2)).expand_as(x)
