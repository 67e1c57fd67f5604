"""Edits of one small patch, such as a spot, a lesion or a tag: take it away, or add another like it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pellucid.errors import ShapeError
from pellucid.measure.edit import EDITS, Edit
from pellucid.measure.surface import Array, Mask, fill_hole

__all__ = ["paste_patch", "remove_patch"]

_PIXELS_TRIED = 1_000_000
_RING = 2
_LIKE = 2.0
"""How many standard deviations of the tissue round the patch another place may lie from its mean."""


def _elsewhere(image: Array, patch: Mask, rng: np.random.Generator, taken: Mask | None = None) -> NDArray[np.int64]:
    """Return the shift to a place of the patch's form that looks most like the tissue round the patch.

    The place and its rim lie within the image and off the patch; the place touches neither its rim nor what is
    taken. Where nothing looks like that tissue there is no such place, and that is said.
    """
    around = ndimage.binary_dilation(patch, iterations=_RING)
    tissue = image[:, around & ~patch]
    spots, own = np.argwhere(around), patch[around]
    lowest, highest = -spots.min(0), np.array(patch.shape) - 1 - spots.max(0)
    tries = max(1, _PIXELS_TRIED // (spots.size * len(image)))
    shifts = rng.integers(lowest, highest, size=(tries, patch.ndim), endpoint=True)
    places = np.moveaxis(shifts[:, None] + spots, -1, 0)
    blocked = around if taken is None else around | taken
    free = ~(blocked[tuple(places)] & own).any(1) & ~patch[tuple(places)].any(1)
    if not free.any():
        raise ShapeError(f"there is no room for another patch of {int(own.sum())} pixels beside this one")
    middle = tissue.mean(1)[:, None, None]
    unlike = ((image[:, *places[:, free]] - middle) ** 2).sum(0).mean(1)
    if unlike.min() > _LIKE**2 * ((tissue - middle[..., 0]) ** 2).sum(0).mean():
        raise ShapeError(f"no other place of {int(own.sum())} pixels looks like the tissue round this patch")
    return np.asarray(shifts[free][unlike.argmin()])


def _moved(field: NDArray[np.generic], shift: NDArray[np.int64]) -> NDArray[np.generic]:
    axes = tuple(range(field.ndim - len(shift), field.ndim))
    return np.roll(field, tuple(int(step) for step in shift), axes)


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class remove_patch(Edit):
    """Remove what the mask marks and continue its surroundings into the gap.

    Null: a gap of the same form is filled in the same way elsewhere, where the tissue looks most like that round the
    patch. It controls for the smoothness of the filling and the loss of that many pixels.
    """

    moves: ClassVar[tuple[str, ...]] = ("Spots_Count",)
    controls: ClassVar[str] = "the smoothness of the filling and the loss of that many pixels"

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image with the patch filled."""
        return fill_hole(image, inside), inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with an equal gap filled elsewhere."""
        other = np.asarray(_moved(inside, _elsewhere(image, inside, rng)), dtype=np.bool_)
        return fill_hole(image, other), other


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class paste_patch(Edit):
    """Add a second copy of what the mask marks, where the tissue looks most like that round the patch.

    What is copied is the patch's difference from its filled gap, so the place keeps its own shade. Null: at that same
    place the difference of plain tissue of the same form is added. It controls for pasting itself.
    """

    moves: ClassVar[tuple[str, ...]] = ("Spots_Count",)
    controls: ClassVar[str] = "pasting anything of that form at that place"

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the patch pasted a second time."""
        return _pasted(image, inside, _elsewhere(image, inside, rng))

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with plain tissue pasted where the edit pastes the patch."""
        shift = _elsewhere(image, inside, rng)
        target = np.asarray(_moved(inside, shift), dtype=np.bool_)
        source = _elsewhere(image, inside, rng, ndimage.binary_dilation(target, iterations=_RING))
        return _pasted(image, np.asarray(_moved(inside, source), dtype=np.bool_), shift - source)


def _pasted(image: Array, patch: Mask, shift: NDArray[np.int64]) -> tuple[Array, Mask]:
    content = _moved(image - fill_hole(image, patch), shift)
    target = np.asarray(_moved(patch, shift), dtype=np.bool_)
    return fill_hole(image, target) + np.asarray(content, dtype=np.float64), target
