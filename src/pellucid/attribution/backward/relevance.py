"""LRP: relevance per unit of activation, c = R / a, pulled back operation by operation, with every loss booked."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.functions import ACTIVATIONS, PRODUCTS
from pellucid.attribution.backward.graph import LINEAR, PEAKS
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.ledger import Enter, Leave, Ledger
from pellucid.attribution.backward.operation import Operation, Pullback, apply_rule, tensors_in
from pellucid.attribution.backward.shares import stabiliser
from pellucid.attribution.backward.spread import STABILISER, Composite, RelevanceState, spread
from pellucid.attribution.backward.weighted import CONVOLUTIONS, DENSE, Weighted, normalisation, weighted
from pellucid.errors import CannotExplain
from pellucid.models import Forward, Model, Rules

__all__ = ["relevance_rules"]


_SUMS = ("add", "sub", "subtract", "rsub")


def _weights(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    op = weighted(operation)
    return op.output, spread(op, operation.name, state)


def _normalise(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Fold a BatchNorm into the operation that made its input; elsewhere it is a scale and a shift that absorbs."""
    source = args[0] if args else kwargs["input"]
    before = getattr(getattr(source.grad_fn, "pullback", None), "op", None)
    if not isinstance(before, Weighted) or not before.foldable:
        return apply_rule(_shift, state, function, args, kwargs)
    output = function(*_plain(args), **{name: _plain(value) for name, value in kwargs.items()})
    scale, shift = normalisation(Operation(function, args, kwargs, (), ()))
    folded = before.folded(scale, shift, output)

    def rule(_operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
        return output, spread(folded, "conv + batch_norm" if folded.convolution else "linear + batch_norm", state)

    return apply_rule(rule, state, function, (before.source,), {})


def _plain(values: Any) -> Any:
    if isinstance(values, tuple):
        return tuple(_plain(value) for value in values)
    return values.detach() if isinstance(values, Tensor) else values


def _shift(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Let the constant of a scale and shift absorb its share."""
    output: Tensor = operation.run(*operation.active)
    constant = operation.run(*(torch.zeros_like(entering) for entering in operation.active))
    slope, name = _slope(operation), operation.name

    def pull(arrived: Tensor) -> tuple[Tensor, ...]:
        state.ledger.take(arrived * constant, name)
        return slope(arrived)

    return output, pull


def _slope(operation: Operation) -> Callable[[Tensor], tuple[Tensor, ...]]:
    with torch.enable_grad():
        leaves = [entering.clone().requires_grad_() for entering in operation.active]
        again = operation.run(*leaves)
    return lambda arrived: torch.autograd.grad(again, leaves, arrived)


def _halves(operation: Operation, _state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Give each factor of a product of activations half of the relevance (uniform rule, Achtibat et al. 2024)."""
    slope = _slope(operation)
    return operation.run(*operation.active), lambda arrived: tuple(part / 2 for part in slope(arrived))


def _through(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Leave relevance where it is at a function of one number: c is multiplied by f(a) / a."""
    (entering,) = operation.active
    output: Tensor = operation.run(entering)
    added = stabiliser(entering, STABILISER)
    tiny = entering.abs() < added.abs()
    ratio = output / torch.where(tiny, added, entering)
    lost = torch.where(tiny, output - ratio * entering, 0.0)
    taken, name = lost if bool((lost != 0).any()) else None, operation.name

    def pull(arrived: Tensor) -> tuple[Tensor]:
        if taken is not None:
            state.ledger.take(arrived * taken, name)
        return (arrived * ratio,)

    return output, pull


def _rectified(operation: Operation, _state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Pass a ReLU, where f(a) / a is one or nought exactly."""
    output: Tensor = operation.run(*operation.active)
    on = output > 0
    return output, lambda arrived: (arrived * on,)


def _add(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tell a shift by a constant from a sum of activations."""
    count = _active(args, kwargs)
    return apply_rule(_shift if count == 1 else _positive_terms, state, function, args, kwargs)


def _positive_terms(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Share a sum's relevance among its positive terms: z⁺ with weights one."""
    output: Tensor = operation.run(*operation.active)
    blank = tuple(torch.zeros_like(term) for term in operation.active)
    terms = [operation.run(*blank[:place], term, *blank[place + 1 :]) for place, term in enumerate(operation.active)]
    whole = sum((term.clamp(min=0) for term in terms), torch.zeros_like(output))
    added = stabiliser(whole, STABILISER)
    portion, masks = output / (whole + added), [term > 0 for term in terms]
    slope, name = _slope(operation), operation.name

    def pull(arrived: Tensor) -> tuple[Tensor, ...]:
        state.ledger.take(arrived * portion * added, name)
        return tuple(slope(arrived * portion * mask)[place] for place, mask in enumerate(masks))

    return output, pull


def _addmm(_state: RelevanceState, bias: Tensor, *factors: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    return torch.add(torch.matmul(*factors) * alpha, bias * beta)


def _active(args: Any, kwargs: Any) -> int:
    return sum(tensor.requires_grad for tensor in tensors_in((args, dict(kwargs))))


def _fills(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[3] if len(args) > 3 else kwargs.get("value"))


def _one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return _active(args, kwargs) == 1


def _two(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return _active(args, kwargs) > 1


def _multiply(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tell a linear layer from a product of two activations."""
    count = _active(args, kwargs)
    return apply_rule(_weights if count == 1 else _halves, state, function, args, kwargs)


_RULES = RuleSet(
    "lrp",
    {
        **entries(ACTIVATIONS, Entry(_through)),
        **entries(("relu",), Entry(_rectified)),
        **entries(CONVOLUTIONS, Entry(_weights, _one)),
        **entries(PRODUCTS, Entry(_halves, _two)),
        **entries(DENSE, Entry(make=_multiply)),
        **entries(_SUMS, Entry(_shift, _one)),
        **entries(("pad",), Entry(_shift, _fills)),
        **entries(("addmm",), Entry(parts=_addmm)),
        functional.batch_norm: Entry(make=_normalise),
    },
    LINEAR | PEAKS,
    ours=(Enter, Leave),
)
_POSITIVE = replace(_RULES, table={**_RULES.table, **entries(_SUMS, Entry(make=_add))})


def relevance_rules(composite: Composite) -> Rules:
    """Return rules for `Passes.gradient` that give relevance.

    The pass is given the inputs followed by one account ``(N, 2)`` of zeros. The inputs' "gradients" are their relevance;
    the account's are what biases, normalisation shifts and stabilisers took, and what the target put into the outputs.
    """

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*given: Tensor) -> tuple[Tensor, ...]:
            *inputs, account = given
            ledger = Ledger(tuple(inputs))
            entered = Enter.apply(ledger, account, *inputs)  # type: ignore[no-untyped-call]
            state = RelevanceState(composite, ledger, entered)
            rules = _POSITIVE if composite.positive_sums else _RULES
            outputs = intercepted(rules, state, model, forward, entered)
            if composite.first is not None and not state.seen:
                raise CannotExplain(
                    "lrp: no convolution or linear layer of the network sees the pixels themselves, which this "
                    "composite's first-layer rule needs; use lrp(composite='epsilon')"
                )
            return tuple(Leave.apply(ledger, output) for output in outputs)  # type: ignore[no-untyped-call]

        return changed

    return change
