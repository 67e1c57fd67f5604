"""LRP rules for operations with weights, all in one form: shares of the output among parts of input and weight.

A rule says which parts ``x̂ ŵ`` make up the denominator and what stands in the numerator. What travels is c = R / a,
relevance per unit of activation: residual sums, concatenations and average pools then need no rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pellucid.attribution.backward.weighted import Weighted

__all__ = [
    "Part",
    "Share",
    "ShareRule",
    "alpha_beta",
    "box",
    "epsilon",
    "flat",
    "gamma",
    "plus",
    "stabiliser",
    "unbiased_plus",
]


@dataclass(frozen=True)
class Part:
    """One product ``values × weight`` of a denominator; `by` is d values / d input, or None for first-layer rules."""

    values: Tensor
    weight: Tensor
    by: Tensor | float = 1.0
    sign: float = 1.0


@dataclass(frozen=True)
class Share:
    """One denominator and the part of the output's relevance that it distributes."""

    parts: tuple[Part, ...]
    bias: Tensor | None = None
    portion: float = 1.0
    keep: Callable[[Tensor], Tensor] | None = None


ShareRule = Callable[[Weighted], tuple[Share, ...]]


def stabiliser(denominator: Tensor, epsilon: float) -> Tensor:
    """Return ε × the row's root mean square × the denominator's sign (+ at zero), and never nothing."""
    axes = tuple(range(1, denominator.ndim)) or (0,)
    scale = denominator.square().mean(axes, keepdim=True).sqrt().clamp(min=torch.finfo(denominator.dtype).tiny ** 0.5)
    return torch.where(denominator < 0, -epsilon * scale, epsilon * scale)


def epsilon(op: Weighted) -> tuple[Share, ...]:
    """Return R_i = x_i w_ij / (z_j + ε) R_j (Bach et al. 2015)."""
    return (Share((Part(op.entering, op.weight),), op.bias),)


def _signed(op: Weighted, up: Tensor, down: Tensor) -> tuple[Part, ...]:
    """Pair positive inputs with one weight and negative inputs with the other."""
    x = op.entering
    parts = ((x.clamp(min=0), up, x > 0), (x.clamp(max=0), down, x < 0))
    return tuple(Part(values, weight, side.to(x)) for values, weight, side in parts if bool(side.any())) or (
        Part(x, up),
    )


def plus(op: Weighted) -> tuple[Share, ...]:
    """Return the share of positive contributions only: z⁺ (Montavon et al. 2017)."""
    return (_positive(op, 1.0),)


def _positive(op: Weighted, portion: float) -> Share:
    bias = None if op.bias is None else op.bias.clamp(min=0)
    return Share(_signed(op, op.weight.clamp(min=0), op.weight.clamp(max=0)), bias, portion)


def unbiased_plus(op: Weighted) -> tuple[Share, ...]:
    """Return z⁺ without the bias, which then takes nothing: what deep Taylor and excitation backpropagation publish."""
    return tuple(replace(share, bias=None) for share in plus(op))


def alpha_beta(op: Weighted) -> tuple[Share, ...]:
    """Return twice the share of positive contributions less the share of negative ones (Bach et al. 2015)."""
    bias = None if op.bias is None else op.bias.clamp(max=0)
    negative = Share(_signed(op, op.weight.clamp(max=0), op.weight.clamp(min=0)), bias, -1.0)
    return (_positive(op, 2.0), negative)


def gamma(strength: float) -> ShareRule:
    """Return the rule that favours contributions of the output's own sign (Montavon et al. 2019; signed inputs too)."""

    def rule(op: Weighted) -> tuple[Share, ...]:
        up, down = (op.weight + strength * part for part in (op.weight.clamp(min=0), op.weight.clamp(max=0)))
        bias = op.bias
        over = None if bias is None else bias + strength * bias.clamp(min=0)
        under = None if bias is None else bias + strength * bias.clamp(max=0)
        return (
            Share(_signed(op, up, down), over, keep=lambda z: z > 0),
            Share(_signed(op, down, up), under, keep=lambda z: z < 0),
        )

    return rule


def flat(op: Weighted) -> tuple[Share, ...]:
    """Return equal shares for every input in the receptive field (Bach et al. 2016)."""
    return (Share((Part(torch.ones_like(op.entering), torch.ones_like(op.weight)),)),)


def box(low: Callable[[Tensor], Tensor], high: Callable[[Tensor], Tensor]) -> ShareRule:
    """Return the rule for pixels that lie between `low` and `high`: z^B (Montavon et al. 2017)."""

    def rule(op: Weighted) -> tuple[Share, ...]:
        x, w = op.entering, op.weight
        return (Share((Part(x, w), Part(low(x), w.clamp(min=0), sign=-1.0), Part(high(x), w.clamp(max=0), sign=-1.0))),)

    return rule
