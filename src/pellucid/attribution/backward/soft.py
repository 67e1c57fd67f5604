"""Slopes of softmax, log-softmax and log-sum-exp between two points, by logarithmic means.

With p and q the two points' weights and L = (p − q) / (log p − log q), Δp = L (Δx − Δ log Σ exp), and since weights add
up to one, Δ log Σ exp = Σ L Δx / Σ L: the gradient's own form, exact at any distance, the same under a shift of either
point, and without an exponential that could overflow or vanish.
"""

from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.operation import Operation, Pullback, bound

__all__ = ["log_softmax", "logsumexp", "softmax"]


def _means(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Any, Tensor, Any]:
    """Return the axes, and the logarithmic means of both points' weights."""
    (entering,), (baseline,) = operation.active, before
    axes = bound(operation, ("input", "dim"))["dim"]
    one, other = (values - torch.logsumexp(values, axes, keepdim=True) for values in (entering, baseline))
    larger, apart = torch.maximum(one, other).exp(), (one - other).abs()
    means = larger * torch.where(apart > 0, -torch.expm1(-apart) / torch.where(apart > 0, apart, 1.0), 1.0)
    return axes, means, means.sum(axes, keepdim=True)


def softmax(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a softmax."""
    axes, means, whole = _means(operation, before)

    def pull(arrived: Tensor) -> tuple[Tensor]:
        sent = means * arrived
        return (sent - means * (sent.sum(axes, keepdim=True) / whole),)

    return operation.run(*operation.active), pull


def log_softmax(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a log-softmax."""
    axes, means, whole = _means(operation, before)
    return (
        operation.run(*operation.active),
        lambda arrived: (arrived - means * (arrived.sum(axes, keepdim=True) / whole),),
    )


def logsumexp(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Slope a log-sum-exp."""
    _, means, whole = _means(operation, before)
    output: Tensor = operation.run(*operation.active)
    return output, lambda arrived: (arrived.reshape(whole.shape) * (means / whole),)
