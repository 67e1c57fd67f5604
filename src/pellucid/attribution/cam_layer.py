"""What class activation maps share: the layer they are taken at, and the weighted sum of its feature maps."""

from typing import Any

import torch
from torch import Tensor, nn

from pellucid.attribution.cam_layout import layout_of, patch_grid
from pellucid.attribution.layer_outputs import LayerOutput, layer_outputs
from pellucid.attribution.method import Call
from pellucid.attribution.packing import rows_of
from pellucid.errors import CannotExplain

__all__ = ["checked_maps", "chosen_layer", "last_spatial_layer", "place", "same_axes", "spatial_layers", "weighted_sum"]


def spatial_layers(call: Call) -> list[tuple[str, tuple[int, ...]]]:
    """Return the layers whose output is a feature map, with its grid, in the order of the first row's forward.

    A feature map has the images' number of axes and more than one place along each spatial axis; channels may come first
    or last, but which must be plain. A layer that is called more than once, or whose output is the model's own, does not
    count.

    Raises
    ------
    CannotExplain
        When there is none.
    """
    return [(layer.name, grid) for layer, grid in _feature_maps(call, layer_outputs(call))]


def _feature_maps(call: Call, seen: list[LayerOutput]) -> list[tuple[LayerOutput, tuple[int, ...]]]:
    ranks = {x.ndim - 1 for x in call.inputs}
    maps = []
    for layer in _called_once(seen):
        if len(layer.shape) in ranks and min(layer.shape[1:], default=1) > 1:
            try:
                maps.append((layer, layout_of(call, layer.name, layer.shape, None).grid))
            except CannotExplain:  # channels first or last cannot be told: not a layer to choose unasked
                continue
    if not maps:
        raise CannotExplain("no layer of the model gives a feature map (N, C, *S) with more than one place; say at=")
    return maps


def _called_once(seen: list[LayerOutput]) -> list[LayerOutput]:
    calls = [layer.name for layer in seen]
    return [layer for layer in seen if calls.count(layer.name) == 1 and not layer.last]


def last_spatial_layer(call: Call) -> str:
    """Return the layer that the last feature map of the forward comes from, found on the first row.

    Where the patches of a feature map go on as tokens, it is the last layer of tokens whose patches the target still
    depends on: behind the last attention a class token no longer looks at them.

    Raises
    ------
    CannotExplain
        When there is none.
    """
    seen = layer_outputs(call)
    found, grid = _feature_maps(call, seen)[-1]
    later = _called_once(seen)
    for layer in reversed(later[later.index(found) + 1 :]):
        if _carries_patches(call, seen, (found.shape[0], *grid), layer) and _reaches(call, layer):
            return layer.name
    return found.name


def _carries_patches(call: Call, seen: list[LayerOutput], patches: tuple[int, ...], layer: LayerOutput) -> bool:
    """Return whether a layer gives tokens that are the patches of a feature map, as wide as they were made."""
    if isinstance(call.passes.model.layer(layer.name), nn.Linear):
        return False  # queries, keys or values
    wide = len(layer.shape) == 2 and layer.shape[1] == patches[0]
    return wide and patch_grid(call, seen, layer.shape[0]) == patches[1:]


def _reaches(call: Call, layer: LayerOutput) -> bool:
    """Return whether the target of the first row depends on the patches of a layer of tokens."""
    first = rows_of(call, torch.arange(1))
    try:
        _, (slopes,) = first.gradient(layer.name)
    except CannotExplain:
        return False
    layout = layout_of(call, layer.name, layer.shape, None)
    return bool(layout.maps(slopes).any())


def chosen_layer(call: Call, at: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the layer to look at, and the warning that names it where nobody did."""
    if at is not None:
        return at, ()
    found = last_spatial_layer(call)
    return found, (f"at={found!r} was chosen: the last layer with a feature map",)


def checked_maps(activations: Tensor, at: str) -> Tensor:
    """Return a layer's activations where they are numbers.

    Raises
    ------
    CannotExplain
        When they hold NaN or infinity.
    """
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
            raise CannotExplain(
                f"{method}: layer {at!r} has a map of shape {shapes}: their axes do not match; use gradcam, whose map stays "
                "at the layer's own grid"
            )


def place(at: str, maps: Tensor) -> dict[str, Any]:
    """Return what a result tells of where its map ``(N, 1, *grid)`` was taken."""
    return {"at": at, "grid": tuple(maps.shape[2:])}


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Return Σ_k w_k · A_k, ``(N, 1, *S)``, for weights ``(N, C)`` or one a place ``(N, C, *S)``."""
    if weights.ndim == 2:
        return torch.einsum("nk,nk...->n...", weights, activations)[:, None]
    return (weights * activations).sum(1, keepdim=True)
