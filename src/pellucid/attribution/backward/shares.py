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
    "squared",
    "stabiliser",
    "unbiased_plus",
]


@dataclass(frozen=True)
class Part:
    """One product ``values × weight`` of a denominator; `by` is d values / d input.

    Without a weight it is the operation itself, of which the output is known.
    """

    values: Tensor
    weight: Tensor | None
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
    size = torch.linalg.vector_norm(denominator.flatten(1) if denominator.ndim > 1 else denominator[:, None], dim=1)
    scale = size / max(1, denominator[0].numel()) ** 0.5
    least = torch.finfo(denominator.dtype).tiny ** 0.5
    return torch.copysign((epsilon * scale.clamp(min=least)).view(-1, *[1] * (denominator.ndim - 1)), denominator)


def epsilon(op: Weighted) -> tuple[Share, ...]:
    """Return R_i = x_i w_ij / (z_j + ε) R_j (Bach et al. 2015)."""
    return (Share((Part(op.entering, None),), op.bias),)


def _signed(op: Weighted, up: Callable[[], Tensor], down: Callable[[], Tensor]) -> tuple[Part, ...]:
    """Pair positive inputs with one weight and negative inputs, if there are any, with the other."""
    x = op.entering
    if not x.numel() or float(x.amin()) >= 0:
        return (Part(x, up()),)
    on = (x >= 0).to(x)
    return Part(x.clamp(min=0), up(), on), Part(x.clamp(max=0), down(), 1 - on)


def plus(op: Weighted) -> tuple[Share, ...]:
    """Return the share of positive contributions only: z⁺ (Montavon et al. 2017)."""
    return (_positive(op, 1.0),)


def _positive(op: Weighted, portion: float) -> Share:
    bias = None if op.bias is None else op.bias.clamp(min=0)
    return Share(_signed(op, *_sides(op.weight)), bias, portion)


def _sides(weight: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    return lambda: weight.clamp(min=0), lambda: weight.clamp(max=0)


def unbiased_plus(op: Weighted) -> tuple[Share, ...]:
    """Return z⁺ without the bias, which then takes nothing: what deep Taylor and excitation backpropagation publish."""
    return tuple(replace(share, bias=None) for share in plus(op))


def alpha_beta(op: Weighted) -> tuple[Share, ...]:
    """Return twice the share of positive contributions less the share of negative ones (Bach et al. 2015)."""
    bias = None if op.bias is None else op.bias.clamp(max=0)
    negative = Share(_signed(op, *reversed(_sides(op.weight))), bias, -1.0)
    return (_positive(op, 2.0), negative)


def gamma(strength: float) -> ShareRule:
    """Return the rule that favours contributions of the output's own sign (Montavon et al. 2019; signed inputs too)."""

    def rule(op: Weighted) -> tuple[Share, ...]:
        up, down = (lambda side=side: op.weight + strength * side() for side in _sides(op.weight))
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
    return (Share((Part(torch.ones_like(op.entering), op.ones),)),)


def squared(op: Weighted) -> tuple[Share, ...]:
    """Return shares by squared weights, for pixels without bounds: w² (Montavon et al. 2017)."""
    return (Share((Part(torch.ones_like(op.entering), op.weight.square()),)),)


def box(low: Callable[[Tensor], Tensor], high: Callable[[Tensor], Tensor]) -> ShareRule:
    """Return the rule for pixels that lie between `low` and `high`: z^B (Montavon et al. 2017)."""

    def rule(op: Weighted) -> tuple[Share, ...]:
        x, w = op.entering, op.weight
        return (
            Share((Part(x, None), Part(low(x), w.clamp(min=0), sign=-1.0), Part(high(x), w.clamp(max=0), sign=-1.0))),
        )

    return rule
