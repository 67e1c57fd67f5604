"""Patterns in the place of weights: what a linear operation passes back is the direction of its signal in the data.

The calls with weights are numbered as the network makes them, each with the BatchNorm that follows it folded in: a
pattern belongs to a call, so that a module that is called twice has two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.functions import QUOTIENTS, RECTIFIERS, functions
from pellucid.attribution.backward.graph import LINEAR, MOVES, PEAKS, node_name
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.operation import Operation, Pullback, apply_rule, tensors_in
from pellucid.attribution.backward.weighted import CONVOLUTIONS, Weighted, normalisation, weighted
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Forward, Model, ReadOut, Rules

__all__ = ["LinearCall", "from_values", "pattern_rules", "watching"]

_UNITY = 1e-2
"""How far wᵀa of a unit may lie from one: patterns of other weights are further away."""

Kind = Literal["net", "attribution"]


@dataclass(eq=False)
class LinearCall:
    """One operation with weights as the network called it.

    Attributes
    ----------
    op
        The operation.
    weight
        Its weight, the scale of a BatchNorm after it folded in.
    name
        What it is.
    output
        What it gave, before anything wrote into it.
    version
        Of its input, to tell whether something wrote into that since.
    rectified
        Whether a ReLU follows, directly or behind pooling and moves.
    """

    op: Weighted
    weight: Tensor
    name: str
    output: Tensor
    version: int
    rectified: bool = False

    def over_inputs(self, products: Tensor) -> Tensor:
        """Return the sum over each unit's inputs of numbers laid out as the weight."""
        with torch.enable_grad():
            ones = products.new_ones(self.output.shape[self.op.axis], requires_grad=True)
            total = self.op.scaled(products, ones).sum()
        found: Tensor = torch.autograd.grad(total, ones)[0]
        return found


@dataclass
class _Run:
    """One forward under the rules: the calls met, and what each passes back instead of its weight."""

    kind: Kind
    patterns: Sequence[Tensor] = ()
    calls: list[LinearCall] = field(default_factory=list)

    def weight(self, place: int) -> Tensor:
        """Return the weight with which a call pulls back."""
        pattern, weight = self.patterns[place], self.calls[place].weight
        return pattern.to(weight) * (weight if self.kind == "attribution" else 1)

    def check(self) -> int:
        """Refuse patterns that were not fitted on this network with these weights; return how many units have none."""
        shapes = [tuple(call.weight.shape) for call in self.calls]
        if shapes != [tuple(pattern.shape) for pattern in self.patterns]:
            raise CannotExplain(
                f"the patterns were fitted on another network: this one makes {len(shapes)} calls with weights "
                f"{shapes[:3]}..., and {len(self.patterns)} patterns were given; use pellucid.fit_patterns(model, images)"
            )
        silent = 0
        for call, pattern in zip(self.calls, self.patterns, strict=True):
            found = call.over_inputs(call.weight * pattern.to(call.weight))
            if bool(((found - 1).abs().minimum(found.abs()) > _UNITY).any()):
                raise CannotExplain(
                    f"the patterns do not belong to the weights of this network ({call.name} {tuple(pattern.shape)}): it "
                    "was trained further or randomised since; use pellucid.fit_patterns(model, images)"
                )
            silent += int((found.abs() < _UNITY).sum())
        return silent


@dataclass(frozen=True, eq=False)
class _Pull:
    """Pulls back through a call with its pattern; the call's values play no part."""

    run: _Run
    place: int
    call: LinearCall

    def __call__(self, arrived: Tensor) -> tuple[Tensor, ...]:
        if self.run.calls[self.place] is not self.call:
            raise GuardError(
                f"the output of {self.call.name} feeds a BatchNorm and something else as well, so it has no one pattern; "
                "use gradient, integrated_gradients, deeplift or lrp"
            )
        op = self.call.op
        with torch.enable_grad():
            entering = op.entering.detach().requires_grad_()
            output = op.apply(entering, self.run.weight(self.place), None)
        return torch.autograd.grad(output, entering, arrived)


def _made(op: Weighted, weight: Tensor, name: str, output: Tensor) -> LinearCall:
    return LinearCall(op, weight, name, output.clone(), op.entering._version)  # noqa: SLF001  # a ReLU may write in place


def _weights(operation: Operation, run: _Run) -> tuple[Tensor, Pullback]:
    output: Tensor = operation.run(*operation.active)
    op = weighted(operation)
    run.calls.append(_made(op, op.weight, operation.name, output))
    return output, _Pull(run, len(run.calls) - 1, run.calls[-1])


