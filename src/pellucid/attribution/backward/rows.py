"""Where the rows of a batch lie in a tensor: LRP books what every row loses, and so must not take a step for a row."""

from functools import wraps
from typing import Any

from torch import Tensor

from pellucid.attribution.backward.graph import node_name
from pellucid.attribution.backward.operation import Operation, Pullback, Rule, Ruled
from pellucid.errors import GuardError

__all__ = ["RowsMoved", "in_rows", "moved", "rows_first"]

_CHANGES_AXES = {"Select": 1, "Unbind": 1, "Squeeze": 1, "Unsqueeze": -1, "Stack": -1}


class RowsMoved(GuardError):
    """The first axis of an activation does not hold the rows, so that several cannot be told apart."""


def moved(name: str, shape: tuple[int, ...], rows: int) -> RowsMoved:
    """Return the refusal to tell rows apart in an activation."""
    return RowsMoved(
        f"{name} works on shape {tuple(shape)}, whose first axis does not hold the {rows} rows; keep the row axis "
        "first, or explain one row at a time"
    )


def in_rows(rule: Rule) -> Rule:
    """Return a rule that refuses operands in which the rows are not the first axis."""

    @wraps(rule)
    def checked(operation: Operation, state: Any) -> tuple[Any, Pullback]:
        rows = len(state.ledger)
        for source in operation.sources if rows > 1 else ():
            if not rows_first(source):
                raise moved(operation.name, source.shape, rows)
        return rule(operation, state)

    return checked


def rows_first(source: Tensor) -> bool:
    """Say whether the rows are still a tensor's first axis after the moves that made it."""
    axis = 0
    for node, ndim in reversed(_moves(source)):
        there = _moved(node, ndim, axis)
        if there is None:
            return False
        axis = there
    return axis == 0


def _moves(source: Tensor) -> list[tuple[Any, int]]:
    """Return the nodes behind a tensor, nearest first, back to where a rule last looked, with the axes each returns."""
    found, node, ndim = [], source.grad_fn, source.ndim
    while node is not None and not isinstance(node, Ruled._backward_cls):  # noqa: SLF001
        found.append((node, ndim))
        shape = getattr(node, "_saved_self_sym_sizes", None)
        ndim = len(shape) if shape is not None else ndim + _CHANGES_AXES.get(node_name(node), 0)
        node = next((before for before, _ in node.next_functions if before is not None), None)
    return found


def _moved(node: Any, ndim: int, axis: int) -> int | None:
    """Return where the rows are after a move, or None where that cannot be said."""
    name = node_name(node)
    if name == "T":
        return ndim - 1 - axis
    if name == "Transpose":
        pair = [_signed(place, ndim) for place in (node._saved_dim0, node._saved_dim1)]  # noqa: SLF001
        return pair[1 - pair.index(axis)] if axis in pair else axis
    if name == "Permute":
        return [_signed(place, ndim) for place in node._saved_dims].index(axis)  # noqa: SLF001
    if name in {"Mean", "Sum"} and hasattr(node, "_saved_self_sym_sizes"):
        return _reduced(node, ndim, axis)
    if name in _CHANGES_AXES:
        return _renumbered(node, name, ndim, axis)
    return axis if axis == 0 or name not in {"View", "UnsafeView", "ReshapeAlias", "Expand"} else None


def _renumbered(node: Any, name: str, ndim: int, axis: int) -> int | None:
    dim = getattr(node, "_saved_dim", None)
    if not isinstance(dim, int):
        return axis if axis == 0 else None
    gone = _CHANGES_AXES[name] > 0
    place = _signed(dim, ndim + gone)
    if gone:
        return None if place == axis else axis - (place < axis)
    return axis + (place <= axis)


def _reduced(node: Any, ndim: int, axis: int) -> int | None:
    """Return where the rows are after a sum or a mean over other axes."""
    before = len(node._saved_self_sym_sizes)  # noqa: SLF001
    gone = [_signed(place, before) for place in getattr(node, "_saved_dim", None) or range(before)]
    if axis in gone:
        return None
    return axis - sum(place < axis for place in gone) if ndim < before else axis


def _signed(place: int, ndim: int) -> int:
    """Return an axis that autograd keeps as an unsigned number."""
    return (place - 2**64 if place >= 2**63 else place) % ndim
