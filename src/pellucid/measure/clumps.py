"""Random places of an object: where an edit is tried when nothing says where."""

import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["clump", "highest"]

_GRAIN = 2.0
"""Standard deviation in pixels of the noise from which clumps are cut."""


def highest(strength: Tensor, count: int) -> Tensor:
    """Return the `count` strongest positions ``(*S)`` as a mask."""
    chosen = torch.zeros(strength.numel(), dtype=torch.bool)
    chosen[strength.flatten().topk(count).indices] = True
    return chosen.view_as(strength)


def clump(outline: Tensor, count: int, generator: torch.Generator, grain: float = _GRAIN) -> Tensor:
    """Return `count` pixels of an object ``(*S)`` in random clumps; a larger `grain` makes fewer, larger ones."""
    noise = torch.randn(outline.shape, generator=generator).numpy()
    field = torch.from_numpy(ndimage.gaussian_filter(noise, grain))
    return highest(field.masked_fill(~outline, -torch.inf), count)
