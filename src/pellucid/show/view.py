"""From maps and images of any number of axes to the one plane that a page can show; what is done is on record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution.combine import combine
from pellucid.errors import ShapeError

__all__ = ["SHOWN", "View", "on_image_grid", "strongest_view"]

SHOWN = ('pool_channels(how="sum")', "upsample")
"""What a raw map goes through before it is drawn: channels are added up, a layer's grid is brought to the image's."""

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class View:
    """A plane of an image: the position along every axis but the last two.

    Attributes
    ----------
    index
        One position a leading axis; empty for images of one or two axes.
    note
        What a caption must say of it, or "".
    """

    index: tuple[int, ...] = ()
    note: str = ""

    def plane(self, values: Tensor) -> Tensor:
        """Return ``(..., Y, X)`` of ``(..., *S)``; a line becomes a plane of one row."""
        if not self.index:
            return values
        kept = values.movedim(tuple(range(-2 - len(self.index), -2)), tuple(range(len(self.index))))
        return kept[self.index]


def on_image_grid(values: Tensor, images: Tensor) -> Array:
    """Return maps ``(N, *S)`` at the images' resolution after the steps of `SHOWN`.

    Raises
    ------
    ShapeError
        When the maps have another number of axes than the images, as tokens have: they have no place in the image.
    """
    if values.ndim != images.ndim:
        raise ShapeError(f"maps of shape {tuple(values.shape)} have no place on images of shape {tuple(images.shape)}")
    steps = SHOWN if values.shape[2:] != images.shape[2:] else SHOWN[:1]
    shown: Array = combine(values, steps, x=images).values[:, 0].numpy()
    return shown


def strongest_view(maps: Sequence[Array], axes: str) -> View:
    """Return the plane that holds most relevance, every map counting alike, for one image's maps ``(*S)``.

    Parameters
    ----------
    maps
        One a method.
    axes
        Names of the spatial axes, such as ``"ZYX"``.
    """
    leading = len(axes) - 2
    if leading <= 0 or not maps:
        return View()
    shares = [np.abs(one).sum((-1, -2)) / max(float(np.abs(one).sum()), 1e-300) for one in maps]
    total = np.sum(shares, axis=0)
    index = tuple(int(place) for place in np.unravel_index(int(total.argmax()), total.shape))
    told = ", ".join(
        f"{axis} = {place + 1} of {size}" for axis, place, size in zip(axes, index, total.shape, strict=False)
    )
    return View(index, f"slice {told}, the one with most relevance over all methods")
