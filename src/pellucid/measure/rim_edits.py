"""Edits of an object's rim: brighter or darker, blurred, moved in or out."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from scipy import ndimage

from pellucid.errors import ShapeError
from pellucid.measure.edit import EDITS, Edit
from pellucid.measure.intensity_edits import Amount, balanced_ramp, span, surrogate
from pellucid.measure.surface import Array, Mask, masked_blur

__all__ = ["blur_rim", "brighten_rim", "shift_rim"]

Width = Annotated[float, Field(ge=1.0)]


def _depth(inside: Mask) -> Array:
    """Return each pixel's distance to the outline: positive in the object, negative outside; the frame is no outline."""
    return np.asarray(
        ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside) - np.where(inside, 0.5, -0.5)
    )


def _needed(band: Mask, what: object) -> Mask:
    if int(band.sum()) < 3 or band.all():
        raise ShapeError(f"{what}: the object is too small, or too large for its image, to have such a rim")
    return band


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class brighten_rim(Edit):
    """Make the outer ring of the object brighter (or darker) by one constant in every channel.

    Null: the same amount as a slope over that ring, brighter on one side by as much as darker on the other. It controls
    for any smooth disturbance of the rim of that energy.

    Parameters
    ----------
    amount
        Share of the image's own range; negative darkens.
    width
        Of the ring, in pixels.
    """

    amount: Amount = 0.2
    width: Width = 2.0
    moves: ClassVar[tuple[str, ...]] = ("RadialDistribution_RimMinusCentre_",)
    controls: ClassVar[str] = "any smooth disturbance of the rim of that energy"

    def _ring(self, inside: Mask) -> Mask:
        return _needed(inside & (_depth(inside) < self.width), self)

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image with the amount added on the ring."""
        return image + self.amount * span(image), self._ring(inside)

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the amount as a balanced slope over the ring."""
        ring = self._ring(inside)
        return image + self.amount * span(image) * balanced_ramp(ring, rng), ring


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class blur_rim(Edit):
    """Smooth the object's edge: its outline stays where it is but is less sharp.

    Null: what the blur takes is turned into another pattern of the same strength and spectrum in the same band. It
    controls for disturbing the band by that much.

    Parameters
    ----------
    width
        Of the band on each side of the outline, in pixels.
    scale
        Standard deviation of the blur, in pixels.
    """

    width: Width = 3.0
    scale: Annotated[float, Field(gt=0.0)] = 2.0
    moves: ClassVar[tuple[str, ...]] = ("RadialDistribution_RimMinusCentre_",)
    controls: ClassVar[str] = "a disturbance of the band along the outline of that strength"

    def _taken(self, image: Array, inside: Mask) -> tuple[Array, Mask]:
        depth = _depth(inside)
        band = _needed(np.abs(depth) < self.width, self)
        blurred = np.stack([ndimage.gaussian_filter(channel, self.scale, mode="nearest") for channel in image])
        weight = np.clip(1 - np.abs(depth) / self.width, 0.0, 1.0)  # fades, so that no second edge appears
        return weight * (blurred - image), band

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image with a soft edge."""
        change, band = self._taken(image, inside)
        return image + change, band

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with another pattern of that strength along the edge."""
        change, band = self._taken(image, inside)
        return image + surrogate(change * band, band, rng), band


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class shift_rim(Edit):
    """Move the outline outwards (dilate) or inwards (erode): the ring between is filled from the other side.

    Null: the same ring is filled from its own side, so that the outline stays. It controls for filling that ring.

    Parameters
    ----------
    pixels
        Positive dilates: the object is continued outwards; negative erodes: the background is continued inwards.
    """

    pixels: Annotated[int, Field(ge=-20, le=20)] = 2
    moves: ClassVar[tuple[str, ...]] = ("AreaShape_Area", "AreaShape_EquivalentDiameter")
    controls: ClassVar[str] = "filling a ring along the outline"

    def _ring(self, inside: Mask) -> Mask:
        depth = _depth(inside)
        ring = ~inside & (depth > -self.pixels) if self.pixels > 0 else inside & (depth < -self.pixels)
        side = inside if self.pixels < 0 else ~inside
        if not (side & ~ring).any():
            raise ShapeError(f"{self}: nothing would be left of the object, or of its background")
        return _needed(ring, self)

    def _filled(self, image: Array, known: Mask, ring: Mask, rng: np.random.Generator) -> Array:
        """Continue the pixels of `known` into the ring, as if nothing lay behind it."""
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        continued = image[:, *nearest]
        grain = (image - masked_blur(image, known, 1.5))[:, known]
        smooth = np.stack([ndimage.gaussian_filter(channel, 1.0, mode="nearest") for channel in continued])
        filled = np.where(known, image, smooth)
        filled[:, ring] += grain[:, rng.integers(grain.shape[1], size=int(ring.sum()))]
        return np.asarray(filled)

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the outline moved."""
        ring = self._ring(inside)
        return self._filled(image, (inside if self.pixels > 0 else ~inside) & ~ring, ring, rng), ring

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the ring filled from its own side."""
        ring = self._ring(inside)
        return self._filled(image, (~inside if self.pixels > 0 else inside) & ~ring, ring, rng), ring
