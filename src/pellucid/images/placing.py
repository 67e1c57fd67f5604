"""Where an image lies in the patient: a step for each axis and the place of its first voxel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Affine", "Placing", "orientation"]

Affine = tuple[tuple[float, ...], ...]
Vector = tuple[float, float, float]

ENDS = ("LR", "PA", "IS")
"""Names of the two ends of each patient axis, the lower first."""


@dataclass(frozen=True)
class Placing:
    """A grid in the patient's space, in millimetres; x grows to the right, y to the front, z to the head (RAS).

    Attributes
    ----------
    steps
        Axis letter (Z, Y or X) to the way from one voxel to the next.
    origin
        The centre of the first voxel.
    """

    steps: Mapping[str, Vector]
    origin: Vector

    @classmethod
    def from_affine(cls, affine: np.ndarray, letters: str) -> "Placing":
        """Take the columns of a 4 × 4 affine as the steps of these axes and its last as the origin."""
        columns = [tuple(map(float, affine[:3, place])) for place in range(4)]
        return cls(dict(zip(letters, columns[:3], strict=True)), columns[3])  # type: ignore[arg-type]

    def affine(self, axes: str, *, before: Sequence[int], after: Sequence[int]) -> Affine | None:
        """Return the affine of these axes after a resize, which keeps the corners of the image where they are.

        Parameters
        ----------
        axes
            Letters in the image's order; time has no place in the patient.
        before, after
            The lengths of those axes.
        """
        kept = [(letter, old, new) for letter, old, new in zip(axes, before, after, strict=True) if letter in "ZYX"]
        if any(letter not in self.steps for letter, _, _ in kept):
            return None
        grown = [old / new * np.array(self.steps[letter]) for letter, old, new in kept]
        shift = sum((old / new - 1) / 2 * np.array(self.steps[letter]) for letter, old, new in kept)
        columns = np.stack([*grown, np.array(self.origin) + shift], axis=1)
        return tuple(tuple(map(float, row)) for row in (*columns, np.array([0.0] * len(kept) + [1.0])))


def orientation(affine: Affine) -> str:
    """Return the end of the patient that each axis runs to, such as ``"SPL"``, taking the nearest direction."""
    steps = np.array(affine)[:3, :-1]
    steps = steps / np.linalg.norm(steps, axis=0).clip(min=np.finfo(float).tiny)
    letters, free = [""] * steps.shape[1], [0, 1, 2]
    for axis in np.argsort(-np.abs(steps).max(0), kind="stable"):
        end = max(free, key=lambda row: abs(steps[row, axis]))
        free.remove(end)
        letters[axis] = ENDS[end][int(steps[end, axis] > 0)]
    return "".join(letters)
