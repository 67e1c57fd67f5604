"""Class activation maps once more: hooks on the layer, the published formulas, one channel after the other."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.models import Inputs
from pellucid.testing.zoo.case import Case
from pellucid.testing.zoo.references import Reference, rectified

__all__ = ["CAMS"]


def _laid_out(case: Case, out: Tensor) -> Tensor:
    """Return a layer's output as ``(N, C, *grid)`` for the grid that the method told."""
    grid: tuple[int, ...] = case.found.details["grid"]
    if out.ndim == 3 and len(grid) > 1:
        return out[:, -math.prod(grid) :].mT.reshape(len(out), -1, *grid)
    return out if tuple(out.shape[2:]) == grid else out.movedim(-1, 1)


def _at(case: Case) -> str:
    at: str = case.found.details["at"]
    return at


def _weighted(weigh: Callable[[Tensor, Tensor], Tensor]) -> Reference:
    def reference(case: Case) -> Inputs:
        activations, slopes = (_laid_out(case, tensor) for tensor in case.layer(_at(case)))
        return ((weigh(activations, slopes) * activations).sum(1, keepdim=True),)

    return reference


def _over(tensor: Tensor) -> tuple[int, ...]:
    return tuple(range(2, tensor.ndim))


def _mean(_activations: Tensor, slopes: Tensor) -> Tensor:
    return slopes.mean(_over(slopes), keepdim=True)


def _plus_plus(activations: Tensor, slopes: Tensor) -> Tensor:
    total = activations.sum(_over(slopes), keepdim=True)
    below = 2 * slopes**2 + slopes**3 * total
    alpha = torch.where(slopes > 0, slopes**2 / torch.where(below == 0, 1, below), 0)
    return (alpha * slopes.clamp(min=0)).sum(_over(slopes), keepdim=True)


def _conserving(activations: Tensor, slopes: Tensor) -> Tensor:
    total = activations.sum(_over(slopes), keepdim=True)
    return (slopes * activations).sum(_over(slopes), keepdim=True) / torch.where(total == 0, 1, total)


def _resized(maps: Tensor, shape: torch.Size) -> Tensor:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    return functional.interpolate(maps, size=tuple(shape), mode=mode, align_corners=False)


def _guided(case: Case) -> Inputs:
    (coarse,) = _weighted(_mean)(case)
    wide = [_resized(coarse.clamp(min=0), x.shape[2:]) for x in case.inputs]
    return tuple(fine * seen for fine, seen in zip(rectified(case, guided=True), wide, strict=True))


def _score(case: Case) -> Inputs:
    activations = _laid_out(case, case.layer(_at(case))[0])
    spread = activations.flatten(2).amax(2) - activations.flatten(2).amin(2)
    weights = torch.full(activations.shape[:2], -torch.inf, dtype=torch.float64)
    with torch.no_grad():
        for channel in range(activations.shape[1]):
            masks = [_unit(_resized(activations[:, channel : channel + 1], x.shape[2:])) for x in case.inputs]
            seen = tuple(x * mask for x, mask in zip(case.inputs, masks, strict=True))
            weights[:, channel] = torch.where(spread[:, channel] > 1e-9, case.score(seen), -torch.inf)
    weights = weights.softmax(1).nan_to_num(0)
    return (torch.einsum("nk,nk...->n...", weights, activations)[:, None],)


def _unit(maps: Tensor) -> Tensor:
    low, high = (extreme.view(-1, *[1] * (maps.ndim - 1)) for extreme in maps.flatten(1).aminmax(dim=1))
    return (maps - low) / torch.where(high > low, high - low, 1)


def _ablation(case: Case) -> Inputs:
    at, before = _at(case), case.score(case.inputs).detach()
    raw, _ = case.layer(at)
    activations, weights = _laid_out(case, raw), []
    last = activations.shape != raw.shape
    for channel in range(activations.shape[1]):

        def silence(out: Tensor, channel: int = channel) -> Tensor:
            out = out.clone()
            out[(..., channel) if last else (slice(None), channel)] = 0
            return out

        with torch.no_grad():
            weights.append((before - case.score(case.inputs, hooks={at: silence})) / before.abs())
    return (torch.einsum("kn,nk...->n...", torch.stack(weights), activations)[:, None],)


def _eigen(case: Case) -> Inputs:
    activations = _laid_out(case, case.layer(_at(case))[0])
    flat = activations.flatten(2)
    _, values, right = torch.linalg.svd(flat, full_matrices=False)
    found = values[:, :1] * right[:, 0]
    sign = (found * flat.mean(1)).sum(1, keepdim=True).sign()
    return ((found * sign).view(-1, 1, *activations.shape[2:]),)


CAMS: Mapping[str, Reference] = MappingProxyType({
    "ablationcam": _ablation,
    "eigencam": _eigen,
    "gradcam": _weighted(_mean),
    "gradcam_plus_plus": _weighted(_plus_plus),
    "guided_gradcam": _guided,
    "hirescam": _weighted(lambda _activations, slopes: slopes),
    "layercam": _weighted(lambda _activations, slopes: slopes.clamp(min=0)),
    "scorecam": _score,
    "xgradcam": _weighted(_conserving),
})  # fmt: skip
"""Second computations of the same maps, by method."""