def _normalise(run: _Run, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Fold a BatchNorm into the call that made its input; elsewhere it is a scale a channel."""
    source = args[0] if args else kwargs["input"]
    before = getattr(source.grad_fn, "pullback", None)
    if not isinstance(before, _Pull):
        _refuse_tapped(source)
        return apply_rule(_scaled, run, function, args, kwargs)
    call = before.call
    output = function(*_plain(args), **{name: _plain(value) for name, value in kwargs.items()})
    if not call.op.foldable:
        return apply_rule(_scaled, run, function, args, kwargs)
    scale, _ = normalisation(Operation(function, args, kwargs, (), ()))
    weight = call.op.scaled(call.weight, scale)
    run.calls[before.place] = _made(call.op, weight, f"{call.name} + batch_norm", output)

    def rule(_operation: Operation, run: _Run) -> tuple[Tensor, Pullback]:
        return output, _Pull(run, before.place, run.calls[before.place])

    return apply_rule(rule, run, function, (call.op.source,), {})


def _refuse_tapped(source: Tensor) -> None:
    """Refuse a layer that is looked at between an operation and its BatchNorm: folded, nothing passes there."""
    node = source.grad_fn
    while node is not None and node_name(node) == "Clone":
        node = node.next_functions[0][0]
    if isinstance(getattr(node, "pullback", None), _Pull):
        raise CannotExplain(
            "pattern_net and pattern_attribution fold a BatchNorm into the layer before it, so that nothing arrives in "
            "between: name the BatchNorm in at= or of= instead"
        )


def _plain(values: Any) -> Any:
    return values.detach() if isinstance(values, Tensor) else values


def _scaled(operation: Operation, run: _Run) -> tuple[Tensor, Pullback]:
    """Pass a constant factor w of each number: its pattern is 1 / w."""
    with torch.enable_grad():
        entering = operation.active[0].detach().requires_grad_()
        output = operation.run(entering)
    if output.shape != entering.shape:
        raise GuardError(
            f"{operation.name} spreads an activation of shape {tuple(entering.shape)} over {tuple(output.shape)}, which "
            "has no pattern; use gradient, integrated_gradients, deeplift or lrp"
        )
    (factor,) = torch.autograd.grad(output, entering, torch.ones_like(output))
    on = factor != 0
    back = torch.where(on, 1 / torch.where(on, factor, 1), 0) if run.kind == "net" else on.to(factor)
    return output.detach(), lambda arrived: (arrived * back,)


def _rectify(operation: Operation, _run: _Run) -> tuple[Tensor, Pullback]:
    """Pass a ReLU as the gradient does, and tell the call before it that its signal is what is positive."""
    call = _behind(operation.sources[0])
    if call is not None:
        call.rectified = True
    (entering,) = operation.active
    output: Tensor = operation.run(entering)
    on = output > 0
    if operation.name == "relu6":
        on &= entering < 6
    return output, lambda arrived: (arrived * on,)


def _behind(source: Tensor) -> LinearCall | None:
    node = source.grad_fn
    while node is not None and node_name(node) in MOVES | PEAKS:
        node = node.next_functions[0][0]
    pull = getattr(node, "pullback", None)
    return pull.run.calls[pull.place] if isinstance(pull, _Pull) else None


def _input_alone(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether the model's input reaches a call by its first operand and no other."""
    first = args[0] if args else kwargs.get("input")
    active = sum(tensor.requires_grad for tensor in tensors_in((args, dict(kwargs))))
    return isinstance(first, Tensor) and first.requires_grad and active == 1


def _matrix(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return _input_alone(args, kwargs) and len(args) > 1 and args[1].ndim == 2


def _one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return sum(tensor.requires_grad for tensor in tensors_in((args, dict(kwargs)))) == 1


_MATRICES = ("matmul", "mm")
_TURNED = functions(("rmatmul",))

_RULES = RuleSet(
    "a pattern method",
    {
        **entries(RECTIFIERS, Entry(_rectify)),
        **entries((*CONVOLUTIONS, "linear"), Entry(_weights, _input_alone)),
        **{function: Entry(_weights, _matrix) for function in functions(_MATRICES) if function not in _TURNED},
        **entries(("mul", "multiply"), Entry(_scaled, _one)),
        **entries(QUOTIENTS, Entry(_scaled, _input_alone)),
        functional.batch_norm: Entry(make=_normalise),
    },
    (LINEAR | PEAKS) - {"Mm", "Bmm", "Mv", "Mul", "Div", "Baddbmm", "Addcmul"},
)


class _Start(torch.autograd.Function):
    """Where outputs are read: an attribution starts from their values, as relevance does."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        """Let an output out."""
        ctx.output = output.detach()
        return output.clone()

    @staticmethod
    def backward(ctx: Any, arrived: Tensor) -> Tensor:
        """Multiply what the target asks for by the output's value."""
        started: Tensor = arrived * ctx.output
        return started


def from_values(read: ReadOut) -> ReadOut:
    """Return a target of the same value whose slope by each output is multiplied by that output."""
    return replace(read, read=lambda outputs, rows: read(_Start.apply(outputs), rows))  # type: ignore[no-untyped-call]


def pattern_rules(patterns: Sequence[Tensor], kind: Kind, silent: Callable[[int], None]) -> Rules:
    """Return rules for `Passes.gradient` that pull back through each call by its pattern.

    Parameters
    ----------
    patterns
        One a call with weights, in the order of the forward, of the weight's shape.
    kind
        ``"net"`` pulls back by the pattern a, ``"attribution"`` by a × w.
    silent
        Is told, in every pass, how many units have no pattern and hand nothing back.

    Raises
    ------
    CannotExplain
        In the pass, when the patterns are not this network's.
    GuardError
        In the pass, when the network holds an operation without a rule; the sentence names it.
    """

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*inputs: Tensor) -> tuple[Tensor, ...]:
            run = _Run(kind, patterns)
            outputs = intercepted(_RULES, run, model, forward, inputs)
            silent(run.check())
            return outputs

        return changed

    return change


def watching(see: Callable[[list[LinearCall]], None]) -> Rules:
    """Return rules for `Passes.observe` that show every forward's calls with weights, in order."""

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*inputs: Tensor) -> tuple[Tensor, ...]:
            run = _Run("net")
            outputs = intercepted(_RULES, run, model, forward, inputs)
            see(run.calls)
            return outputs

        return changed

    return change
