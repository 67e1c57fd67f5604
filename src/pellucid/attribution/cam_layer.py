"""What class activation maps share: the layer they are taken at, and the weighted sum of its feature maps."""

from typing import Any

import torch
from torch import Tensor, nn

from pellucid.attribution.cam_layout import Sighting, layout_of, patch_grid, sightings
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
    return [(sighting.name, grid) for sighting, grid in _feature_maps(call, sightings(call))]


def _feature_maps(call: Call, seen: list[Sighting]) -> list[tuple[Sighting, tuple[int, ...]]]:
    ranks = {x.ndim - 1 for x in call.inputs}
    maps = []
    for sighting in _called_once(seen):
        if len(sighting.shape) in ranks and min(sighting.shape[1:], default=1) > 1:
            try:
                maps.append((sighting, layout_of(call, sighting.name, sighting.shape, None).grid))
            except CannotExplain:  # channels first or last cannot be told: not a layer to choose unasked
                continue
    if not maps:
        raise CannotExplain("no layer of the model gives a feature map (N, C, *S) with more than one place; say at=")
    return maps


def _called_once(seen: list[Sighting]) -> list[Sighting]:
    calls = [sighting.name for sighting in seen]
    return [sighting for sighting in seen if calls.count(sighting.name) == 1 and not sighting.last]


def last_spatial_layer(call: Call) -> str:
    """Return the layer that the last feature map of the forward comes from, found on the first row.

    Where the patches of a feature map go on as tokens, it is the last layer of tokens whose patches the target still
    depends on: behind the last attention a class token no longer looks at them.

    Raises
    ------
    CannotExplain
        When there is none.
    """
    seen = sightings(call)
    found, grid = _feature_maps(call, seen)[-1]
    later = _called_once(seen)
    for sighting in reversed(later[later.index(found) + 1 :]):
        if _carries_patches(call, seen, (found.shape[0], *grid), sighting) and _reaches(call, sighting):
            return sighting.name
    return found.name


def _carries_patches(call: Call, seen: list[Sighting], patches: tuple[int, ...], sighting: Sighting) -> bool:
    """Return whether a layer gives tokens that are the patches of a feature map, as wide as they were made."""
    if isinstance(call.passes.model.layer(sighting.name), nn.Linear):
        return False  # queries, keys or values
    wide = len(sighting.shape) == 2 and sighting.shape[1] == patches[0]
    return wide and patch_grid(call, seen, sighting.shape[0]) == patches[1:]


def _reaches(call: Call, sighting: Sighting) -> bool:
    """Return whether the target of the first row depends on the patches of a layer of tokens."""
    first = rows_of(call, torch.arange(1))
    try:
        (slopes,) = first.passes.gradient(first.inputs, first.read, at=sighting.name)[2]
    except CannotExplain:
        return False
    layout = layout_of(call, sighting.name, sighting.shape, None)
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
