"""Patterns in the place of weights: what a linear operation passes back is the direction of its signal in the data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.functions import QUOTIENTS, RECTIFIERS, functions
from pellucid.attribution.backward.graph import LINEAR, MOVES, PEAKS, node_name
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.linear_calls import Kind, LinearCall, PatternPull, PatternRun, linear_call
from pellucid.attribution.backward.operands import detached, one
from pellucid.attribution.backward.operation import Operation, Pullback, apply_rule
from pellucid.attribution.backward.weighted import CONVOLUTIONS, normalisation, weighted
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Forward, Model, Rules

__all__ = ["pattern_rules", "watching"]


def _weights(operation: Operation, run: PatternRun) -> tuple[Tensor, Pullback]:
    output: Tensor = operation.run(*operation.active)
    op = weighted(operation)
    run.calls.append(linear_call(op, op.weight, operation.name, output))
    return output, PatternPull(run, len(run.calls) - 1, run.calls[-1])


def _normalise(run: PatternRun, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Fold a BatchNorm into the call that made its input; elsewhere it is a scale a channel."""
    source = args[0] if args else kwargs["input"]
    before = getattr(source.grad_fn, "pullback", None)
    if not isinstance(before, PatternPull):
        _refuse_tapped(source)
        return apply_rule(_scaled, run, function, args, kwargs)
    call = before.call
    output = function(*detached(args), **{name: detached(value) for name, value in kwargs.items()})
    if not call.op.foldable:
        return apply_rule(_scaled, run, function, args, kwargs)
    scale, _ = normalisation(Operation(function, args, kwargs, (), ()))
    weight = call.op.scaled(call.weight, scale)
    run.calls[before.place] = linear_call(call.op, weight, f"{call.name} + batch_norm", output)

    def rule(_operation: Operation, run: PatternRun) -> tuple[Tensor, Pullback]:
        return output, PatternPull(run, before.place, run.calls[before.place])

    return apply_rule(rule, run, function, (call.op.source,), {})


def _refuse_tapped(source: Tensor) -> None:
    """Refuse a layer that is looked at between an operation and its BatchNorm: folded, nothing passes there."""
    node = source.grad_fn
    while node is not None and node_name(node) == "Clone":
        node = node.next_functions[0][0]
    if isinstance(getattr(node, "pullback", None), PatternPull):
        raise CannotExplain(
            "pattern_net and pattern_attribution fold a BatchNorm into the layer before it, so that nothing arrives in "
            "between: name the BatchNorm in at= or of= instead"
        )


def _scaled(operation: Operation, run: PatternRun) -> tuple[Tensor, Pullback]:
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


def _rectify(operation: Operation, _run: PatternRun) -> tuple[Tensor, Pullback]:
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
    return pull.run.calls[pull.place] if isinstance(pull, PatternPull) else None


def _input_alone(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether the model's input reaches a call by its first operand and no other."""
    first = args[0] if args else kwargs.get("input")
    return isinstance(first, Tensor) and first.requires_grad and one(args, kwargs)


def _matrix(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return _input_alone(args, kwargs) and len(args) > 1 and args[1].ndim == 2


_MATRICES = ("matmul", "mm")
_TURNED = functions(("rmatmul",))

_RULES = RuleSet(
    "pattern_net",
    {
        **entries(RECTIFIERS, Entry(_rectify)),
        **entries((*CONVOLUTIONS, "linear"), Entry(_weights, _input_alone)),
        **{function: Entry(_weights, _matrix) for function in functions(_MATRICES) if function not in _TURNED},
        **entries(("mul", "multiply"), Entry(_scaled, one)),
        **entries(QUOTIENTS, Entry(_scaled, _input_alone)),
        functional.batch_norm: Entry(make=_normalise),
    },
    (LINEAR | PEAKS) - {"Mm", "Bmm", "Mv", "Mul", "Div", "Baddbmm", "Addcmul"},
)


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
            run = PatternRun(kind, patterns)
            outputs = intercepted(_RULES.named(f"pattern_{kind}"), run, model, forward, inputs)
            silent(run.check())
            return outputs

        return changed

    return change


def watching(see: Callable[[list[LinearCall]], None]) -> Rules:
    """Return rules for `Passes.observe` that show every forward's calls with weights, in order."""

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*inputs: Tensor) -> tuple[Tensor, ...]:
            run = PatternRun("net")
            outputs = intercepted(_RULES.named("fit_patterns"), run, model, forward, inputs)
            see(run.calls)
            return outputs

        return changed

    return change
