"""Fields on a grid carried to pixels axis by axis, in any number of spatial axes: windows and soft masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["boxes", "carry", "hats"]


def carry(grids: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return fields ``(n, *S)`` of grids ``(n, *G)``; `weights` holds one ``(n or 1, S_i, G_i)`` an axis."""
    fields = grids
    for axis, weight in enumerate(weights, start=1):
        lines = fields.movedim(axis, -1)
        flat = lines.reshape(len(lines), -1, lines.shape[-1]) @ weight.transpose(1, 2)
        fields = flat.view(*lines.shape[:-1], weight.shape[1]).movedim(-1, axis)
    return fields


def boxes(starts: Tensor, width: int, size: int) -> Tensor:
    """Return ``(1, size, len(starts))``: 1 where a pixel lies in the window of `width` from a start."""
    places = torch.arange(size)[:, None] - starts
    return ((places >= 0) & (places < width)).double()[None]


def hats(size: int, cells: int, shifts: Tensor) -> Tensor:
    """Return ``(n, size, cells + 1)``: linear interpolation between cell centres, shifted by less than a cell.

    The grid has one cell more than fits, so that a shift of ``shifts`` (n,) in [0, 1) cells never wraps round.
    """
    places = (torch.arange(size, device=shifts.device) + 0.5) * cells / size
    centred = (places + shifts[:, None] - 0.5).clamp(0, cells)
    knots = torch.arange(cells + 1, device=shifts.device)
    return (1 - (centred[..., None] - knots).abs()).clamp(min=0)
