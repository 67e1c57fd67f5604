"""Largest values, soft and hard, and gates, taken apart."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "amax", "amin", "bilinear", "glu", "log_softmax", "logsumexp", "maximum", "minimum", "smallest", "softmax",
]  # fmt: skip

Axes = int | Sequence[int]


def amax(_state: Any, input: Tensor, dim: Axes = (), keepdim: bool = False) -> Tensor:  # noqa: A002, FBT001, FBT002
    """Return the largest value along axes (all of them when none is named), by ``torch.max`` along one."""
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    axes = sorted(axis % input.ndim for axis in given or range(input.ndim))
    ends = tuple(range(input.ndim - len(axes), input.ndim))
    largest = torch.max(input.movedim(axes, ends).flatten(ends[0]), -1)[0]
    for axis in axes if keepdim else ():
        largest = largest.unsqueeze(axis)
    return largest


def amin(state: Any, input: Tensor, dim: Axes = (), keepdim: bool = False) -> Tensor:  # noqa: A002, FBT001, FBT002
    """Return the smallest value along axes."""
    return torch.neg(amax(state, torch.neg(input), dim, keepdim))


def smallest(_state: Any, input: Tensor, *args: Any, **settings: Any) -> Any:  # noqa: A002
    """Do what ``torch.min`` does in all its three forms, by ``torch.max``."""
    if "other" in settings or (args and isinstance(args[0], Tensor)):
        return torch.minimum(input, *args, **settings)
    if not args and not settings:
        return torch.neg(torch.max(torch.neg(input)))
    values, places = torch.max(torch.neg(input), *args, **settings)
    return torch.return_types.min((torch.neg(values), places))


def maximum(_state: Any, input: Tensor, other: Tensor) -> Tensor:  # noqa: A002
    """Return the larger of two, the second and what the first has more."""
    return torch.add(other, torch.relu(torch.sub(input, other)))


def minimum(_state: Any, input: Tensor, other: Tensor) -> Tensor:  # noqa: A002
    """Return the smaller of two."""
    return torch.sub(input, torch.relu(torch.sub(input, other)))


def logsumexp(_state: Any, input: Tensor, dim: Axes, keepdim: bool = False) -> Tensor:  # noqa: A002, FBT001, FBT002
    """Return log Σ exp, about the largest value."""
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    top = torch.amax(input, axes, keepdim=True)
    whole = torch.add(torch.log(torch.exp(torch.sub(input, top)).sum(axes, keepdim=True)), top)
    for axis in () if keepdim else sorted((axis % input.ndim for axis in axes), reverse=True):
        whole = whole.squeeze(axis)
    return whole


def log_softmax(_state: Any, input: Tensor, dim: int, *_rest: Any, **_settings: Any) -> Tensor:  # noqa: A002
    """Subtract log Σ exp."""
    return torch.sub(input, torch.logsumexp(input, dim, keepdim=True))


def softmax(_state: Any, input: Tensor, dim: int, *_rest: Any, **_settings: Any) -> Tensor:  # noqa: A002
    """Divide exponentials, taken about the largest value, by their sum."""
    weights = torch.exp(torch.sub(input, torch.amax(input, dim, keepdim=True)))
    return torch.div(weights, weights.sum(dim, keepdim=True))


def glu(_state: Any, input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002
    """Gate one half by the sigmoid of the other."""
    values, gate = input.chunk(2, dim)
    return torch.mul(values, torch.sigmoid(gate))


def bilinear(_state: Any, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x Wₖ y for every k."""
    once = torch.matmul(input1.unsqueeze(-2).unsqueeze(-2), weight).squeeze(-2)
    twice = torch.mul(once, input2.unsqueeze(-2)).sum(-1)
    return twice if bias is None else torch.add(twice, bias)
