"""One torch call that a rule takes over, and the one autograd Function that carries every rule."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Operation",
    "Pullback",
    "Rule",
    "Ruled",
    "apply_rule",
    "bound",
    "operand",
    "substituted",
    "tensors_in",
    "writes",
]

Pullback = Callable[[Tensor], tuple[Tensor | None, ...]]
"""From what arrives at an operation's output to what leaves at each of its active operands."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Operation:
    """A torch call with its active operands: those through which the model's input reaches it.

    Attributes
    ----------
    function, args, kwargs
        The call as the model made it.
    active
        The active operands, detached: rules compute on values, never on the graph.
    sources
        The same operands with their graph.
    """

    function: Function
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    active: tuple[Tensor, ...]
    sources: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The function's name, as messages print it."""
        return str(getattr(self.function, "__name__", self.function)).strip("_")

    def run(self, *operands: Tensor) -> Any:
        """Call the function with `operands` in the place of the active ones; an in-place call writes into a copy."""
        own = {id(source): operand for source, operand in zip(self.sources, operands, strict=True)}
        args, kwargs = substituted((self.args, self.kwargs), own)
        if writes(self.function, self.args, self.kwargs):
            args = (args[0].clone(), *args[1:])
        return self.function(*args, **kwargs)


Rule = Callable[[Operation, Any], tuple[Any, Pullback]]
"""Runs an operation, given the state of the pass, and returns its output and how to pull back through it."""


class Ruled(torch.autograd.Function):
    """The node of every operation that a rule took over."""

    @staticmethod
    def forward(ctx: Any, rule: Rule, operation: Operation, state: Any, *_active: Tensor) -> Any:
        """Run the operation under its rule."""
        ctx.called = operation.name
        output, ctx.pullback = rule(operation, state)
        if isinstance(output, tuple):
            ctx.mark_non_differentiable(*output[1:])
            return output
        return output.clone() if output._is_view() else output  # noqa: SLF001  # the network may write into it

    @staticmethod
    def backward(ctx: Any, arrived: Tensor, *_others: Any) -> tuple[Tensor | None, ...]:
        """Pull back what arrived at the (first) output."""
        return (None, None, None, *ctx.pullback(arrived))


def apply_rule(rule: Rule, state: Any, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a call under a rule; a call that nothing active reaches is made as it is."""
    sources = tuple({id(tensor): tensor for tensor in tensors_in((args, kwargs)) if tensor.requires_grad}.values())
    if not sources or not torch.is_grad_enabled():
        return function(*args, **kwargs)
    operation = Operation(function, args, kwargs, tuple(source.detach() for source in sources), sources)
    result = Ruled.apply(rule, operation, state, *sources)  # type: ignore[no-untyped-call]
    named = getattr(torch.return_types, operation.name, None) if isinstance(result, tuple) else None
    return result if named is None else named(result)


def tensors_in(values: Any) -> list[Tensor]:
    """Find the tensors among arguments, in order."""
    found: list[Tensor] = []
    _collect((values,), found)
    return found


def _collect(values: Iterable[Any], found: list[Tensor]) -> None:
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)


def substituted(values: Any, own: Mapping[int, Tensor]) -> Any:
    """Return arguments with other tensors in the place of some, which are given by their ids."""
    if isinstance(values, Tensor):
        return own.get(id(values), values)
    if isinstance(values, dict):
        return {name: substituted(value, own) for name, value in values.items()}
    if isinstance(values, list | tuple) and tensors_in(values):
        parts = [substituted(value, own) for value in values]
        return parts if isinstance(values, list) else tuple(parts)
    return values


@cache
def _place(function: Function, name: str) -> int | None:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions of torch carry no signature, nor an `inplace`
        return None
    return names.index(name) if name in names else None


def writes(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether a call writes into its first operand: ``relu_``, ``+=``, ``inplace=True``."""
    name = str(getattr(function, "__name__", ""))
    if name.startswith("__"):
        return name.startswith("__i") and name not in {"__init__", "__invert__", "__index__", "__int__"}
    if name.endswith("_"):
        return True
    place = _place(function, "inplace")
    if place is None:
        return False
    return bool(args[place] if len(args) > place else kwargs.get("inplace", False))


def bound(operation: Operation, names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of a call by name; those that were not given are left out."""
    return {**dict(zip(names, operation.args, strict=False)), **operation.kwargs}


def operand(operation: Operation, value: Any) -> Tensor | None:
    """Return the detached active operand that `value` is, or None."""
    for source, detached in zip(operation.sources, operation.active, strict=True):
        if source is value:
            return detached
    return None
