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

_TRIES = 400
_RING = 2


def _elsewhere(image: Array, patch: Mask, rng: np.random.Generator, taken: Mask | None = None) -> NDArray[np.int64]:
    """Return the shift to a place of the patch's form that looks most like the tissue round the patch.

    The place lies within the image and touches neither the patch's surroundings nor what is taken.
    """
    around = ndimage.binary_dilation(patch, iterations=_RING)
    tissue = image[:, around & ~patch].mean(1)
    spots = np.argwhere(around)
    lowest, highest = -spots.min(0), np.array(patch.shape) - 1 - spots.max(0)
    shifts = rng.integers(lowest, highest, size=(_TRIES, patch.ndim), endpoint=True)
    places = np.moveaxis(shifts[:, None] + spots, -1, 0)
    blocked = around if taken is None else around | taken
    free = ~blocked[tuple(places)].any(1)
    if not free.any():
        raise ShapeError(f"there is no room for another patch of {int(patch.sum())} pixels beside this one")
    unlike = image[:, *places[:, free]] - tissue[:, None, None]
    return np.asarray(shifts[free][(unlike**2).sum(0).mean(1).argmin()])


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
