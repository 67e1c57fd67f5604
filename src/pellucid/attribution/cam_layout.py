"""How a layer's numbers lie over the image: feature maps, channels-last maps, or the tokens of a grid of patches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pellucid.attribution.layer_outputs import LayerOutput, layer_outputs
from pellucid.attribution.method import Call
from pellucid.attribution.tokens import PatchGrid, Tokens, last_grid
from pellucid.errors import CannotExplain

__all__ = ["Layout", "layout_of", "patch_grid"]

_EXTRA = 8
"""Class, distillation and register tokens that may stand before the patches."""


@dataclass(frozen=True)
class Layout:
    """Where the channels and the places of a layer are.

    Attributes
    ----------
    grid
        Places along each axis.
    kind
        ``"channels first"`` ``(N, C, *grid)``, ``"channels last"`` ``(N, *grid, C)`` or ``"tokens"`` ``(N, T, C)``.
    tokens
        Which of them are the patches, where they are tokens.
    """

    grid: tuple[int, ...]
    kind: Literal["channels first", "channels last", "tokens"]
    tokens: Tokens | None = None

    def maps(self, out: Tensor) -> Tensor:
        """Return a layer's output, or its slopes, as feature maps ``(N, C, *grid)``; extra tokens are left out."""
        if self.tokens is not None:
            return self.tokens.image(out.mT)
        return out.movedim(-1, 1) if self.kind == "channels last" else out

    def silenced(self, out: Tensor, channels: Tensor) -> Tensor:
        """Return a copy of the output in which row i lacks channel ``channels[i]``, at every place and token."""
        axis = 1 if self.kind == "channels first" else out.ndim - 1
        kept = torch.ones(len(out), out.shape[axis], dtype=torch.bool, device=out.device)
        kept[torch.arange(len(out), device=out.device), channels] = False
        return out * kept.view(len(out), *(-1 if place == axis else 1 for place in range(1, out.ndim)))


def patch_grid(call: Call, seen: Sequence[LayerOutput], tokens: int) -> tuple[int, ...] | None:
    """Return the grid of the patches among so many `tokens`, or None where the forward did not show it.

    It is that of the last feature map that has as many places as there are tokens, less a few extra ones, and whose
    channels became a token's: the patch convolution's.
    """
    ranks = {x.ndim - 1 for x in call.inputs}
    maps = [layer.shape for layer in seen if len(layer.shape) in ranks and len(layer.shape) > 2]
    embedded = [shape[1:] for shape in maps if any(layer.shape == (tokens, shape[0]) for layer in seen)]
    return last_grid(embedded, range(tokens - _EXTRA, tokens + 1))


def _behind(tokens: int, grid: tuple[int, ...]) -> Layout | None:
    """Return the layout of tokens of which the last are those patches, or None where they are too many or too few."""
    layout = Tokens.behind(tokens, grid)
    return Layout(grid, "tokens", layout) if 0 <= layout.first <= _EXTRA else None


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
    found = grid or patch_grid(call, layer_outputs(call), tokens)
    layout = None if found is None else _behind(tokens, found)
    if layout is None:
        said = (
            "no patch convolution was seen that they fit" if found is None else f"grid={found} has {math.prod(found)}"
        )
        raise CannotExplain(
            f"layer {at!r} gives {tokens} tokens (N, {tokens}, {shape[1]}), and {said}: say the patches along each axis, "
            "as grid=(rows, columns), or choose a layer with feature maps with at="
        )
    return layout


def _mapped(call: Call, at: str, shape: tuple[int, ...], grid: PatchGrid) -> Layout:
    """Tell channels first from channels last: the grid is the one whose proportions are those of an image."""
    first, last = Layout(shape[1:], "channels first"), Layout(shape[:-1], "channels last")
    spaces = [tuple(x.shape[2:]) for x in call.inputs if x.ndim == len(shape) + 1]
    if grid is not None:
        sequence = len(shape) == 2 and len(grid) == 1  # whose tokens have a feature map's axes
        told = _behind(shape[0], grid) if sequence else None
        fit = [layout for layout in (first, last if last.grid == grid else told) if layout and layout.grid == grid]
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
