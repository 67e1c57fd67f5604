"""What class activation maps share: the layer they are taken at, and the weighted sum of its feature maps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.method import Call
from pellucid.errors import CannotExplain
from pellucid.models import take_rows

__all__ = ["checked_maps", "chosen_layer", "last_spatial_layer", "same_axes", "spatial_layers", "weighted_sum"]


def spatial_layers(call: Call) -> list[tuple[str, tuple[int, ...]]]:
    """Return the layers whose output is a feature map, with its spatial shape, in the order of the first row's forward.

    A feature map has the images' number of axes and more than one place along each spatial axis. A layer that is
    called more than once, or whose output is the model's own, does not count.

    Raises
    ------
    CannotExplain
        When there is none.
    """
    module = call.passes.model.module
    if module is None:
        raise CannotExplain("class activation maps need layers; a plain callable has none: wrap an nn.Module")
    ranks = {x.ndim for x in call.inputs}
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.append((name, output))

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in module.named_modules()]
    try:
        call.passes.outputs(take_rows(call.inputs, slice(0, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    calls = [name for name, _ in seen]
    final = next((output for name, output in reversed(seen) if not name), None)
    maps = [(name, tuple(output.shape[2:])) for name, output in seen
            if name and calls.count(name) == 1 and output is not final
            and output.ndim in ranks and min(output.shape[2:], default=1) > 1]  # fmt: skip
    if not maps:
        raise CannotExplain("no layer of the model gives a feature map (N, C, *S) with more than one place; say at=")
    return maps


def last_spatial_layer(call: Call) -> str:
    """Return the layer whose output is the last feature map of the forward, found on the first row."""
    return spatial_layers(call)[-1][0]


def chosen_layer(call: Call, at: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the layer to look at, and the warning that names it where nobody did."""
    if at is not None:
        return at, ()
    found = last_spatial_layer(call)
    return found, (f"at={found!r} was chosen: the last layer with a feature map",)


def checked_maps(activations: Tensor, call: Call, at: str) -> Tensor:
    """Return a layer's activations where they are feature maps.

    Raises
    ------
    CannotExplain
        When they lack the images' axes, as tokens ``(N, T, D)`` of an image do, or hold NaN or infinity.
    """
    if activations.ndim < 3 or activations.ndim not in {x.ndim for x in call.inputs}:
        shape, images = tuple(activations.shape), " and ".join(str(tuple(x.shape)) for x in call.inputs)
        raise CannotExplain(
            f"layer {at!r} gives {shape} for {images}; a class activation map needs feature maps (N, C, *S) with the "
            "images' axes: choose another layer with at="
        )
    if not bool(activations.isfinite().all()):
        raise CannotExplain(
            f"layer {at!r} gives NaN or infinity: it has no class activation map; choose another with at="
        )
    return activations


def same_axes(coarse: Tensor, call: Call, at: str, method: object) -> None:
    """Refuse feature maps that cannot be laid over every input.

    Raises
    ------
    CannotExplain
        When their number of axes differs.
    """
    for place, x in enumerate(call.inputs):
        if x.ndim != coarse.ndim:
            shapes = f"{tuple(coarse.shape)} and input {place} {tuple(x.shape)}"
            raise CannotExplain(f"{method}: layer {at!r} has a map of shape {shapes}: their axes do not match")


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Return Σ_k w_k · A_k, ``(N, 1, *S)``, for weights ``(N, C)`` or one a place ``(N, C, *S)``."""
    if weights.ndim == 2:
        return torch.einsum("nk,nk...->n...", weights, activations)[:, None]
    return (weights * activations).sum(1, keepdim=True)
