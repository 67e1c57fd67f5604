"""Nested soft masks of a map: its highest places, joined, without crumbs, a little wider, with a faded edge."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from pellucid.recipes import Recipe

__all__ = ["mask_sweep"]

_REACH = 3.0
"""Standard deviations after which the faded edge ends."""


@dataclass(frozen=True, kw_only=True, repr=False)
class mask_sweep(Recipe):
    """How masks are cut out of a map, from a few pixels to the whole image.

    Attributes
    ----------
    levels
        Masks; level i of n holds the ``(i / n)²`` highest of the places with a positive value, so that small masks
        are told apart finely. The last mask is the whole image.
    closing
        Radius in pixels over which gaps are closed.
    smallest
        Fewest pixels of a connected part; smaller ones are dropped.
    dilation
        Pixels by which the mask grows.
    blur
        Standard deviation in pixels of the faded edge.
    """

    levels: Annotated[int, Field(ge=2, le=1000)] = 40
    closing: Annotated[int, Field(ge=0)] = 1
    smallest: Annotated[int, Field(ge=1)] = 4
    dilation: Annotated[int, Field(ge=0)] = 1
    blur: Annotated[float, Field(ge=0)] = 1.0

    def masks(self, values: Tensor) -> Tensor:
        """Return soft masks ``(levels, *S)`` in [0, 1], each inside the next, of one map ``(C, *S)``; channels are added."""
        ranks = values.double().sum(0).numpy()
        ordered = np.sort(ranks[ranks > 0], axis=None)[::-1]
        kept = []
        for level in range(1, self.levels):
            count = int(np.ceil(len(ordered) * (level / self.levels) ** 2))
            core = ranks >= ordered[count - 1] if count else np.zeros(ranks.shape, bool)
            kept.append(self._faded(self._joined(core)))
        kept.append(np.ones(ranks.shape))
        return torch.from_numpy(np.maximum.accumulate(np.stack(kept))).float()

    def _joined(self, core: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if not core.any():
            return core
        core = _closed(core, self.closing)
        parts, _ = ndimage.label(core, np.ones((3,) * core.ndim))
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        large = sizes >= self.smallest
        joined: NDArray[np.bool_] = large[parts]
        return joined

    def _faded(self, core: NDArray[np.bool_]) -> NDArray[np.float64]:
        if not core.any():
            return core.astype(float)
        away = ndimage.distance_transform_edt(~core)
        outside = np.maximum(away - self.dilation, 0.0)
        if not self.blur:
            return (outside == 0).astype(float)
        return np.exp(-0.5 * (outside / self.blur) ** 2) * (outside <= _REACH * self.blur)


def _closed(core: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Close gaps by a ball, as on a plane without end: nothing is lost at the image's edge."""
    if not radius:
        return core
    grid = np.indices((2 * radius + 1,) * core.ndim) - radius
    ball = (grid**2).sum(0) <= radius**2
    margin = 2 * radius
    closed: NDArray[np.bool_] = ndimage.binary_closing(np.pad(core, margin), ball)
    return closed[(slice(margin, -margin),) * core.ndim]
