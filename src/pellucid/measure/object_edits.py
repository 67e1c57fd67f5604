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
from pellucid.measure.intensity_edits import surrogate
from pellucid.measure.surface import Array, Mask, fill_hole, masked_blur

__all__ = ["move_object", "replace_background", "resize_object", "stretch_object", "swap_background"]

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


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class stretch_object(Edit):
    """Draw the object out along its long axis, or press it together, and keep its area.

    Null: the object is drawn out and brought back through the same interpolation, before the same continued background.
    It controls for cutting, interpolation and filling.

    Parameters
    ----------
    factor
        Of the long axis; the others shrink so that the size stays. Under 1 makes the object rounder.
    """

    factor: Annotated[float, Field(ge=0.4, le=2.5)] = 1.25
    moves: ClassVar[tuple[str, ...]] = ("AreaShape_Eccentricity", "AreaShape_MajorAxisLength")
    controls: ClassVar[str] = "cutting the object out, interpolating it and filling the background"

    def _pull(self, inside: Mask) -> Array:
        """Return the matrix that takes a position of the stretched object to one of the object."""
        if inside.ndim < 2:
            raise ShapeError(f"{self}: an image of one spatial axis has no shape to stretch; use resize_object")
        axes = np.linalg.eigh(np.cov(np.argwhere(inside).T))[1] if inside.sum() > 1 else np.eye(inside.ndim)
        scale = np.full(inside.ndim, self.factor ** (1 / (inside.ndim - 1)))
        scale[-1] = 1 / self.factor
        return np.asarray(axes @ np.diag(scale) @ axes.T)

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the object stretched."""
        cut = np.concatenate([image * inside, inside[None].astype(np.float64)])
        return _composed(image, inside, _drawn(cut, _centre(inside), self._pull(inside)), rng)

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the object stretched and brought back."""
        room = max(inside.shape)
        cut = np.pad(
            np.concatenate([image * inside, inside[None].astype(np.float64)]), [(0, 0)] + [(room, room)] * inside.ndim
        )
        pull, centre = self._pull(inside), _centre(inside) + room
        back = _drawn(_drawn(cut, centre, pull), centre, np.asarray(np.linalg.inv(pull), dtype=np.float64))
        return _composed(image, inside, back[:, *(slice(room, room + n) for n in inside.shape)], rng)


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class move_object(Edit):
    """Move the object in a random direction by whole pixels; the background is continued into where it was.

    Null: the object is cut out and set back where it was, before the same continued background. It controls for cutting
    and filling.

    Parameters
    ----------
    share
        Of the image's shorter side; the object stays within the image, or nearer where there is no room.
    """

    share: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    moves: ClassVar[tuple[str, ...]] = ()
    controls: ClassVar[str] = "cutting the object out and filling the background"

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the object elsewhere."""
        places = np.argwhere(inside)
        direction = rng.standard_normal(inside.ndim)
        wanted = np.rint(self.share * min(inside.shape) * direction / np.linalg.norm(direction)).astype(np.int64)
        step = np.clip(wanted, -places.min(0), np.array(inside.shape) - 1 - places.max(0))
        if not step.any():
            raise ShapeError(f"{self}: the object fills its image and has no room to move")
        cut = np.concatenate([image * inside, inside[None].astype(np.float64)])
        return _composed(image, inside, np.roll(cut, tuple(step), tuple(range(1, cut.ndim))), rng)

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the object set back where it was."""
        rng.standard_normal(inside.ndim)  # the same grain as the edit draws
        return _composed(image, inside, np.concatenate([image * inside, inside[None].astype(np.float64)]), rng)


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class replace_background(Edit):
    """Give the whole background its own mean colour and fine grain: tags, slopes and debris are gone.

    Null: the background keeps all it holds, and a pattern of random form is laid over it, with the strength and spectrum
    of what the edit takes. It controls for disturbing the background by that much.
    """

    moves: ClassVar[tuple[str, ...]] = ("Background_Slope",)
    controls: ClassVar[str] = "a disturbance of the background of that strength"

    def _kept(self, image: Array, inside: Mask) -> tuple[Array, Mask]:
        """Return the fine grain of the background and where the background is, off the object's soft edge."""
        outside = ~ndimage.binary_dilation(inside, iterations=1)
        if not outside.any():
            raise ShapeError(f"{self}: the object leaves no background to replace")
        return image - masked_blur(image, outside, 1.5), outside

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image before a plain background."""
        grain, outside = self._kept(image, inside)
        plain = image.copy()
        typical = np.median(image[:, outside], axis=1)
        loud = np.quantile(np.abs(grain[:, outside]), 0.9, axis=1)[:, None]
        fine = grain[:, outside][:, (np.abs(grain[:, outside]) <= loud).all(0)]  # without the edges of what is taken
        drawn = fine[:, rng.integers(fine.shape[1], size=int(outside.sum()))] if fine.shape[1] else 0.0
        plain[:, outside] = typical[:, None] + drawn
        return plain, outside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with as strong a pattern over its background."""
        plain, outside = self.edited(image, inside, rng)
        return image + surrogate(np.where(outside, image - plain, 0.0), outside, rng), outside


def _centre(inside: Mask) -> Array:
    return np.asarray(np.argwhere(inside).mean(0), dtype=np.float64)


def _zoomed(cut: Array, centre: Array, factor: float) -> Array:
    """Enlarge every channel about the centre by linear interpolation; nothing beyond the frame."""
    offset = centre - centre / factor
    scale = np.full(len(centre), 1 / factor)
    return np.stack([ndimage.affine_transform(c, scale, offset, order=1, mode="constant") for c in cut])


def _drawn(cut: Array, centre: Array, pull: Array) -> Array:
    """Read every channel at the pulled position about the centre by linear interpolation; nothing beyond the frame."""
    offset = centre - pull @ centre
    return np.stack([ndimage.affine_transform(c, pull, offset, order=1, mode="constant") for c in cut])


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
