"""LRP: relevance per unit of activation, c = R / a, pulled back operation by operation, with every loss booked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward import shares
from pellucid.attribution.backward.functions import ACTIVATIONS, PRODUCTS
from pellucid.attribution.backward.graph import LINEAR, MOVES, PEAKS, node_name
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.ledger import Enter, Leave, Ledger
from pellucid.attribution.backward.operation import Operation, Pullback, Ruled, apply_rule, tensors_in
from pellucid.attribution.backward.shares import Share, ShareRule, stabiliser
from pellucid.attribution.backward.weighted import CONVOLUTIONS, DENSE, Weighted, normalisation, weighted
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Forward, Model, Rules

__all__ = ["STABILISER", "Composite", "relevance_rules"]

STABILISER = 1e-6
"""ε of every rule but the epsilon rule, relative to the row's root mean square."""


@dataclass(frozen=True)
class Composite:
    """Which rule goes where.

    Attributes
    ----------
    convolution, dense
        Rules of convolutions and of linear layers.
    first
        Rule of the operations with weights that see the pixels themselves; None: no special one.
    epsilon
        Stabiliser of the epsilon rule, relative to the row's root mean square.
    """

    convolution: ShareRule = shares.epsilon
    dense: ShareRule = shares.epsilon
    first: ShareRule | None = None
    epsilon: float = 1e-6

    def stabiliser(self, rule: ShareRule) -> float:
        """Return the ε of a rule."""
        return self.epsilon if rule is shares.epsilon else STABILISER


@dataclass
class _State:
    composite: Composite
    ledger: Ledger
    entered: tuple[Tensor, ...]
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Spread:
    """Pulls relevance back through an operation with weights; computed when it is needed, from the input alone."""

    op: Weighted
    name: str
    rule: ShareRule
    state: _State
    first: bool
    version: int

    def __call__(self, arrived: Tensor) -> tuple[Tensor]:
        entering = self.op.entering
        if entering._version != self.version:  # noqa: SLF001
            raise GuardError(f"lrp: the input of {self.name} was overwritten in place afterwards; write it out of place")
        output = self.op.apply(entering, self.op.weight, self.op.bias)
        found = torch.zeros_like(entering)
        for share in self.rule(self.op):
            found = found + self._shared(share, output, arrived)
        if not self.first:
            return (found,)
        entered = self.state.entered
        sent = torch.autograd.grad(self.op.source, entered, found, retain_graph=True, allow_unused=True)
        for place, relevance in enumerate(sent):
            if relevance is not None:
                self.state.ledger.send(place, relevance)
        return (torch.zeros_like(found),)

    def _shared(self, share: Share, output: Tensor, arrived: Tensor) -> Tensor:
        """Return what a share gives back per unit of input, or, in the first layer, outright."""
        with torch.enable_grad():
            leaves = [part.values.detach().requires_grad_() for part in share.parts]
            products = [self.op.apply(leaf, part.weight, None if place else share.bias) * part.sign
                        for place, (leaf, part) in enumerate(zip(leaves, share.parts, strict=True))]  # fmt: skip
            whole = torch.stack(products).sum(0) if len(products) > 1 else products[0]
        denominator = whole.detach()
        added = stabiliser(denominator, self.state.composite.stabiliser(self.rule))
        kept = share.portion * arrived * output
        if share.keep is not None:
            kept = kept * share.keep(output)
        unit = kept / (denominator + added)
        bias = 0.0 if share.bias is None else self.op.column(share.bias, output)
        self.state.ledger.take(unit * (added + bias), self.name)
        slopes = torch.autograd.grad(whole, leaves, unit)
        factors = (part.values if self.first else part.by for part in share.parts)
        return torch.stack([slope * factor for slope, factor in zip(slopes, factors, strict=True)]).sum(0)


def _spread(op: Weighted, name: str, state: _State) -> _Spread:
    composite = state.composite
    first = composite.first is not None and _sees_pixels(op.source, name)
    if first:
        state.seen.append(name)
    rule = composite.first if first else composite.convolution if op.convolution else composite.dense
    assert rule is not None  # noqa: S101
    return _Spread(op, name, rule, state, first, op.entering._version)  # noqa: SLF001


def _weights(operation: Operation, state: _State) -> tuple[Tensor, Pullback]:
    return operation.run(*operation.active), _spread(weighted(operation), operation.name, state)


def _sees_pixels(source: Tensor, name: str) -> bool:
    """Say whether an operation sees nothing but the images themselves, moved about at most."""
    waiting, scaled = [source.grad_fn], False
    while waiting:
        node = waiting.pop()
        if node is None or isinstance(node, Enter._backward_cls):  # type: ignore[attr-defined]  # noqa: SLF001
            continue
        if isinstance(node, Ruled._backward_cls) and node.rule is _shift:  # type: ignore[attr-defined]  # noqa: SLF001
            scaled = True
        elif node_name(node) in {"Mul", "Div", "Neg", "Add", "Sub", "Rsub"}:
            scaled = True
        elif node_name(node) not in MOVES:
            return False
        waiting += [before for before, _ in node.next_functions]
    if scaled:
        raise CannotExplain(
            f"lrp: the network rescales its input before the first layer ({name}), so that this layer's rule would not "
            "speak of the pixels; take that step out and give it as Model(..., preprocess=Normalise(mean, std)), or use "
            "lrp(composite='epsilon')"
        )
    return True


