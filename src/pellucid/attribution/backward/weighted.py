"""Operations with weights, taken apart: input, weight and bias, whichever torch call they come from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

from pellucid.attribution.backward.functions import functions
from pellucid.attribution.backward.operation import Operation, bound, operand

__all__ = ["CONVOLUTIONS", "DENSE", "Weighted", "linear", "normalisation", "weighted"]

CONVOLUTIONS = tuple(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3))
DENSE = ("linear", "matmul", "mm", "bmm", "mv")

_STRAIGHT = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_TURNED = frozenset(functions(("rmatmul",)))


@dataclass(frozen=True)
class Weighted:
    """``apply(entering, weight, bias)`` is the operation's output.

    Attributes
    ----------
    entering
        The active operand, detached.
    source
        The same with its graph.
    plain, bias
        Weight before any scaling, and one number an output channel or None: constants.
    axis
        Channel axis of the output.
    scaled
        From the weight and one factor an output channel to the weight times these factors.
    convolution
        Whether composites treat it as a convolution.
    output
        What the operation gives.
    transposed
        From one number a unit of output to one a unit of input, by the weights' transpose; costs no second forward.
    """

    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    entering: Tensor
    source: Tensor
    plain: Tensor
    bias: Tensor | None
    axis: int
    scaled: Callable[[Tensor, Tensor], Tensor]
    convolution: bool
    output: Tensor
    transposed: Callable[[Tensor], Tensor]
    outputs: int | None
    scale: Tensor | None = None

    @cached_property
    def weight(self) -> Tensor:
        """The weight with the scale of a folded normalisation: made when a rule first asks for it."""
        return self.plain if self.scale is None else self.scaled(self.plain, self.scale)

    def column(self, values: Tensor, output: Tensor) -> Tensor:
        """Return one value an output channel, shaped to fit the output."""
        shape = [1] * output.ndim
        shape[self.axis] = -1
        return values.view(shape)

    def per_channel(self, values: Tensor) -> Tensor:
        """Return ``(N, C)`` sums of what lies at each output channel."""
        there = values.movedim(self.axis, 1) if values.ndim > 1 else values[:, None]
        return there.flatten(2).sum(2) if there.ndim > 2 else there

    @property
    def ones(self) -> Tensor:
        """A weight of ones; with one output channel where that stands for all of them."""
        weight = self.plain if self.outputs is None else self.plain.narrow(self.outputs, 0, 1)
        return torch.ones_like(weight)

    @property
    def foldable(self) -> bool:
        """Whether a normalisation of channels (axis 1) can be folded in."""
        return self.convolution or (self.entering.ndim == 2 and self.axis == -1)

    def folded(self, scale: Tensor, shift: Tensor, output: Tensor) -> "Weighted":
        """Return the operation followed by ``scale × + shift`` on every output channel, as one operation."""
        bias = shift if self.bias is None else self.bias * scale + shift
        factor = self.column(scale, output)
        return replace(self, scale=scale, bias=bias, output=output,
                       transposed=lambda unit: self.transposed(unit * factor))  # fmt: skip


def weighted(operation: Operation) -> Weighted:
    """Take an operation with constant weights apart."""
    if operation.name.startswith("conv"):
        return _convolution(operation)
    if operation.name == "linear":
        given = bound(operation, ("input", "weight", "bias"))
        return _weighted(
            operation, functional.linear, given["weight"], given.get("bias"), axis=-1, scaled=_rows, outputs=0
        )
    first, second = operation.args if len(operation.args) > 1 else (*operation.args, *operation.kwargs.values())
    if operation.function in _TURNED:
        first, second = second, first
    if operand(operation, first) is not None:
        return _weighted(
            operation, _times, second, None, axis=-1, scaled=torch.mul, outputs=-1 if second.ndim > 1 else None
        )
    return _weighted(
        operation,
        lambda x, w, b: _times(w, x, b),
        first,
        None,
        axis=-2,
        scaled=torch.mul,
        outputs=-2 if first.ndim > 1 else None,
    )


def _times(first: Tensor, second: Tensor, bias: Tensor | None) -> Tensor:
    product = torch.matmul(first, second)
    return product if bias is None else product + bias


def _weighted(operation: Operation, apply: Any, weight: Tensor, bias: Tensor | None, **settings: Any) -> Weighted:
    settings.setdefault("convolution", False)
    output, transposed = linear(operation.run, operation.active[0])
    return Weighted(apply, operation.active[0], operation.sources[0], weight.detach(),
                    None if bias is None else bias.detach(), output=output, transposed=transposed, **settings)  # fmt: skip


def linear(run: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return what an affine function gives, and its transpose."""
    with torch.enable_grad():
        leaf = values.detach().requires_grad_()
        output = run(leaf)
    edge = get_gradient_edge(output)  # not the output itself, whose memory need not wait for the backward

    def transposed(unit: Tensor) -> Tensor:
        return torch.autograd.grad(edge, leaf, unit, retain_graph=True)[0]

    return output.detach(), transposed


def _convolution(operation: Operation) -> Weighted:
    turned = "transpose" in operation.name
    given = bound(operation, _TRANSPOSED if turned else _STRAIGHT)
    rest = {name: value for name, value in given.items() if name not in {"input", "weight", "bias"}}
    groups = rest.get("groups", 1)

    def apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = operation.function(x, weight, bias, **rest)
        return result

    def columns(weight: Tensor, scale: Tensor) -> Tensor:
        grouped = weight.view(groups, -1, *weight.shape[1:])
        return (grouped * scale.view(groups, 1, -1, *[1] * (weight.ndim - 2))).view_as(weight)

    axis = 1 - (given["weight"].ndim - given["input"].ndim)  # an image without a row axis has its channels first
    return _weighted(operation, apply, given["weight"], given.get("bias"),
                     axis=axis, scaled=columns if turned else _rows, convolution=True,
                     outputs=None if groups > 1 else int(turned))  # fmt: skip


def _rows(weight: Tensor, scale: Tensor) -> Tensor:
    return weight * scale.view(-1, *[1] * (weight.ndim - 1))


def normalisation(operation: Operation) -> tuple[Tensor, Tensor]:
    """Return scale and shift, one number a channel, of a BatchNorm that uses its running statistics."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = bound(operation, names)
    mean, variance = given["running_mean"].detach(), given["running_var"].detach()
    scale = (variance + given.get("eps", 1e-5)).rsqrt()
    if given.get("weight") is not None:
        scale = scale * given["weight"].detach()
    shift = -mean * scale
    return scale, shift if given.get("bias") is None else shift + given["bias"].detach()
