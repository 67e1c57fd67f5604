"""RevealCancel: positive and negative parts of every difference go through a nonlinearity on their own.

A layer with weights gives each of its outputs two parts, what raised it and what lowered it (Δz⁺ + Δz⁻ = Δz). Sums,
normalisations and moves carry them, a nonlinearity takes them in. They are made only when one asks for them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.beside import at_both
from pellucid.attribution.backward.functions import ACTIVATIONS, QUOTIENTS, STRAIGHT, functions
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries
from pellucid.attribution.backward.masks import MASKS
from pellucid.attribution.backward.operation import Function, Operation, apply_rule, substituted, tensors_in, writes
from pellucid.attribution.backward.raised import Kind, Parts, Raised, Revealed, Revealing, Split
from pellucid.attribution.backward.rescale import RESCALE
from pellucid.attribution.backward.slopes import bent, middle, straight
from pellucid.attribution.backward.weighted import CONVOLUTIONS

__all__ = ["REVEAL"]

_CARRIERS = (
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze",
    "dropout", "dropout2d", "dropout3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean", "sum", "contiguous", "clone", "getitem", "pixel_shuffle",
)  # fmt: skip
"""Linear with weights that are nought or positive: parts go through as they are."""

_BOUNDED = frozenset(("log", "log1p", "log2", "log10", "logit", "sqrt", "rsqrt", "reciprocal", "tan"))
"""Not defined everywhere, so not at a baseline with one part alone."""

_SUMS = ("add", "sub", "subtract")


def _active(args: Any, kwargs: Mapping[str, Any]) -> list[Tensor]:
    found = [tensor for tensor in tensors_in((args, dict(kwargs))) if tensor.requires_grad]
    return list({id(tensor): tensor for tensor in found}.values())


def _name(function: Function) -> str:
    return str(function.__name__).strip("_")


def _weigh(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a layer with weights, and note what raises and lowers its outputs."""
    active = _active(args, kwargs)
    given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
    entering, weight = given.pop("input"), given.pop("weight")
    given.pop("bias", None)
    if len(active) > 1:
        return apply_rule(at_both(middle), state, function, args, kwargs)
    output = function(*args, **kwargs)
    if not active or active[0] is not entering:
        return output
    (apart,) = state.differences(_name(function), entering)

    def layer(values: Tensor, weights: Tensor) -> Tensor:
        return function(values, weights, None, *args[3:], **given)  # type: ignore[no-any-return]

    kind: Kind = "dense" if function in _DENSE else "convolution"
    state.note(output, kind, lambda: Raised.apply(apart, layer, weight, entering))  # type: ignore[no-untyped-call]
    return output


