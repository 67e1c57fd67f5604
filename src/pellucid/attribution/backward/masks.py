"""Masks that a network makes of its activations by comparison: steps, followed from the comparison to their use."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.beside import Beside, at_both
from pellucid.attribution.backward.functions import ORDERS, functions
from pellucid.attribution.backward.intercept import Entry, entries
from pellucid.attribution.backward.operation import Function, Operation, Pullback, apply_rule, tensors_in
from pellucid.attribution.backward.slopes import at_point, middle, ratio, thinned
from pellucid.errors import GuardError

__all__ = ["MASKS", "follow_masks"]

_MOVES = (
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as", "permute", "transpose", "movedim",
    "getitem", "repeat", "broadcast_to", "clone", "contiguous", "flip",
)  # fmt: skip
_NOT, _BOTH, _EITHER = (
    (f"logical_{name}", f"bitwise_{name}", again) for name, again in (("not", "invert"), ("and", "and"), ("or", "or"))
)
_ARITHMETIC = frozenset(functions(("mul", "multiply", "add", "sum", "mean", "float", "to", "type_as", "double")))
_SILENT = frozenset(functions(("size", "dim", "numel", "ndimension", "is_floating_point")))


def _tracked(state: Beside, values: Any) -> bool:
    return bool(state.masks) and any(id(tensor) in state.masks for tensor in tensors_in(values))


def _number(state: Beside, value: Any) -> Any:
    found = state.masks.get(id(value))
    return value if found is None else found[1]


def follow_masks(
    state: Beside, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return a call's arguments with noughts and ones for masks that it reckons with; refuse what hides a mask."""
    if not _tracked(state, (args, dict(kwargs))) or function in _KNOWN:
        return args, kwargs
    if function not in _ARITHMETIC:
        raise GuardError(
            "the mask that the network made of its activations by comparison cannot be followed into this call; use it in "
            "torch.where, masked_fill or a product, or explain by integrated_gradients or occlusion"
        )
    numbers = {name: _number(state, value) for name, value in kwargs.items()}
    return tuple(_number(state, value) for value in args), numbers


def _step(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a comparison, as nought or one, by what its first side has more than its second."""
    sides, output = operation.args, operation.run(*operation.active)
    (now, over), (was, beyond) = (at_point(operation, sides, point) for point in (operation.active, before))
    slope = ratio(output - operation.run(*before), (now - over) - (was - beyond), 0.0)
    signs = {id(sides[1]): -1, id(sides[0]): 1} if sides[0] is not sides[1] else {id(sides[0]): 0}
    sent = [(signs[id(source)], source.shape) for source in operation.sources]
    return output, lambda arrived: tuple(thinned(arrived * slope * sign, shape) for sign, shape in sent)


def _compare(state: Beside, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Make a comparison, and remember its result as numbers that the rules can follow."""
    mask: Tensor = function(*args, **kwargs)
    sides = (*args, *(value for name, value in kwargs.items() if name in {"input", "other"}))
    dtype = tensors_in(sides)[0].dtype

    def compared(one: Any, other: Any) -> Tensor:
        return function(one, other).to(dtype)  # type: ignore[no-any-return]

    _remember(state, mask, apply_rule(at_both(_step), state, compared, sides, {}))
    return mask


def _remember(state: Beside, mask: Tensor, number: Tensor) -> None:
    if number.requires_grad:
        state.masks[id(mask)] = (mask, number)


def _move(state: Beside, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    moved = function(*args, **kwargs)
    if _tracked(state, args[:1]):
        _remember(state, moved, function(_number(state, args[0]), *args[1:], **kwargs))
    return moved


def _opposite(state: Beside, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    mask: Tensor = function(*args, **kwargs)
    if _tracked(state, args):
        _remember(state, mask, 1 - _number(state, args[0]))
    return mask


def _joined(state: Beside, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Follow *and* as a product; *or* is what both give less it."""
    mask: Tensor = function(*args, **kwargs)
    if _tracked(state, args):
        dtype = next(number for value in args if (number := _number(state, value)) is not value).dtype
        one, other = (_number(state, value).to(dtype) for value in args)
        both = apply_rule(at_both(middle), state, torch.mul, (one, other), {})
        _remember(state, mask, both if function in _AND else one + other - both)
    return mask


def _choice(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a choice by a mask m: Δ(m a + (1 − m) b) = m̄ Δa + (1 − m̄) Δb + (ā − b̄) Δm."""
    (m, a, b, mask), (was_m, was_a, was_b, _) = (
        at_point(operation, operation.args, point) for point in (operation.active, before)
    )
    share = (m + was_m) / 2
    gain = torch.where(m == was_m, 0.0, (a + was_a - b - was_b) / 2)
    number, one, other, _ = operation.args
    slopes = {id(other): 1 - share, id(one): share, id(number): gain}
    if one is other:
        slopes[id(one)] = torch.ones_like(share)
    sent = [(slopes[id(source)], source.shape) for source in operation.sources]
    return torch.where(mask, a, b), lambda arrived: tuple(thinned(arrived * part, shape) for part, shape in sent)


def _chosen(number: Tensor, one: Any, other: Any, mask: Tensor) -> Tensor:  # noqa: ARG001 - the mask says what the number does
    return torch.where(mask, one, other)


def _choose(state: Beside, mask: Tensor, one: Any, other: Any, like: Tensor) -> Tensor:
    if id(mask) not in state.masks:
        _refuse_other_mask(state, mask)
    number = _number(state, mask).to(like.dtype)
    return apply_rule(at_both(_choice), state, _chosen, (number, one, other, mask), {})  # type: ignore[no-any-return]


def _refuse_other_mask(state: Beside, mask: Tensor) -> None:
    """Take care that a mask whose making was not seen is the same at both points."""
    if state.kept is None:
        state.keep("mask", (mask,))
    elif not torch.equal(state.take("mask", (mask,))[0], mask):
        raise GuardError(
            "the mask is not the same for the image and for the baseline, though no gradient leads to it (detached?); "
            "compare the activations themselves, or use integrated_gradients or occlusion"
        )


def _where(state: Beside, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tell ``torch.where(mask, a, b)`` from ``a.where(mask, b)``."""
    named = [*args, *(kwargs[name] for name in ("condition", "input", "self", "other") if name in kwargs)]
    if len(named) != 3:
        return function(*args, **kwargs)
    mask, one, other = named if function is torch.where else (named[1], named[0], named[2])
    like = next((value for value in (one, other) if isinstance(value, Tensor)), None)
    return _choose(state, mask, one, other, torch.ones(()) if like is None else like)


def _fill(state: Beside, _function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    values, mask, filled = [*args, *(kwargs[name] for name in ("input", "mask", "value") if name in kwargs)]
    return _choose(state, mask, filled, values, values)


_AND = frozenset(functions(_BOTH))
MASKS: Mapping[Function, Entry] = {
    **entries(_MOVES, Entry(make=_move)),
    **entries(ORDERS, Entry(make=_compare)),
    **entries(_NOT, Entry(make=_opposite)),
    **entries((*_BOTH, *_EITHER), Entry(make=_joined)),
    **entries(("where",), Entry(make=_where)),
    **entries(("masked_fill",), Entry(make=_fill)),
}
"""What is done with comparisons, with what joins and moves masks, and with what chooses by them."""

_KNOWN = frozenset(MASKS) | _SILENT
