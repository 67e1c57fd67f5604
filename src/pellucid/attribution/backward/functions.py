"""Names of operations to the function objects by which a model may call them: interception keys on objects."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "ACTIVATIONS", "COMPARISONS", "MAX_POOLS", "ORDERS", "PRODUCTS", "QUADRATIC", "QUOTIENTS", "RECTIFIERS", "STRAIGHT", "functions",
]  # fmt: skip

_SPELLINGS = ("{}", "{}_", "__{}__", "__r{}__", "__i{}__")

RECTIFIERS = ("relu", "relu6")

ACTIVATIONS = (
    *RECTIFIERS, "hardtanh", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "logsigmoid",
    "tanh", "softplus", "softsign", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "threshold",
    "clamp", "clamp_min", "clamp_max", "clip", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal",
    "square", "sin", "cos", "erf", "prelu", "rrelu", "celu", "log2", "log10", "exp2", "erfc", "tan", "atan", "arctan", "sinh",
    "cosh", "asinh", "arcsinh", "logit", "sinc", "absolute",
)  # fmt: skip
"""Functions of one number each."""

STRAIGHT = (
    *RECTIFIERS, "hardtanh", "clamp", "clamp_min", "clamp_max", "clip", "abs", "absolute", "hardshrink", "softshrink",
    "threshold", "sign", "sgn", "round", "floor", "ceil", "trunc", "fix",
)  # fmt: skip
"""Functions of one number made of pieces that are level or have slope one or minus one, steps among them."""

PRODUCTS = ("mul", "multiply", "matmul", "mm", "bmm", "einsum")
"""Linear in each of two operands."""

MAX_POOLS = tuple(
    f"{kind}max_pool{rank}d{places}"
    for kind in ("", "adaptive_")
    for rank in (1, 2, 3)
    for places in ("", "_with_indices")
)

QUOTIENTS = ("div", "divide", "true_divide", "truediv")

QUADRATIC = (
    *PRODUCTS, "addmm", "addmv", "addr", "addbmm", "baddbmm", "addcmul", "mv", "dot", "vdot", "inner", "outer", "ger",
    "tensordot", "linear", "bilinear", "lerp", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d",
)  # fmt: skip
"""At most quadratic in all their operands together."""

ORDERS = ("gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal")

COMPARISONS = (*ORDERS, "eq", "ne", "not_equal", "sign", "heaviside")
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