def _scale(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Carry parts through scalings and BatchNorm: a negative factor turns what raised into what lowered."""
    entry = RESCALE.table.get(function)
    if entry is not None and entry.rule is not None and entry.when(args, kwargs):
        return apply_rule(entry.rule, state, function, args, kwargs)
    output, active = function(*_spared(function, args, kwargs), **kwargs), _active(args, kwargs)
    found = state.known(active[0]) if len(active) == 1 else None
    if found is None:
        return output

    def at(values: Tensor) -> Any:
        given, named = substituted((args, dict(kwargs)), {id(active[0]): values})
        return function(*given, **named)

    def parts() -> tuple[Tensor, Tensor]:
        factor = at(torch.ones_like(active[0])) - at(torch.zeros_like(active[0]))
        up, down = factor.clamp(min=0), factor.clamp(max=0)
        raised, lowered = found.get()
        return raised * up + lowered * down, raised * down + lowered * up

    state.note(output, found.kind, parts)
    return output


def _spared(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Give a call that writes a copy to write into."""
    return (args[0].clone(), *args[1:]) if writes(function, args, kwargs) else args


def _carry(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Carry parts along with what moves or averages their tensor."""
    if state.masks and function in MASKS:
        return MASKS[function].make(state, function, args, kwargs)  # type: ignore[misc]
    output, active = function(*args, **kwargs), _active(args, kwargs)
    found = state.known(active[0]) if len(active) == 1 else None
    if found is None or not isinstance(output, Tensor):
        return output

    def side(place: int) -> Tensor:
        given, named = substituted((args, dict(kwargs)), {id(active[0]): found.get()[place]})
        return function(*given, **named)  # type: ignore[no-any-return]

    state.note(output, found.kind, lambda: (side(0), side(1)))
    return output


def _join(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Put the parts of what is joined side by side; what has none is all risen or all fallen, a constant neither."""
    output, active = function(*args, **kwargs), _active(args, kwargs)
    if not active:
        return output
    aparts = dict(zip(map(id, active), state.differences(_name(function), *active), strict=True))
    found = {id(part): known for part in active if (known := state.known(part)) is not None}
    if not found:
        return output

    def parts_of(part: Tensor) -> tuple[Any, Any]:
        if id(part) in found:
            return found[id(part)].get()
        if id(part) in aparts:
            return Split.apply(aparts[id(part)], part)  # type: ignore[no-untyped-call, no-any-return]
        return torch.zeros_like(part), torch.zeros_like(part)

    def parts() -> tuple[Tensor, Tensor]:
        pairs = {id(part): parts_of(part) for part in tensors_in((args, dict(kwargs)))}
        sides = [
            substituted((args, dict(kwargs)), {key: pair[place] for key, pair in pairs.items()}) for place in (0, 1)
        ]
        return function(*sides[0][0], **sides[0][1]), function(*sides[1][0], **sides[1][1])

    state.note(output, _kind(*found.values()), parts)
    return output


def _sum(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Add up the parts of both terms; what is taken away lowers by what raised it."""
    output, active = function(*_spared(function, args, kwargs), **kwargs), _active(args, kwargs)
    if kwargs or len(args) != 2 or not active:
        return output
    terms = args[::-1] if _name(function) == "rsub" else args
    aparts = dict(zip(map(id, active), state.differences(_name(function), *active), strict=True))
    found = {id(term): state.known(term) for term in active}
    if state.kept is None or not any(found.values()):
        return output

    def parts_of(term: Any) -> tuple[Any, Any]:
        if id(term) not in aparts:
            return 0.0, 0.0
        known = found[id(term)]
        return Split.apply(aparts[id(term)], term) if known is None else known.get()  # type: ignore[no-untyped-call]

    def parts() -> tuple[Tensor, Tensor]:
        (raised, lowered), (more, less) = (parts_of(term) for term in terms)
        return (raised - less, lowered - more) if "sub" in _name(function) else (raised + more, lowered + less)

    state.note(output, _kind(*(known for known in found.values() if known is not None)), parts)
    return output


def _reveal(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Take parts through a function of one number; without parts, or where they are not wanted, by Rescale."""
    rule, (entering,) = straight if function in _STRAIGHT else bent, _active(args, kwargs)
    found = state.known(entering)
    if state.kept is None or found is None or found.kind not in state.reveal:
        return apply_rule(at_both(rule), state, function, args, kwargs)
    call = Operation(function, args, kwargs, (entering.detach(),), (entering,))
    (baseline,) = state.take(call.name, call.active)
    output, raised, lowered = Revealed.apply(call, baseline, *found.get())  # type: ignore[no-untyped-call]
    state.note(output, found.kind, lambda: (raised, lowered))
    return output


def _kind(*parts: Parts) -> Kind:
    return "convolution" if any(part.kind == "convolution" for part in parts) else "dense"


def _one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return len(_active(args, kwargs)) == 1


def _written(state: Revealing, target: Tensor, result: Any) -> None:
    """Hand on the parts of what was written over a tensor."""
    found = state.known(result)
    if found is not None:
        state.note(target, found.kind, found.get)


_STRAIGHT = frozenset(functions(STRAIGHT))
_DENSE = frozenset(functions(("linear",)))
REVEAL = RuleSet(
    "deeplift_reveal_cancel",
    {
        **RESCALE.table,
        **entries(
            tuple(name for name in (*ACTIVATIONS, *STRAIGHT) if name not in _BOUNDED), Entry(make=_reveal, when=_one)
        ),
        **entries(_CARRIERS, Entry(make=_carry)),
        **entries(("cat", "concat", "concatenate", "stack"), Entry(make=_join)),
        **entries(_SUMS, Entry(make=_sum)),
        **entries((*CONVOLUTIONS, "linear"), Entry(make=_weigh)),
        **entries(("mul", "multiply", "neg", "negative", *QUOTIENTS), Entry(make=_scale)),
        functional.batch_norm: Entry(make=_scale),
    },
    RESCALE.allowed,
    ours=(Raised, Split, Revealed),
    follow=RESCALE.follow,
    written=_written,
)
"""Rescale, with parts where there are such."""
