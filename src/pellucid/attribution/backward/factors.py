"""LRP through products: layers with weights, gates that only let through, and two activations that share alike."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pellucid.attribution.backward.bends import linearly, slope, through
from pellucid.attribution.backward.functions import functions
from pellucid.attribution.backward.graph import MOVES, node_name
from pellucid.attribution.backward.operation import Operation, Pullback, Ruled, apply_rule, operand, tensors_in
from pellucid.attribution.backward.rows import in_rows
from pellucid.attribution.backward.spread import SCALINGS, SHIFTS, RelevanceState, spread
from pellucid.attribution.backward.weighted import DENSE, weighted

__all__ = ["GATES", "TURNED", "multiplied", "quotient", "weights"]

GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
"""They lie between nought and one, and say how much of another activation passes."""

_SCALES = frozenset({"rsqrt", "reciprocal"})
"""What a normalisation written by hand multiplies by."""

_DENSE = frozenset(functions(DENSE))
TURNED = frozenset(functions(("rdiv", "rtruediv")))
"""They divide what comes second."""


def weights(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Share relevance out as the composite says for an operation with constant weights."""
    op = weighted(operation)
    return op.output, spread(op, operation.name, state)


def multiplied(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tell a layer with weights from a gated activation and from a product of two activations."""
    constant = _SCALES if state.composite.halves else _SCALES | GATES
    factors = [tensor for tensor in tensors_in((args, dict(kwargs))) if tensor.requires_grad]
    gates = [factor for factor in factors if _made_by(factor, constant)] if len(factors) > 1 else []
    held = {id(gate): gate.detach() for gate in gates} if len(gates) < len(factors) else {}
    if held:
        args = tuple(held.get(id(value), value) for value in args)
        kwargs = {name: held.get(id(value), value) for name, value in kwargs.items()}
    alone = len(factors) - len(held) == 1
    rule = _halves if not alone else weights if function in _DENSE else linearly
    return apply_rule(in_rows(rule), state, function, args, kwargs)


def _halves(operation: Operation, _state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Give each factor of a product of activations half of the relevance (uniform rule, Achtibat et al. 2024)."""
    back = slope(operation)
    return operation.run(*operation.active), lambda arrived: tuple(
        None if part is None else part / 2 for part in back(arrived)
    )


def _made_by(source: Tensor, names: frozenset[str]) -> bool:
    """Say whether a tensor is what one of the named functions gave, moved, shifted or scaled by constants at most."""
    waiting = [source.grad_fn]
    while waiting:
        node = waiting.pop()
        called = getattr(node, "called", None) if isinstance(node, Ruled._backward_cls) else None  # noqa: SLF001
        if called in names:
            continue
        before = [parent for parent, _ in node.next_functions if parent is not None] if node is not None else []
        known = called in SHIFTS if called is not None else node is not None and node_name(node) in MOVES | SCALINGS
        if not known or not before:
            return False
        waiting += before[-1:] if node_name(node) == "Copy" else before  # of an in-place call, what was written
    return True


def quotient(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Divide by a constant: what normalises carries no relevance, unless nothing stands above it."""
    above = operation.args[1 if operation.function in TURNED else 0]
    if operand(operation, above) is None:
        return through(operation, state)
    output, back = linearly(operation, state)
    own = [source is above for source in operation.sources]
    return output, lambda arrived: tuple(part if kept else None for part, kept in zip(back(arrived), own, strict=True))
