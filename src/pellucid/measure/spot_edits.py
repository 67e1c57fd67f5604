"""Edits of the spots in an object: add some, remove them, make them brighter or fainter."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from pellucid.errors import ShapeError
from pellucid.measure.edit import EDITS, Edit
from pellucid.measure.intensity_edits import balanced_ramp, span
from pellucid.measure.spots import Spots, find_spots
from pellucid.measure.surface import Array, Mask, fill_hole

__all__ = ["add_spots", "remove_spots", "scale_spots"]

_TRIES = 200
_REACH = 0.85
"""Radius, in spot diameters, of what is taken to belong to a spot: its half-height disc and its edge."""

Diameter = Annotated[float, Field(ge=1.0)]
Contrast = Annotated[float, Field(gt=0.0, le=1.0)]


def _found(image: Array, inside: Mask, diameter: float, contrast: float) -> Spots:
    return find_spots(image.mean(0), inside, (diameter,) * inside.ndim, contrast=contrast * span(image))


def _discs(shape: tuple[int, ...], centres: NDArray[np.int64], radius: float) -> Mask:
    if not len(centres):
        return np.zeros(shape, dtype=np.bool_)
    seeds = np.ones(shape, dtype=np.bool_)
    seeds[tuple(centres.T)] = False
    return np.asarray(ndimage.distance_transform_edt(seeds) <= radius)


def _free_places(free: Mask, count: int, apart: float, rng: np.random.Generator, what: object) -> NDArray[np.int64]:
    """Return up to `count` random pixels of `free`, no two nearer than `apart`, one at least."""
    places = np.argwhere(free)
    chosen: list[NDArray[np.int64]] = []
    for place in rng.permutation(len(places))[: _TRIES * count]:
        if all(((places[place] - other) ** 2).sum() >= apart**2 for other in chosen):
            chosen.append(places[place])
        if len(chosen) == count:
            break
    if not chosen:
        raise ShapeError(f"{what}: the object has no room for a spot off its rim and its other spots")
    return np.array(chosen)


def _room(inside: Mask, taken: Mask, radius: float) -> Mask:
    """Return the pixels of the object where a disc of that radius touches neither the rim nor what is taken."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(inside & ~taken, 1)) > radius)[
        tuple(slice(1, -1) for _ in inside.shape)
    ]


def _spread(change: Array, inside: Mask, rng: np.random.Generator) -> Array:
    """Return a slope over the object, brighter on one side by as much as darker on the other, as strong as the change."""
    strength = np.sqrt((change**2).sum(tuple(range(1, change.ndim))) / inside.sum())
    return np.asarray(strength.reshape(-1, *(1,) * inside.ndim) * balanced_ramp(inside, rng))


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class add_spots(Edit):
    """Add bright round spots to the object, off its rim and its other spots.

    Null: the same energy as a slope over the whole object, brighter on one side by as much as darker on the other, so that
    no spot appears. It controls for any smooth disturbance of that energy on the object.

    Parameters
    ----------
    number
        Of spots, fewer where there is no room.
    diameter
        Of each, in pixels.
    height
        Over what is there, as a share of the image's own range.
    """

    number: Annotated[int, Field(ge=1, le=100)] = 3
    diameter: Diameter = 3.0
    height: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    moves: ClassVar[tuple[str, ...]] = ("Spots_Count",)
    controls: ClassVar[str] = "any smooth disturbance of that energy on the object"

    def _change(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        if not _room(inside, np.zeros_like(inside), 0.5 * self.diameter).any():
            raise ShapeError(f"{self}: the object has no room for a spot of that diameter")
        spots = _found(image, inside, self.diameter, 0.5 * self.height)
        taken = _discs(inside.shape, spots.peaks, _REACH * self.diameter)
        free = _room(inside, taken, 0.5 * self.diameter)
        centres = _free_places(free, self.number, 1.5 * self.diameter, rng, self)
        seeds = np.ones(inside.shape, dtype=np.bool_)
        seeds[tuple(centres.T)] = False
        cover = np.clip(0.5 + 0.5 * self.diameter - ndimage.distance_transform_edt(seeds), 0.0, 1.0)
        change = np.broadcast_to(self.height * span(image) * cover, image.shape).copy()
        return change, cover > 0

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the spots added."""
        change, where = self._change(image, inside, rng)
        return image + change, where

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with that energy as a balanced slope."""
        change, _ = self._change(image, inside, rng)
        return image + _spread(change, inside, rng), inside


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class remove_spots(Edit):
    """Remove bright spots from the object and continue their surroundings into the gaps.

    Null: as many discs of that size are filled in the same way elsewhere in the object. It controls for the smoothness
    of the filling and the loss of that many pixels.

    Parameters
    ----------
    share
        Of the object's spots, rounded up.
    diameter
        Expected, in pixels.
    contrast
        Least height over the surroundings, as a share of the image's own range.
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    diameter: Diameter = 3.0
    contrast: Contrast = 0.1
    moves: ClassVar[tuple[str, ...]] = ("Spots_Count",)
    controls: ClassVar[str] = "the smoothness of the filling and the loss of that many pixels"

    def _plan(
        self, image: Array, inside: Mask, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the peaks to remove and all peaks."""
        peaks = _found(image, inside, self.diameter, self.contrast).peaks
        if not len(peaks):
            raise ShapeError(f"{self}: the object has no spot to remove")
        chosen = rng.permutation(len(peaks))[: int(np.ceil(self.share * len(peaks)))]
        return peaks[chosen], peaks

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image without the spots."""
        chosen, _ = self._plan(image, inside, rng)
        gap = _discs(inside.shape, chosen, _REACH * self.diameter)
        return fill_hole(image, gap), gap

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with as many gaps filled where no spot is."""
        chosen, peaks = self._plan(image, inside, rng)
        reach = _REACH * self.diameter
        taken = _discs(inside.shape, peaks, reach)
        gap = _discs(inside.shape, _free_places(_room(inside, taken, 1.0), len(chosen), reach, rng, self), reach)
        gap &= ~taken
        return fill_hole(image, gap), gap


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class scale_spots(Edit):
    """Make the object's spots brighter or fainter over their surroundings; their number stays.

    Null: the same energy as a slope over the whole object, which leaves every spot its height. It controls for any smooth
    disturbance of that energy on the object.

    Parameters
    ----------
    factor
        Of a spot's height over its surroundings.
    diameter, contrast
        See `remove_spots`.
    """

    factor: Annotated[float, Field(ge=0.0, le=4.0)] = 1.6
    diameter: Diameter = 3.0
    contrast: Contrast = 0.1
    moves: ClassVar[tuple[str, ...]] = ("Spots_MeanBrightness",)
    controls: ClassVar[str] = "any smooth disturbance of that energy on the object"

    def _change(self, image: Array, inside: Mask) -> tuple[Array, Mask]:
        peaks = _found(image, inside, self.diameter, self.contrast).peaks
        if not len(peaks):
            raise ShapeError(f"{self}: the object has no spot to change")
        where = _discs(inside.shape, peaks, _REACH * self.diameter)
        return (self.factor - 1) * (image - fill_hole(image, where)), where

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image with the spots at their new height."""
        change, where = self._change(image, inside)
        return image + change, where

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with that energy as a balanced slope."""
        change, _ = self._change(image, inside)
        return image + _spread(change, inside, rng), inside
