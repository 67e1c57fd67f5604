"""Which function takes which torch function apart, by the names that `functions` knows."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pellucid.attribution.backward.parts.attention import multi_head_attention_forward, scaled_dot_product_attention
from pellucid.attribution.backward.parts.norms import (
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
    std,
    var,
    vector_norm,
)
from pellucid.attribution.backward.parts.recurrent import (
    gru,
    gru_cell,
    lstm,
    lstm_cell,
    rnn_relu,
    rnn_relu_cell,
    rnn_tanh,
    rnn_tanh_cell,
)
from pellucid.attribution.backward.parts.reductions import (
    amax,
    amin,
    bilinear,
    glu,
    log_softmax,
    logsumexp,
    maximum,
    minimum,
    smallest,
    softmax,
)

__all__ = ["ATTENTION", "NORMS", "PARTS", "RECURRENT"]

ATTENTION: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "multi_head_attention_forward": multi_head_attention_forward,
    "scaled_dot_product_attention": scaled_dot_product_attention,
})  # fmt: skip
"""Attention, alone and with its projections."""

NORMS: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "group_norm": group_norm, "instance_norm": instance_norm, "layer_norm": layer_norm, "rms_norm": rms_norm,
    "normalize": normalize, "norm": vector_norm, "vector_norm": vector_norm, "std": std, "var": var,
})  # fmt: skip

RECURRENT: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "lstm": lstm, "gru": gru, "rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu, "lstm_cell": lstm_cell, "gru_cell": gru_cell,
    "rnn_tanh_cell": rnn_tanh_cell, "rnn_relu_cell": rnn_relu_cell,
})  # fmt: skip

PARTS: Mapping[str, Callable[..., Any]] = MappingProxyType({
    **ATTENTION, **NORMS, **RECURRENT,
    "amax": amax, "amin": amin, "min": smallest, "maximum": maximum, "minimum": minimum, "logsumexp": logsumexp,
    "log_softmax": log_softmax, "softmax": softmax, "glu": glu, "bilinear": bilinear,
})  # fmt: skip
"""All of them; a rule set leaves out those for which it has a rule."""
