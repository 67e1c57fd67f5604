"""LRP through functions without weights: activations, softmax, and what adds a constant."""

from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.attribution.backward.functions import ACTIVATIONS
from pellucid.attribution.backward.operation import Operation, Pullback
from pellucid.attribution.backward.shares import stabiliser
from pellucid.attribution.backward.spread import STABILISER, RelevanceState

__all__ = ["booked", "linearly", "rectified", "shifted", "slope", "taylor", "through"]

_STARTS_ELSEWHERE = frozenset({
    "sigmoid", "hardsigmoid", "softplus", "logsigmoid", "exp", "cos", "clamp", "clamp_min", "clamp_max", "clip", "hardtanh",
    "threshold", "maximum", "minimum", "max", "min", "pow", "erfc",
})  # fmt: skip
"""Functions of one number that may not be zero at zero."""

_FROM_ZERO = frozenset(ACTIVATIONS) - _STARTS_ELSEWHERE - {"log", "rsqrt", "reciprocal"}


def booked(arrived: Tensor, values: Tensor) -> Tensor:
    """Return c × a, which is nothing where no relevance arrives, be the number masked to infinity."""
    product = arrived * values
    return product if bool(values.isfinite().all()) else torch.where(arrived == 0, 0.0, product)


def slope(operation: Operation) -> Callable[[Tensor], tuple[Tensor | None, ...]]:
    """Return the plain gradient of an operation by its active operands."""
    with torch.enable_grad():
        leaves = [entering.clone().requires_grad_() for entering in operation.active]
        again = operation.run(*leaves)
    return lambda arrived: torch.autograd.grad(again, leaves, arrived, retain_graph=True, allow_unused=True)


def linearly(operation: Operation, _state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Pass what is linear in its active operands: its plain gradient is the contribution."""
    return operation.run(*operation.active), slope(operation)


def shifted(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Let the constants that an operation adds, joins or fills in absorb their share."""
    output: Tensor = operation.run(*operation.active)
    constant = operation.run(*(torch.zeros_like(entering) for entering in operation.active))
    back, name = slope(operation), operation.name

    def pull(arrived: Tensor) -> tuple[Tensor | None, ...]:
        state.ledger.take(booked(arrived, constant), name)
        return back(arrived)

    return output, pull


def taylor(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Expand a softmax at its own input, the rest absorbs: R_i = x_i (R_i − s_i Σ_j R_j) (Achtibat et al. 2024)."""
    (entering,) = operation.active
    output = operation.run(entering)
    kept, back, name = output.clone(), slope(operation), operation.name

    def pull(arrived: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = back(arrived)
        assert given is not None  # noqa: S101
        state.ledger.take(booked(arrived, kept), name)
        state.ledger.take(-booked(given, entering), name)
        return (given,)

    return output, pull


def through(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Leave relevance where it is at a function of one number: c is multiplied by (f(a) − f(0)) / a, f(0) absorbs."""
    (entering,) = operation.active
    output: Tensor = operation.run(entering)
    start = None if operation.name in _FROM_ZERO else _start(operation, entering)
    added = stabiliser(entering, STABILISER)
    ratio = (output if start is None else output - start) / (entering + added)
    name = operation.name

    def pull(arrived: Tensor) -> tuple[Tensor]:
        given = arrived * ratio
        state.ledger.take(given * added, name)
        if start is not None:
            state.ledger.take(arrived * start, name)
        return (given,)

    return output, pull


def _start(operation: Operation, entering: Tensor) -> Tensor | None:
    """Return f(0), or None where it is nothing or infinite, so that f(a) / a must do."""
    start: Tensor = operation.run(torch.zeros_like(entering))
    start = torch.where(start.isfinite(), start, 0.0)
    return start if bool(start.any()) else None


def rectified(operation: Operation, _state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Pass a ReLU, where f(a) / a is one or nought exactly."""
    output: Tensor = operation.run(*operation.active)
    on = output > 0
    return output, lambda arrived: (arrived * on,)
