"""What raised a tensor and what lowered it: two parts of its difference from the baseline, as tensors of the graph."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.attribution.backward.beside import Beside
from pellucid.attribution.backward.operation import Operation
from pellucid.attribution.backward.slopes import ratio

__all__ = ["Kind", "Parts", "Raised", "Revealed", "Revealing", "Split"]

Kind = Literal["convolution", "dense"]


@dataclass
class Parts:
    """What raised a tensor and what lowered it, made when asked for; void once the tensor is written over."""

    of: Tensor
    kind: Kind
    make: Callable[[], tuple[Tensor, Tensor]]
    version: int = 0
    made: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        self.version = self.of._version  # noqa: SLF001

    def get(self) -> tuple[Tensor, Tensor]:
        """Return the parts."""
        if self.made is None:
            self.made = self.make()
        return self.made


@dataclass
class Revealing(Beside):
    """The state of a pass: what the baselines went through, and the parts of tensors by their ids."""

    parts: dict[int, Parts] = field(default_factory=dict)
    reveal: frozenset[Kind] = frozenset()

    def differences(self, name: str, *operands: Tensor) -> tuple[Tensor, ...]:
        """Return how far operands lie from the baselines'; while the baselines pass, keep theirs."""
        values = tuple(operand.detach() for operand in operands)
        if self.kept is None:
            self.keep(name, values)
            return values
        return tuple(value - before for value, before in zip(values, self.take(name, values), strict=True))

    def known(self, tensor: Any) -> Parts | None:
        """Return a tensor's parts if there are any."""
        found = self.parts.get(id(tensor))
        return found if found is not None and found.version == tensor._version else None  # noqa: SLF001

    def note(self, tensor: Tensor, kind: Kind, make: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Note how a tensor's parts are made; its baseline's run needs none."""
        if self.kept is not None:
            self.parts[id(tensor)] = Parts(tensor, kind, make)


class Raised(torch.autograd.Function):
    """From a layer's input to its output's two parts: each input goes to one of them, by the sign of weight × Δinput."""

    @staticmethod
    def forward(ctx: Any, apart: Tensor, layer: Callable[..., Tensor], weight: Tensor, _entering: Tensor) -> Any:
        """Return both parts."""
        ctx.apart, ctx.layer, ctx.weights = apart, layer, (weight.clamp(min=0), weight.clamp(max=0))
        sides = (apart.clamp(min=0), apart.clamp(max=0))
        up, down = ctx.weights
        return layer(sides[0], up) + layer(sides[1], down), layer(sides[0], down) + layer(sides[1], up)

    @staticmethod
    def backward(ctx: Any, raised: Tensor, lowered: Tensor) -> Any:
        """Pull both multipliers back; an input that does not differ gets half of each."""
        up, down = ctx.weights
        above = _pulled(ctx.layer, ctx.apart, up, raised) + _pulled(ctx.layer, ctx.apart, down, lowered)
        below = _pulled(ctx.layer, ctx.apart, up, lowered) + _pulled(ctx.layer, ctx.apart, down, raised)
        sent = torch.where(ctx.apart > 0, above, torch.where(ctx.apart < 0, below, (above + below) / 2))
        return None, None, None, sent


def _pulled(layer: Callable[..., Tensor], at: Tensor, weight: Tensor, arrived: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (slope,) = torch.autograd.grad(layer(leaf, weight), leaf, arrived)
    return slope


class Split(torch.autograd.Function):
    """From a tensor to its two parts where nothing is known of them: each unit is all risen or all fallen."""

    @staticmethod
    def forward(ctx: Any, apart: Tensor, _whole: Tensor) -> Any:
        """Return both parts."""
        ctx.apart = apart
        return apart.clamp(min=0), apart.clamp(max=0)

    @staticmethod
    def backward(ctx: Any, raised: Tensor, lowered: Tensor) -> Any:
        """Pull back the multiplier of the part that a unit is."""
        return None, torch.where(ctx.apart > 0, raised, torch.where(ctx.apart < 0, lowered, (raised + lowered) / 2))


class Revealed(torch.autograd.Function):
    """A function of one number, of two parts: each part's effect is the mean of its effects before and after the other's.

    A part that is nil has the slope of the whole difference.
    """

    @staticmethod
    def forward(ctx: Any, call: Operation, baseline: Tensor, raised: Tensor, lowered: Tensor) -> Any:
        """Return the output and its two parts."""
        output = call.run(*call.active)
        start, top, low = (call.run(at) for at in (baseline, baseline + raised, baseline + lowered))
        ups, downs = (top - start + output - low) / 2, (low - start + output - top) / 2
        whole = ratio(output - start, raised + lowered, 0.0)
        ctx.slopes = ratio(ups, raised, whole), ratio(downs, lowered, whole)
        return output, ups, downs

    @staticmethod
    def backward(ctx: Any, whole: Tensor, raised: Tensor, lowered: Tensor) -> Any:
        """Pull each part's multiplier back to it."""
        up, down = ctx.slopes
        return None, None, (whole + raised) * up, (whole + lowered) * down
