"""Slopes between two points: of functions of one number, of products and of quotients, each exact at any distance."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.operation import Operation, Pullback
from pellucid.errors import GuardError

__all__ = ["at_point", "bent", "middle", "quotient", "ratio", "straight", "thinned"]

_NEAR = 1e-3
"""Fraction that a function's value and derivative may change by for the derivative to be the slope: less is rounding."""


def ratio(above: Tensor, below: Tensor, otherwise: Tensor | float) -> Tensor:
    """Divide, and where there is nothing to divide by return `otherwise`."""
    nothing = below == 0
    return torch.where(nothing, otherwise, above / torch.where(nothing, 1.0, below))


def _elementwise(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    (entering,), (baseline,) = operation.active, before
    output: Tensor = operation.run(entering)
    if output.shape != entering.shape:
        raise GuardError(
            f"{operation.name} gives shape {tuple(output.shape)} for {tuple(entering.shape)}; use integrated_gradients"
        )
    return output, output - operation.run(baseline), entering - baseline


def straight(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a function made of level and unit-slope pieces (ReLU, clamp, abs): Δoutput / Δinput has no rounding."""
    output, rise, apart = _elementwise(operation, before)
    slope = ratio(rise, apart, 0.0)
    level = apart == 0
    if bool(level.any()):
        slope = torch.where(level, _derivative(operation, operation.active[0]), slope)
    return output, lambda arrived: (arrived * slope,)


def bent(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope any other function of one number, by its derivatives where Δoutput would be lost in rounding."""
    output, rise, apart = _elementwise(operation, before)
    (entering,), (baseline,) = operation.active, before
    here, there = _derivative(operation, entering), _derivative(operation, baseline)
    mean = (here + there) / 2
    size = torch.maximum(output.abs(), (output - rise).abs())
    near = ((mean * apart).abs() <= _NEAR * size) & ((here - there).abs() <= _NEAR * mean.abs())
    slope = torch.where(near, mean, ratio(rise, apart, mean)).nan_to_num(0.0, 0.0, 0.0)
    return output, lambda arrived: (arrived * slope,)


def _derivative(operation: Operation, entering: Tensor) -> Tensor:
    with torch.enable_grad():
        point = entering.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(operation.run(point).sum(), point, allow_unused=True)
    return torch.zeros_like(point) if slope is None else slope


def middle(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope what is at most quadratic in its operands by its gradient half-way: Δ(ab) = b̄ Δa + ā Δb, exactly."""
    if operation.name == "einsum" and len(operation.active) > 2:
        raise GuardError(
            f"einsum of {len(operation.active)} activations has no rule; multiply two at a time, or use "
            "integrated_gradients"
        )
    output: Tensor = operation.run(*operation.active)
    halfway = [
        ((image + baseline) / 2).requires_grad_() for image, baseline in zip(operation.active, before, strict=True)
    ]
    with torch.enable_grad():
        there = operation.run(*halfway)
    return output, lambda arrived: torch.autograd.grad(there, halfway, arrived)


def quotient(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a quotient q = a / b by Δq = (Δa − q̄ Δb) / b̄, exactly, and well where a denominator nearly vanishes.

    Where the denominator changes sign between the points, b̄ says nothing and the mean of both inverses is taken.
    """
    if operation.kwargs.get("rounding_mode") is not None:
        raise GuardError("a division that rounds has no rule; use occlusion or kernel_shap")
    sides = _sides(operation)
    (a, b), (was_a, was_b) = (at_point(operation, sides, point) for point in (operation.active, before))
    output: Tensor = operation.run(*operation.active)
    same = torch.as_tensor(b * was_b) > 0
    inverse = torch.where(same, 2 / (b + was_b), (1 / b + 1 / was_b) / 2)
    by_b = torch.where(same, -(output + was_a / was_b) / 2 * inverse, -(a + was_a) / 2 / (b * was_b))
    slopes = {id(sides[0]): inverse, id(sides[1]): by_b} if sides[0] is not sides[1] else {id(sides[0]): inverse * 0}
    shapes = [(slopes[id(source)], source.shape) for source in operation.sources]
    return output, lambda arrived: tuple(thinned(arrived * slope, shape) for slope, shape in shapes)


def _sides(operation: Operation) -> tuple[Any, Any]:
    values = [*operation.args, *(operation.kwargs[name] for name in ("input", "other") if name in operation.kwargs)]
    above, below = values[:2]
    return (below, above) if getattr(operation.function, "__name__", "").startswith("__r") else (above, below)


def at_point(operation: Operation, values: Sequence[Any], active: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Return some of an operation's arguments as they are at a point, where its active operands are `active`."""
    shown = dict(zip(map(id, operation.sources), active, strict=True))
    return tuple(shown.get(id(value), value) for value in values)


def thinned(values: Tensor, shape: torch.Size) -> Tensor:
    """Add up over the axes along which an operand of this shape was repeated."""
    return values.sum_to_size(shape) if values.shape != shape else values
