"""How many operands of a call are activations: on that depends which rule it gets."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pellucid.attribution.backward.operation import tensors_in

__all__ = ["active", "detached", "one", "several"]


def active(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return how many operands of a call are activations."""
    return sum(tensor.requires_grad for tensor in tensors_in((args, dict(kwargs))))


def one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether a single one is."""
    return active(args, kwargs) == 1


def several(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether more than one is."""
    return active(args, kwargs) > 1


def detached(values: Any) -> Any:
    """Return operands, alone or in a tuple, without their graph."""
    if isinstance(values, tuple):
        return tuple(detached(value) for value in values)
    return values.detach() if isinstance(values, Tensor) else values
