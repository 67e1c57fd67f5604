"""How much a channel of a layer weighs in a class activation map, from its activations A and slopes g = ∂f/∂A."""

from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.errors import CannotExplain

__all__ = ["Weigh", "conserving_slope", "curved_slope", "mean_slope", "own_slope", "rising_slope"]

Weigh = Callable[[Tensor, Tensor], Tensor]
"""From activations and slopes ``(N, C, *S)`` to weights ``(N, C)``, or one a place ``(N, C, *S)``."""

_CANCELS = 1e-5
"""Sum over the sum of magnitudes below which activations cancel to rounding error."""


def mean_slope(_activations: Tensor, slopes: Tensor) -> Tensor:
    """Return the mean over space of g (Grad-CAM)."""
    return slopes.flatten(2).mean(2)


def own_slope(_activations: Tensor, slopes: Tensor) -> Tensor:
    """Return g, one a place (HiResCAM)."""
    return slopes


def rising_slope(_activations: Tensor, slopes: Tensor) -> Tensor:
    """Return max(g, 0), one a place (LayerCAM)."""
    return slopes.clamp(min=0)


def curved_slope(activations: Tensor, slopes: Tensor) -> Tensor:
    """Return Σ_S α · max(g, 0) with α = g² / (2 g² + g³ Σ_S A) = 1 / (2 + g Σ_S A), wherever g > 0 (Grad-CAM++).

    Raises
    ------
    CannotExplain
        When negative activations turn a denominator to zero or below.
    """
    rising, total = slopes.flatten(2).clamp(min=0), activations.flatten(2).sum(2, keepdim=True)
    below = 2 + rising * total
    if bool((below <= 0).any()):
        raise CannotExplain(
            f"gradcam_plus_plus: negative activations of shape {tuple(activations.shape)} turn the denominator of a "
            "weight to zero or below; choose a layer after its ReLU with at=, or use hirescam"
        )
    return (rising / below).sum(2)


def conserving_slope(activations: Tensor, slopes: Tensor) -> Tensor:
    """Return Σ_S g A / Σ_S A, 0 for a channel that is silent (XGrad-CAM).

    Raises
    ------
    CannotExplain
        When a channel's activations cancel.
    """
    flat = activations.flatten(2)
    total, size = flat.sum(2), flat.abs().sum(2)
    if bool(((total.abs() <= _CANCELS * size) & (size > 0)).any()):
        raise CannotExplain(
            f"xgradcam: activations of shape {tuple(activations.shape)} cancel to a sum of zero over space in some "
            "channel, by which it divides; choose a layer after its ReLU with at=, or use hirescam"
        )
    return (slopes.flatten(2) * flat).sum(2) / torch.where(size > 0, total, 1)
