"""LRP where constants are written among activations: what they hold is booked as absorbed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.bends import booked
from pellucid.attribution.backward.operation import Operation, Pullback, apply_rule, tensors_in
from pellucid.attribution.backward.rows import in_rows
from pellucid.attribution.backward.spread import RelevanceState

__all__ = ["joins_constants", "written"]


def joins_constants(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether a call puts constants that are not all zero beside activations."""
    tensors = list(tensors_in((args, dict(kwargs))))
    constants = [tensor for tensor in tensors if not tensor.requires_grad and tensor.is_floating_point()]
    return len(constants) < len(tensors) and any(bool(constant.any()) for constant in constants)


def written(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Write into a slice, ``h[:, 0] = v`` or ``h.copy_(v)``, with either of the two constant."""
    target, value = args[0], args[-1]
    if not isinstance(value, Tensor):
        value = torch.as_tensor(value, dtype=target.dtype, device=target.device)
    if target.requires_grad and not value.requires_grad and bool(value.any()):
        slot = target[args[1]] if len(args) == 3 else target
        args = (*args[:-1], _carried(state, slot, value))
    elif value.requires_grad and not target.requires_grad and len(args) == 3 and bool(target.any()):
        target.copy_(_carried(state, value, target.clone()))
    return function(*args, **kwargs)


def _carried(state: RelevanceState, active: Tensor, constant: Tensor) -> Tensor:
    """Return a constant that books what arrives at it, tied into the graph beside an activation."""
    shape = active.shape if constant.numel() < active.numel() else constant.shape
    full = constant.to(active.dtype).expand(shape).clone()

    def rule(_operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
        def pull(arrived: Tensor) -> tuple[None]:
            state.ledger.take(booked(arrived, full), "constant")
            return (None,)

        return full.clone(), pull

    tied: Tensor = apply_rule(in_rows(rule), state, _carried, (active,), {})
    return tied
