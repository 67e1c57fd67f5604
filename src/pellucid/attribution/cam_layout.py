"""How a layer's numbers lie over the image: feature maps, channels-last maps, or the tokens of a grid of patches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pellucid.attribution.method import Call
from pellucid.errors import CannotExplain
from pellucid.models import take_rows

__all__ = ["Layout", "PatchGrid", "Sighting", "layout_of", "patch_grid", "sightings"]

PatchGrid = tuple[Annotated[int, Field(ge=1)], ...] | None
"""Annotation of a recipe's ``grid``: patches along each axis of the image, where a net does not show them itself."""

_EXTRA = 8
"""Class, distillation and register tokens that may stand before the patches."""


@dataclass(frozen=True)
class Sighting:
    """One output of a layer in a forward of one row: the layer's name and the output's shape without its rows."""

    name: str
    shape: tuple[int, ...]
    last: bool = False


@dataclass(frozen=True)
class Layout:
    """Where the channels and the places of a layer are.

    Attributes
    ----------
    grid
        Places along each axis.
    kind
        ``"channels first"`` ``(N, C, *grid)``, ``"channels last"`` ``(N, *grid, C)`` or ``"tokens"`` ``(N, T, C)``.
    extra
        Tokens before the patches: the class token, registers.
    """

    grid: tuple[int, ...]
    kind: Literal["channels first", "channels last", "tokens"]
    extra: int = 0

    def maps(self, out: Tensor) -> Tensor:
        """Return a layer's output, or its slopes, as feature maps ``(N, C, *grid)``; extra tokens are left out."""
        if self.kind == "tokens":
            return out[:, self.extra :].mT.reshape(len(out), -1, *self.grid)
        return out.movedim(-1, 1) if self.kind == "channels last" else out

    def silenced(self, out: Tensor, channels: Tensor) -> Tensor:
        """Return a copy of the output in which row i lacks channel ``channels[i]``, at every place and token."""
        axis = 1 if self.kind == "channels first" else out.ndim - 1
        kept = torch.ones(len(out), out.shape[axis], dtype=torch.bool, device=out.device)
        kept[torch.arange(len(out), device=out.device), channels] = False
        return out * kept.view(len(out), *(-1 if place == axis else 1 for place in range(1, out.ndim)))


def sightings(call: Call) -> list[Sighting]:
    """Return the tensors that the layers give in a forward of the first row, in order; `last` marks the model's own.

    Where the target reads a layer, those after it are left out: nothing that it sees comes from there.
    """
    module = call.passes.model.module
    if module is None:
        raise CannotExplain("class activation maps need layers; a plain callable has none: wrap an nn.Module")
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.append((name, output))

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in module.named_modules()]
    try:
        call.passes.outputs(take_rows(call.inputs, slice(0, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    final = next((output for name, output in reversed(seen) if not name), None)
    names = [name for name, _ in seen]
    if call.read.layer in names:
        seen = seen[: names.index(call.read.layer) + 1]
    return [Sighting(name, tuple(output.shape[1:]), output is final) for name, output in seen if name]


def patch_grid(call: Call, seen: Sequence[Sighting], tokens: int) -> tuple[int, ...] | None:
    """Return the grid of the patches among so many `tokens`, or None where the forward did not show it.

    It is that of the last feature map that has as many places as there are tokens, less a few extra ones, and whose
    channels became a token's: the patch convolution's.
    """
    ranks = {x.ndim - 1 for x in call.inputs}
    for sighting in reversed(seen):
        channels, *grid = sighting.shape
        joined = any(len(other.shape) == 2 and other.shape == (tokens, channels) for other in seen)
        if len(sighting.shape) in ranks and len(grid) > 1 and 0 <= tokens - math.prod(grid) <= _EXTRA and joined:
            return tuple(grid)
    return None


def layout_of(call: Call, at: str, shape: tuple[int, ...], grid: PatchGrid) -> Layout:
    """Return how a layer's output of that shape, without its rows, lies over the images.

    Parameters
    ----------
    call
        The call.
    at
        The layer's name.
    shape
        ``(C, *S)``, ``(*S, C)`` or ``(T, C)``.
    grid
        The grid that the user gives, or None.

    Raises
    ------
    CannotExplain
        When it is no feature map, or its axes cannot be told apart; the sentence says what to do.
    """
    ranks = {x.ndim - 1 for x in call.inputs}
    if len(shape) > 1 and len(shape) in ranks:
        return _mapped(call, at, shape, grid)
    if len(shape) == 2 and max(ranks) > 1:
        return _tokens(call, at, shape, grid)
    images = " and ".join(str(tuple(x.shape)) for x in call.inputs)
    raise CannotExplain(
        f"layer {at!r} gives {('N', *shape)} for {images}; a class activation map needs feature maps (N, C, *S) with the "
        "images' axes, or tokens (N, T, C) of their patches: choose another layer with at="
    )


def _tokens(call: Call, at: str, shape: tuple[int, ...], grid: PatchGrid) -> Layout:
    tokens = shape[0]
    found = grid or patch_grid(call, sightings(call), tokens)
    if found is None or not 0 <= tokens - math.prod(found) <= _EXTRA:
        said = (
            "no patch convolution was seen that they fit" if found is None else f"grid={found} has {math.prod(found)}"
        )
        raise CannotExplain(
            f"layer {at!r} gives {tokens} tokens (N, {tokens}, {shape[1]}), and {said}: say the patches along each axis, "
            "as grid=(rows, columns), or choose a layer with feature maps with at="
        )
    return Layout(tuple(found), "tokens", tokens - math.prod(found))


def _mapped(call: Call, at: str, shape: tuple[int, ...], grid: PatchGrid) -> Layout:
    """Tell channels first from channels last: the grid is the one whose proportions are those of an image."""
    first, last = Layout(shape[1:], "channels first"), Layout(shape[:-1], "channels last")
    spaces = [tuple(x.shape[2:]) for x in call.inputs if x.ndim == len(shape) + 1]
    if grid is not None:
        extra = shape[0] - math.prod(grid) if len(shape) == 2 else 0  # a sequence's tokens have a feature map's axes
        told = Layout(grid, "tokens", extra) if 0 < extra <= _EXTRA else last
        fit = [layout for layout in (first, told) if layout.grid == grid]
    elif not _normalises_last(call.passes.model.module):
        fit = [first]
    else:
        fit = [layout for layout in (first, last) if any(_proportional(layout.grid, space) for space in spaces)]
    if len(fit) != 1:
        raise CannotExplain(
            f"layer {at!r} gives {('N', *shape)}, and whether its channels come first or last cannot be told"
            f"{'' if grid is None else f' from grid={grid}'}: say the places along each axis, such as grid={last.grid} "
            f"for channels last, or choose another layer with at="
        )
    return fit[0]


def _normalises_last(module: nn.Module | None) -> bool:
    """Return whether a net normalises the last axis, as nets with tokens or channels-last maps do."""
    parts = module.modules() if module is not None else iter(())
    return any(
        isinstance(part, nn.LayerNorm) or type(part).__name__.endswith(("LayerNorm", "RMSNorm")) for part in parts
    )


def _proportional(grid: tuple[int, ...], space: tuple[int, ...]) -> bool:
    """Return whether one stride explains the grid along all axes, give or take a place at the rim."""
    low = max(size / (places + 1) for places, size in zip(grid, space, strict=True))
    high = min(size / (places - 1) if places > 1 else math.inf for places, size in zip(grid, space, strict=True))
    return low < high
