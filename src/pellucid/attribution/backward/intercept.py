"""Interception: every torch call of the model's forward passes here and is made under its rule, under three guards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pellucid.attribution.backward.frames import current_line, described
from pellucid.attribution.backward.functions import COMPARISONS, functions
from pellucid.attribution.backward.graph import LINE, check_graph
from pellucid.attribution.backward.operation import Function, Rule, apply_rule, substituted, tensors_in, writes
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Forward, Model

__all__ = ["Entry", "RuleSet", "entries", "intercepted"]

_INSTEAD = "use gradient, integrated_gradients, occlusion or kernel_shap"
_COMPARISONS = frozenset(functions(COMPARISONS))
_COPIES = frozenset(functions(("copy_", "zero_", "fill_", "requires_grad_", "detach_", "set_", "resize_as_")))


@dataclass(frozen=True)
class Entry:
    """What a rule set does with a function.

    Attributes
    ----------
    rule
        The rule.
    when
        Whether it takes a call, given the call's operands in order; other calls keep their plain gradient.
    parts
        Instead of a rule: a function that computes the same from simpler calls, each of which is intercepted.
    make
        Instead of a rule: a function that is given the state and the call and makes it, uninterrupted.
    """

    rule: Rule | None = None
    when: Callable[[tuple[Any, ...], Mapping[str, Any]], bool] = lambda _args, _kwargs: True
    parts: Callable[..., Any] | None = None
    make: Callable[[Any, Function, tuple[Any, ...], Mapping[str, Any]], Any] | None = None


def entries(names: tuple[str, ...], entry: Entry) -> dict[Function, Entry]:
    """Return one entry for every function object of the named operations."""
    return dict.fromkeys(functions(names), entry)


@dataclass(frozen=True)
class RuleSet:
    """A method's rules.

    Attributes
    ----------
    name
        The method, for messages.
    table
        Function object to what is done with it.
    allowed
        Names of graph nodes (see `graph`) that keep their plain gradient.
    ours
        Further autograd Functions that the method puts into the graph.
    products
        Whether products of activations may keep their plain gradient.
    follow
        Sees a call before all else, and may refuse it or change its arguments.
    written
        Is told which tensor was written over in place, and by which result.
    """

    name: str
    table: Mapping[Function, Entry]
    allowed: frozenset[str]
    ours: tuple[type, ...] = ()
    products: bool = False
    follow: Callable[..., tuple[tuple[Any, ...], Mapping[str, Any]]] | None = None
    written: Callable[[Any, Tensor, Any], None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", MappingProxyType(dict(self.table)))

    def named(self, method: str) -> "RuleSet":
        """Return the same rules in the name of another method, which its refusals then tell."""
        return replace(self, name=method)


class _Intercept(TorchFunctionMode):
    def __init__(self, rules: RuleSet, state: Any, *, noting: bool) -> None:
        super().__init__()
        self.rules, self.state, self.noting, self.depth = rules, state, noting, 0

    def __torch_function__(
        self, function: Function, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, kwargs = _held((args, kwargs or {}))
        self.depth += 1
        try:
            result = self._intercepted(function, args, kwargs)
        except CannotExplain as error:
            if self.depth > 1:
                raise
            raise type(error)(f"{_named(function)} at {described(current_line())}: {error}") from error
        finally:
            self.depth -= 1
        if self.noting and not self.depth:
            _leave_line(result, function)
        return result

    def _intercepted(self, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self.rules.follow is not None:
            args, kwargs = self.rules.follow(self.state, function, args, kwargs)
        entry = self.rules.table.get(function)
        if entry is not None and not entry.when(args, kwargs):
            entry = None
        if entry is None and function in _COMPARISONS:
            self._refuse_mask(function, args)
        if function is functional.batch_norm:
            self._refuse_batch_statistics(args, kwargs)
        if writes(function, args, kwargs) and function not in _COPIES:
            return self._write(entry, function, args, kwargs)
        return self._make(entry, function, args, kwargs)

    def _make(self, entry: Entry | None, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if entry is None:
            return function(*args, **kwargs)
        if entry.rule is not None:
            return apply_rule(entry.rule, self.state, function, args, kwargs)
        if entry.make is not None:
            return entry.make(self.state, function, args, kwargs)
        assert entry.parts is not None  # noqa: S101
        with self:
            return entry.parts(self.state, *args, **kwargs)

    def _write(self, entry: Entry | None, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make an in-place call out of place and copy back, so that every alias sees what it would see."""
        written = args[0] if args else kwargs["input"]
        if not any(tensor.requires_grad for tensor in tensors_in((args, kwargs))):
            return function(*args, **kwargs)
        if entry is None:
            if not written._is_view():  # noqa: SLF001
                return function(*args, **kwargs)
            return written.copy_(function(written.clone(), *args[1:], **kwargs))
        if not args:
            args, kwargs = (written,), {name: value for name, value in kwargs.items() if name != "input"}
        result = self._make(entry, function, args, kwargs)
        written.copy_(result)
        if self.rules.written is not None:
            self.rules.written(self.state, written, result)
        return written

    def _refuse_mask(self, function: Function, args: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors_in(args)):
            raise GuardError(
                f"the network makes a mask of its activations by {function.__name__.strip('_')!r}, a nonlinearity that "
                f"{self.rules.name} cannot see; write it as F.relu, or {_INSTEAD}"
            )

    def _refuse_batch_statistics(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if args[5] if len(args) > 5 else kwargs.get("training", False):
            raise GuardError(
                "the network normalises by the statistics of the batch, so that one row's map would depend on its "
                f"neighbours; give the BatchNorm running statistics, or {_INSTEAD} row by row"
            )


def _named(function: Function) -> str:
    return str(getattr(function, "__name__", function)).strip("_")


def _leave_line(result: Any, function: Function) -> None:
    """Note at a call's node which line made it: whatever the graph guard finds there can be told."""
    made = result[0] if isinstance(result, tuple | list) and result else result
    node: Any = made.grad_fn if isinstance(made, Tensor) else None
    if node is not None:
        node.metadata.setdefault(LINE, (_named(function), current_line()))


def _held(values: Any) -> Any:
    """Hold parameters fixed: those of a plain callable, or of a module that hides in one, are not frozen."""
    loose = [tensor for tensor in tensors_in(values) if tensor.requires_grad and tensor.is_leaf]
    return substituted(values, {id(tensor): tensor.detach() for tensor in loose}) if loose else values


@contextmanager
def _without_saved_tensor_hooks(name: str) -> Iterator[None]:
    refusal = (
        f"{name} cannot follow checkpointing or other saved-tensor hooks; switch them off for explaining, or {_INSTEAD}"
    )
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(refusal):
            yield
    except RuntimeError as error:
        if str(error) == refusal:
            raise GuardError(refusal) from None
        raise


def _refuse_scripted(model: Model, name: str) -> None:
    parts = model.module.named_modules() if model.module is not None else ()
    for place, part in parts:
        if isinstance(part, torch.jit.ScriptModule):
            where = f"the layer {place!r}" if place else "the model"
            raise GuardError(
                f"{where} is scripted, and {name} cannot see into TorchScript; give the Python module, or {_INSTEAD}"
            )


def intercepted(
    rules: RuleSet, state: Any, model: Model, forward: Forward, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Call the model's forward under a rule set.

    Returns
    -------
    tuple of Tensor
        What `forward` returns, of the same values, with a graph that propagates what the rules say.

    Raises
    ------
    GuardError
        When the network holds what the rules cannot follow; the sentence names it.
    """
    _refuse_scripted(model, rules.name)
    outputs = _run(rules, state, forward, inputs, noting=False)
    try:
        check_graph(outputs, inputs, rules.allowed, rules.ours, rules.name, products=rules.products)
    except GuardError:  # once more, to say which line it is: that costs nothing where nothing is refused
        noted = _run(rules, state, forward, inputs, noting=True)
        check_graph(noted, inputs, rules.allowed, rules.ours, rules.name, products=rules.products)
        raise
    return outputs


def _run(
    rules: RuleSet, state: Any, forward: Forward, inputs: tuple[Tensor, ...], *, noting: bool
) -> tuple[Tensor, ...]:
    with _without_saved_tensor_hooks(rules.name), _Intercept(rules, state, noting=noting):
        return forward(*inputs)
