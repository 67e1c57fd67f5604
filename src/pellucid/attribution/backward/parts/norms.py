"""Normalisations taken apart: what is subtracted and what is divided by come from the activations themselves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.errors import GuardError

__all__ = ["group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm", "std", "var", "vector_norm"]

Axes = int | Sequence[int]


def layer_norm(
    _state: Any,
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_rest: Any,
    **_settings: Any,
) -> Tensor:
    """Normalise over the last axes."""
    return _affine(_standardised(input, _last(normalized_shape), eps), weight, bias)


def group_norm(
    _state: Any,
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_rest: Any,
    **_settings: Any,
) -> Tensor:
    """Normalise over groups of channels and space."""
    grouped = input.reshape(len(input), num_groups, -1)
    even = _standardised(grouped, (-1,), eps).reshape(input.shape)
    return _affine(even, *(_per_channel(values, input) for values in (weight, bias)))


def instance_norm(
    _state: Any,
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,  # noqa: FBT001, FBT002 - torch's own signature
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_rest: Any,
    **_settings: Any,
) -> Tensor:
    """Normalise every channel over its own space, or by the running statistics as BatchNorm does."""
    if not use_input_stats:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)  # noqa: FBT003
    even = _standardised(input, tuple(range(2, input.ndim)), eps)
    return _affine(even, *(_per_channel(values, input) for values in (weight, bias)))


def rms_norm(
    _state: Any,
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide by the root mean square over the last axes."""
    added = torch.finfo(input.dtype).eps if eps is None else eps
    power = torch.mul(input, input).mean(_last(normalized_shape), keepdim=True)
    return _affine(torch.div(input, torch.sqrt(power + added)), weight, None)


def normalize(
    state: Any,
    input: Tensor,  # noqa: A002
    p: float = 2.0,
    dim: Axes = 1,
    eps: float = 1e-12,
    *_rest: Any,
    **_settings: Any,
) -> Tensor:
    """Divide by the length along an axis."""
    return torch.div(input, torch.clamp(vector_norm(state, input, p, dim, keepdim=True), min=eps))


def vector_norm(
    _state: Any,
    input: Tensor,  # noqa: A002
    ord: Any = 2.0,  # noqa: A002 - torch.linalg's own name
    dim: Axes | None = None,
    keepdim: bool = False,  # noqa: FBT001, FBT002
    *,
    p: Any = None,
    **_settings: Any,
) -> Tensor:
    """Return the length along axes: ``ord`` 1, 2 or any other positive number, infinity too."""
    asked = ord if p is None else p
    order = 2.0 if asked in {"fro", None} else float(asked)
    axes = _axes(input, dim, "norm")
    if order == torch.inf:
        return torch.amax(torch.abs(input), axes, keepdim)
    if order == 2:
        return torch.sqrt(torch.mul(input, input).sum(axes, keepdim))
    if order == 1:
        return torch.abs(input).sum(axes, keepdim)
    if order <= 0:
        raise GuardError(f"a norm of order {order:g} has no slope; use a positive order, or occlusion")
    return torch.pow(torch.pow(torch.abs(input), order).sum(axes, keepdim), 1 / order)


def var(
    _state: Any,
    input: Tensor,  # noqa: A002
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,  # noqa: FBT001, FBT002
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the variance along axes, less one degree of freedom unless told otherwise."""
    if isinstance(dim, bool):  # torch.var(input, unbiased)
        dim, unbiased = None, dim
    taken = float(bool(unbiased)) if unbiased is not None else 1.0 if correction is None else float(correction)
    axes = _axes(input, dim, "var")
    apart = input - input.mean(axes, keepdim=True)
    count = math.prod(input.shape[axis] for axis in axes)
    return torch.mul(apart, apart).sum(axes, keepdim) / max(count - taken, 0)


def std(state: Any, *args: Any, **settings: Any) -> Tensor:
    """Return the standard deviation along axes."""
    return torch.sqrt(var(state, *args, **settings))


def _axes(tensor: Tensor, dim: Axes | None, name: str) -> tuple[int, ...]:
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        raise GuardError(
            f"{name} over all axes of shape {tuple(tensor.shape)} mixes the rows; give it `dim`, without the row axis"
        )
    return (dim,) if isinstance(dim, int) else tuple(dim)


def _last(shape: Sequence[int] | int) -> tuple[int, ...]:
    return tuple(range(-1 if isinstance(shape, int) else -len(shape), 0))


def _standardised(values: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Divide by the spread, not multiply by its inverse: a flat image has next to none, and the inverse explodes."""
    apart = values - values.mean(axes, keepdim=True)
    spread = torch.sqrt(torch.mul(apart, apart).mean(axes, keepdim=True) + eps)
    return torch.div(apart, spread)


def _per_channel(values: Tensor | None, like: Tensor) -> Tensor | None:
    return None if values is None else values.reshape(-1, *[1] * (like.ndim - 2))


def _affine(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = values if weight is None else torch.mul(values, weight)
    return scaled if bias is None else torch.add(scaled, bias)
