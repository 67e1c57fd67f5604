"""Edits that move the object's outline or change what lies behind it: another size, another background."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.measure.edit import EDITS, Edit, EditResult, packed, unpacked
from pellucid.measure.surface import Array, Mask, fill_hole

__all__ = ["resize_object", "swap_background"]

_RIM = 2


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class resize_object(Edit):
    """Grow or shrink the object about its centre; the background is continued into what it no longer covers.

    Null: the object is cut out, enlarged and brought back to its size through the same interpolation, and set before
    the same continued background. It controls for cutting, interpolation and filling.

    Parameters
    ----------
    factor
        Of every length; 1.2 makes the area 1.44 times as large.
    """

    factor: Annotated[float, Field(ge=0.25, le=4.0)] = 1.2
    moves: ClassVar[tuple[str, ...]] = ("AreaShape_Area", "AreaShape_Perimeter", "AreaShape_EquivalentDiameter")
    controls: ClassVar[str] = "cutting the object out, interpolating it and filling the background"

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the object resized."""
        cut = np.concatenate([image * inside, inside[None].astype(np.float64)])
        return _composed(image, inside, _zoomed(cut, _centre(inside), self.factor), rng)

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the object resized and brought back."""
        room = int(np.ceil(max(self.factor - 1.0, 0.0) * max(inside.shape)))
        margin = [(0, 0)] + [(room, room)] * inside.ndim
        cut = np.pad(np.concatenate([image * inside, inside[None].astype(np.float64)]), margin)
        centre = _centre(inside) + room
        back = _zoomed(_zoomed(cut, centre, self.factor), centre, 1 / self.factor)
        middle = tuple(slice(room, room + n) for n in inside.shape)
        return _composed(image, inside, back[:, *middle], rng)


def _centre(inside: Mask) -> Array:
    return np.asarray(np.argwhere(inside).mean(0), dtype=np.float64)


def _zoomed(cut: Array, centre: Array, factor: float) -> Array:
    """Enlarge every channel about the centre by linear interpolation; nothing beyond the frame."""
    offset = centre - centre / factor
    scale = np.full(len(centre), 1 / factor)
    return np.stack([ndimage.affine_transform(c, scale, offset, order=1, mode="constant") for c in cut])


def _composed(image: Array, inside: Mask, cut: Array, rng: np.random.Generator) -> tuple[Array, Mask]:
    """Lay a cut-out object, its last channel its coverage, over the background without the old object."""
    hole = ndimage.binary_dilation(inside, iterations=_RIM)
    background = _background(image, hole, rng)
    cover = cut[-1]
    return background * (1 - cover) + cut[:-1], hole | (cover > 0)


def _background(image: Array, hole: Mask, rng: np.random.Generator | None) -> Array:
    if hole.all():
        raise ShapeError("the object leaves no background to continue")
    return fill_hole(image, hole, rng=rng)


def swap_background(
    image: Tensor,
    mask: Tensor,
    donor_image: Tensor,
    donor_mask: Tensor,
    *,
    feather: float = 3.0,
    generator: torch.Generator | None = None,
) -> EditResult:
    """Set the object of one image before the background of another.

    The donor's own object is removed by continuing its background with a grain like its own; the seam fades over
    `feather` pixels outside the object. Whatever the model does differently it took from the background.

    Parameters
    ----------
    image, donor_image
        Float ``(C, *S)`` of one shape.
    mask, donor_mask
        ``(*S)``: not 0 on the objects. The donor's may be empty.
    feather
        Pixels over which the image's own surroundings fade into the donor's background.
    generator
        Of the grain over the donor's filled gap; None: filled without grain.

    Returns
    -------
    EditResult
        The object's pixels equal the image's bit for bit.

    Raises
    ------
    ShapeError
        When the images do not fit each other or an object leaves no background.
    """
    pixels, inside = unpacked(image, mask)
    if donor_image.shape != image.shape or donor_mask.shape != mask.shape:
        raise ShapeError(f"the donor is {tuple(donor_image.shape)}, the image {tuple(image.shape)}")
    donor = donor_image.detach().cpu().numpy().astype(np.float64)
    hole = ndimage.binary_dilation(donor_mask.detach().cpu().numpy() > 0, iterations=_RIM)
    seed = None if generator is None else int(torch.randint(2**63 - 1, (), generator=generator))
    background = _background(donor, hole, None if seed is None else np.random.default_rng(seed))
    away = ndimage.distance_transform_edt(~inside)
    own = np.clip(1 - away / (feather + 1), 0.0, 1.0)
    return packed(image, background + own * (pixels - background), ~inside)