def _normalise(state: _State, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Fold a BatchNorm into the operation that made its input; elsewhere it is a scale and a shift that absorbs."""
    source = args[0] if args else kwargs["input"]
    before = getattr(getattr(source.grad_fn, "pullback", None), "op", None)
    if not isinstance(before, Weighted) or not before.foldable:
        return apply_rule(_shift, state, function, args, kwargs)
    output = function(*_plain(args), **{name: _plain(value) for name, value in kwargs.items()})
    scale, shift = normalisation(Operation(function, args, kwargs, (), ()))
    folded = before.folded(scale, shift)

    def rule(_operation: Operation, state: _State) -> tuple[Tensor, Pullback]:
        return output, _spread(folded, "conv + batch_norm" if folded.convolution else "linear + batch_norm", state)

    return apply_rule(rule, state, function, (before.source,), {})


def _plain(values: Any) -> Any:
    if isinstance(values, tuple):
        return tuple(_plain(value) for value in values)
    return values.detach() if isinstance(values, Tensor) else values


def _shift(operation: Operation, state: _State) -> tuple[Tensor, Pullback]:
    """Scale plus constant: the constant absorbs its share."""
    output: Tensor = operation.run(*operation.active)
    constant = operation.run(*(torch.zeros_like(entering) for entering in operation.active))
    slope = _slope(operation)

    def pull(arrived: Tensor) -> tuple[Tensor, ...]:
        state.ledger.take(arrived * constant, operation.name)
        return slope(arrived)

    return output, pull


def _slope(operation: Operation) -> Callable[[Tensor], tuple[Tensor, ...]]:
    with torch.enable_grad():
        leaves = [entering.clone().requires_grad_() for entering in operation.active]
        again = operation.run(*leaves)
    return lambda arrived: torch.autograd.grad(again, leaves, arrived)


def _halves(operation: Operation, _state: _State) -> tuple[Tensor, Pullback]:
    """Product of activations: each factor gets half of the relevance (uniform rule, Achtibat et al. 2024)."""
    slope = _slope(operation)
    return operation.run(*operation.active), lambda arrived: tuple(part / 2 for part in slope(arrived))


def _through(operation: Operation, state: _State) -> tuple[Tensor, Pullback]:
    """Function of one number: relevance stays where it is, so that c is multiplied by f(a) / a."""
    (entering,) = operation.active
    output: Tensor = operation.run(entering)
    added = stabiliser(entering, STABILISER)
    tiny = entering.abs() < added.abs()
    ratio = output / torch.where(tiny, added, entering)
    lost = torch.where(tiny, output - ratio * entering, 0.0)
    taken = lost if bool((lost != 0).any()) else None

    def pull(arrived: Tensor) -> tuple[Tensor]:
        if taken is not None:
            state.ledger.take(arrived * taken, operation.name)
        return (arrived * ratio,)

    return output, pull


def _addmm(_state: _State, input: Tensor, first: Tensor, second: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:  # noqa: A002
    return torch.add(torch.matmul(first, second) * alpha, input * beta)


def _active(args: Any, kwargs: Any) -> int:
    return sum(tensor.requires_grad for tensor in tensors_in((args, dict(kwargs))))


def _fills(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[3] if len(args) > 3 else kwargs.get("value"))


def _one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return _active(args, kwargs) == 1


def _two(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return _active(args, kwargs) > 1


def _multiply(state: _State, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Matrix product: with a constant it is a linear layer, of two activations a product."""
    count = _active(args, kwargs)
    return apply_rule(_weights if count == 1 else _halves, state, function, args, kwargs)


_RULES = RuleSet(
    "lrp",
    {
        **entries(ACTIVATIONS, Entry(_through)),
        **entries(CONVOLUTIONS, Entry(_weights, _one)),
        **entries(PRODUCTS, Entry(_halves, _two)),
        **entries(DENSE, Entry(make=_multiply)),
        **entries(("add", "sub", "subtract", "rsub"), Entry(_shift, _one)),
        **entries(("pad",), Entry(_shift, _fills)),
        **entries(("addmm",), Entry(parts=_addmm)),
        functional.batch_norm: Entry(make=_normalise),
    },
    LINEAR | PEAKS,
    ours=(Enter, Leave),
)


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
            state = _State(composite, ledger, entered)
            outputs = intercepted(_RULES, state, model, forward, entered)
            if composite.first is not None and not state.seen:
                raise CannotExplain(
                    "lrp: no convolution or linear layer of the network sees the pixels themselves, which this "
                    "composite's first-layer rule needs; use lrp(composite='epsilon')"
                )
            return tuple(Leave.apply(ledger, output) for output in outputs)  # type: ignore[no-untyped-call]

        return changed

    return change
