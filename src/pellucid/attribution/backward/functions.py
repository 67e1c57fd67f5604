"""Names of operations to the function objects by which a model may call them: interception keys on objects."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "COMPARISONS", "MAX_POOLS", "PRODUCTS", "QUOTIENTS", "RECTIFIERS", "functions"]

_SPELLINGS = ("{}", "{}_", "__{}__", "__r{}__", "__i{}__")

RECTIFIERS = ("relu", "relu6")

ACTIVATIONS = (
    *RECTIFIERS, "hardtanh", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "logsigmoid",
    "tanh", "softplus", "softsign", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "threshold",
    "clamp", "clamp_min", "clamp_max", "clip", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal",
    "square", "sin", "cos", "erf",
)  # fmt: skip
"""Functions of one number each."""

PRODUCTS = ("mul", "multiply", "matmul", "mm", "bmm", "einsum")
"""Linear in each of two operands."""

MAX_POOLS = tuple(
    f"{kind}max_pool{rank}d{places}"
    for kind in ("", "adaptive_")
    for rank in (1, 2, 3)
    for places in ("", "_with_indices")
)

QUOTIENTS = ("div", "divide", "true_divide", "truediv")

COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne", "greater", "less", "sign", "heaviside")
"""They turn activations into masks, which no graph shows."""


def functions(names: Iterable[str]) -> tuple[Callable[..., Any], ...]:
    """Return every function object that does one of the named operations, in torch, in F, in linalg and on tensors."""
    found: dict[Callable[..., Any], None] = {}
    for name in names:
        for place in (torch, functional, Tensor, torch.linalg):
            for spelling in _SPELLINGS:
                function = getattr(place, spelling.format(name), None)
                if callable(function):
                    found[function] = None
    return tuple(found)
