"""The calls with weights of one forward, and the pattern with which each is pulled back.

The calls are numbered as the network makes them, each with the BatchNorm that follows it folded in: a pattern belongs to a
call, so that a module that is called twice has two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pellucid.attribution.backward.weighted import Weighted
from pellucid.errors import CannotExplain, GuardError

__all__ = ["Kind", "LinearCall", "PatternPull", "PatternRun", "linear_call"]

_UNITY = 1e-2
"""How far wᵀa of a unit may lie from one: patterns of other weights are further away."""

Kind = Literal["net", "attribution"]


@dataclass(eq=False)
class LinearCall:
    """One operation with weights as the network called it.

    Attributes
    ----------
    op
        The operation.
    weight
        Its weight, the scale of a BatchNorm after it folded in.
    name
        What it is.
    output
        What it gave, before anything wrote into it.
    version
        Of its input, to tell whether something wrote into that since.
    rectified
        Whether a ReLU follows, directly or behind pooling and moves.
    """

    op: Weighted
    weight: Tensor
    name: str
    output: Tensor
    version: int
    rectified: bool = False

    def over_inputs(self, products: Tensor) -> Tensor:
        """Return the sum over each unit's inputs of numbers laid out as the weight."""
        with torch.enable_grad():
            ones = products.new_ones(self.output.shape[self.op.axis], requires_grad=True)
            total = self.op.scaled(products, ones).sum()
        found: Tensor = torch.autograd.grad(total, ones)[0]
        return found


@dataclass
class PatternRun:
    """One forward under the rules: the calls met, and what each passes back instead of its weight."""

    kind: Kind
    patterns: Sequence[Tensor] = ()
    calls: list[LinearCall] = field(default_factory=list)

    def weight(self, place: int) -> Tensor:
        """Return the weight with which a call pulls back."""
        pattern, weight = self.patterns[place], self.calls[place].weight
        return pattern.to(weight) * (weight if self.kind == "attribution" else 1)

    def check(self) -> int:
        """Refuse patterns that were not fitted on this network with these weights; return how many units have none."""
        shapes = [tuple(call.weight.shape) for call in self.calls]
        if shapes != [tuple(pattern.shape) for pattern in self.patterns]:
            raise CannotExplain(
                f"the patterns were fitted on another network: this one makes {len(shapes)} calls with weights "
                f"{shapes[:3]}..., and {len(self.patterns)} patterns were given; use pellucid.fit_patterns(model, images)"
            )
        silent = 0
        for call, pattern in zip(self.calls, self.patterns, strict=True):
            found = call.over_inputs(call.weight * pattern.to(call.weight))
            if bool(((found - 1).abs().minimum(found.abs()) > _UNITY).any()):
                raise CannotExplain(
                    f"the patterns do not belong to the weights of this network ({call.name} {tuple(pattern.shape)}): it "
                    "was trained further or randomised since; use pellucid.fit_patterns(model, images)"
                )
            silent += int((found.abs() < _UNITY).sum())
        return silent


@dataclass(frozen=True, eq=False)
class PatternPull:
    """Pulls back through a call with its pattern; the call's values play no part."""

    run: PatternRun
    place: int
    call: LinearCall

    def __call__(self, arrived: Tensor) -> tuple[Tensor, ...]:
        """Pull what arrived back to the call's input."""
        if self.run.calls[self.place] is not self.call:
            raise GuardError(
                f"the output of {self.call.name} feeds a BatchNorm and something else as well, so it has no one pattern; "
                "use gradient, integrated_gradients, deeplift or lrp"
            )
        op = self.call.op
        with torch.enable_grad():
            entering = op.entering.detach().requires_grad_()
            output = op.apply(entering, self.run.weight(self.place), None)
        return torch.autograd.grad(output, entering, arrived)


def linear_call(op: Weighted, weight: Tensor, name: str, output: Tensor) -> LinearCall:
    """Return a call that was just made."""
    return LinearCall(op, weight, name, output.clone(), op.entering._version)  # noqa: SLF001  # a ReLU may write in place
