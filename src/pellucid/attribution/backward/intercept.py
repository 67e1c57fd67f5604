"""Interception: every torch call of the model's forward passes here and is made under its rule, under three guards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pellucid.attribution.backward.functions import COMPARISONS, functions
from pellucid.attribution.backward.graph import check_graph
from pellucid.attribution.backward.operation import Function, Rule, apply_rule, tensors_in, writes
from pellucid.errors import GuardError
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
    """

    name: str
    table: Mapping[Function, Entry]
    allowed: frozenset[str]
    ours: tuple[type, ...] = ()
    products: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", MappingProxyType(dict(self.table)))


class _Intercept(TorchFunctionMode):
    def __init__(self, rules: RuleSet, state: Any) -> None:
        super().__init__()
        self.rules, self.state = rules, state

    def __torch_function__(
        self, function: Function, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, kwargs = _constant(args), _constant(kwargs or {})
        entry = self.rules.table.get(function)
        if entry is not None and not entry.when(args, kwargs):
            entry = None
        if function in _COMPARISONS:
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
        return written.copy_(self._make(entry, function, args, kwargs))

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


def _constant(values: Any) -> Any:
    """Hold parameters fixed: those of a plain callable, or of a module that hides in one, are not frozen."""
    if isinstance(values, Tensor):
        return values.detach() if values.requires_grad and values.is_leaf else values
    if isinstance(values, dict):
        return {name: _constant(value) for name, value in values.items()}
    if isinstance(values, list | tuple) and any(True for _ in tensors_in(values)):
        parts = [_constant(value) for value in values]
        return parts if isinstance(values, list) else tuple(parts)
    return values


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
    with _without_saved_tensor_hooks(rules.name), _Intercept(rules, state):
        outputs = forward(*inputs)
    check_graph(outputs, inputs, rules.allowed, rules.ours, rules.name, products=rules.products)
    return outputs
