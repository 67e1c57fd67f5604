"""Attention taken apart: projections, scores, softmax, weighted values."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.errors import GuardError

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    _state: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's own signature
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> Tensor:
    """Weigh values by the softmax of query · key."""
    _refuse_dropout(dropout_p)
    if enable_gqa:
        key, value = (_for_every_query(heads, query.shape[-3]) for heads in (key, value))
    bias = _bias(attn_mask, query.dtype)
    if is_causal:
        ahead = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        bias = _bias(ahead, query.dtype)
    return torch.matmul(_weights(query, key, bias, scale), value)


def multi_head_attention_forward(
    _state: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,  # noqa: FBT001
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,  # noqa: FBT001, FBT002
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,  # noqa: FBT001, FBT002
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,  # noqa: FBT001, FBT002
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,  # noqa: FBT001, FBT002
    is_causal: bool = False,  # noqa: ARG001, FBT001, FBT002 - only a hint; the mask says it
) -> tuple[Tensor, Tensor | None]:
    """Project, attend head by head, join and project again, on ``(L, N, E)`` as torch hands it over."""
    _refuse_dropout(dropout_p if training else 0.0)
    if static_k is not None or static_v is not None:
        raise GuardError("attention with static keys or values has no rule; use integrated_gradients or occlusion")
    alone = query.ndim == 2
    rows_first = [(part[:, None] if alone else part).transpose(0, 1) for part in (query, key, value)]
    weights_in = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else _thirds(in_proj_weight)
    projected = [functional.linear(part, weight, bias)  # type: ignore[arg-type]
                 for part, weight, bias in zip(rows_first, weights_in, _thirds(in_proj_bias), strict=True)]  # fmt: skip
    extra = (bias_k, bias_v) if bias_k is not None else (None, None)
    q = _heads(projected[0], num_heads)
    k, v = (_heads(_lengthened(part, more, zero=add_zero_attn), num_heads)
            for part, more in zip(projected[1:], extra, strict=True))  # fmt: skip
    padded = None if key_padding_mask is None else key_padding_mask.reshape(len(q), 1, 1, -1)
    added = k.shape[2] - key.shape[0]
    weights = _weights(q, k, _both(*(_hidden(mask, q, added) for mask in (attn_mask, padded))), None)
    joined = torch.matmul(weights, v).transpose(1, 2).flatten(2)
    output = functional.linear(joined, out_proj_weight, out_proj_bias).transpose(0, 1)
    shown = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
    if alone:
        return output.squeeze(1), None if shown is None else shown.squeeze(0)
    return output, shown


def _refuse_dropout(probability: float) -> None:
    if probability:
        raise GuardError(
            f"attention drops weights at random here (dropout_p={probability:g}, while explaining); pass 0 in eval mode"
        )


def _thirds(joined: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None, None, None) if joined is None else joined.chunk(3)


def _lengthened(part: Tensor, more: Tensor | None, *, zero: bool) -> Tensor:
    """Append a learnt key or value, and a zero one, as the options ask."""
    appended = [] if more is None else [more.expand(len(part), 1, -1)]
    if zero:
        appended.append(part.new_zeros(len(part), 1, part.shape[-1]))
    return torch.cat([part, *appended], 1) if appended else part


def _heads(part: Tensor, heads: int) -> Tensor:
    return part.reshape(*part.shape[:2], heads, -1).transpose(1, 2)


def _for_every_query(heads: Tensor, wanted: int) -> Tensor:
    times = wanted // heads.shape[-3]
    return heads.unsqueeze(-3).repeat(*[1] * (heads.ndim - 2), times, 1, 1).flatten(-4, -3)


def _hidden(mask: Tensor | None, heads: Tensor, added: int) -> Tensor | None:
    """Return a multi-head mask (True hides) as what is added to scores ``(N, heads, L, S)``."""
    if mask is None:
        return None
    if mask.ndim == 3:
        mask = mask.reshape(*heads.shape[:2], *mask.shape[1:])
    bias = _bias(mask.logical_not() if mask.dtype == torch.bool else mask, heads.dtype)
    return bias if bias is None else functional.pad(bias, (0, added))


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other


def _bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what a mask adds to scores, finite: -inf less -inf is no number where a rule compares two points."""
    if mask is None or mask.requires_grad:
        return mask
    lowest = torch.finfo(dtype).min / 4
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask.logical_not(), lowest)
    return mask.to(dtype).clamp(min=lowest)


def _weights(query: Tensor, key: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(torch.mul(query, factor), key.transpose(-2, -1))
    return functional.softmax(scores if bias is None else torch.add(scores, bias), -1)
