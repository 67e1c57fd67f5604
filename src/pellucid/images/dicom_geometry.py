"""Planes in the patient: which slices stack to a volume, in which order, how far apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import Array
from pellucid.images.placing import Placing

__all__ = ["NotParallel", "Plane", "Stack", "plane_of", "stacked"]

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
TURNED = 1e-3
"""Direction cosines that differ by more are of planes that are not parallel."""
UNEVEN = 0.01
"""Gaps that differ by more than this share of their median (or a hundredth of a millimetre) are uneven."""


class NotParallel(BadImage):
    """Slices that are no volume: each is an image of its own."""


@dataclass(frozen=True)
class Plane:
    """One slice, in millimetres; None for what the file does not state.

    Attributes
    ----------
    origin
        Centre of the first pixel (LPS).
    along
        Direction of a row of pixels, then of a column: two rows of direction cosines.
    size
        Distance between rows and between columns.
    """

    origin: Array | None
    along: Array | None
    size: Array | None

    def placing(self) -> Placing | None:
        """Return where the slice lies, as far as Y and X go."""
        if self.origin is None or self.along is None or self.size is None:
            return None
        return _placing({"Y": self.along[1] * self.size[0], "X": self.along[0] * self.size[1]}, self.origin)

    def spacing(self) -> dict[str, float]:
        """Return the pixel size in micrometres."""
        return {} if self.size is None else {"Y": float(self.size[0]) * 1e3, "X": float(self.size[1]) * 1e3}


@dataclass(frozen=True)
class Stack:
    """Slices that are a volume: their order, the pixel size in micrometres, and where the volume lies."""

    order: tuple[int, ...]
    spacing: dict[str, float]
    placing: Placing | None


def _placing(steps: dict[str, Array], origin: Array) -> Placing:
    ras = {axis: tuple(map(float, step * LPS_TO_RAS)) for axis, step in steps.items()}
    return Placing(ras, tuple(map(float, origin * LPS_TO_RAS)))  # type: ignore[arg-type]


def _numbers(value: Any, count: int) -> Array | None:
    if value is None or len(value) != count:
        return None
    numbers = np.array([float(one) for one in value])
    return numbers if np.isfinite(numbers).all() else None


def plane_of(stated: Any) -> Plane:
    """Return the plane that a data set, or a mapping of the same three keywords, states."""
    along = _numbers(stated.get("ImageOrientationPatient"), 6)
    size = _numbers(stated.get("PixelSpacing"), 2)
    along = None if along is None else along.reshape(2, 3)
    if along is not None and not np.allclose(along @ along.T, np.eye(2), atol=1e-2):
        along = None
    return Plane(
        _numbers(stated.get("ImagePositionPatient"), 3), along, size if size is not None and (size > 0).all() else None
    )


def stacked(planes: Sequence[Plane], name: str) -> Stack:
    """Sort parallel slices by their position along their normal; the slice distance comes from the positions.

    Raises
    ------
    NotParallel
        When a slice states no position or the slices are turned against each other.
    BadImage
        When slices share a position, are missing, or are shifted sideways (a tilted gantry).
    """
    origins, along = _parallel(planes, name)
    normal = np.cross(along[0], along[1])
    depth = origins @ normal
    order = np.argsort(depth, kind="stable")
    gaps = np.diff(depth[order])
    typical = float(np.median(gaps))
    if gaps.min() < 1e-3:
        raise BadImage(
            f"{name}: {int((gaps < 1e-3).sum()) + 1} of {len(planes)} slices share a position with another (several times, echoes or "
            "copies in one series); keep one of each"
        )
    if (np.abs(gaps - typical) > max(UNEVEN * typical, 0.01)).any():
        raise BadImage(
            f"{name}: the distances between its {len(planes)} slices go from {gaps.min():.4g} to {gaps.max():.4g} mm, so that slices are "
            "missing or unevenly spaced; resample the series to one distance"
        )
    step = (origins[order[-1]] - origins[order[0]]) / (len(planes) - 1)
    if np.linalg.norm(step - typical * normal) > UNEVEN * typical:
        raise BadImage(
            f"{name}: its slices are shifted sideways against each other (a tilted gantry); resample the series"
        )
    size, first = planes[0].size, origins[order[0]]
    spacing = planes[0].spacing() | {"Z": typical * 1e3}
    steps = {} if size is None else {"Z": step, "Y": along[1] * size[0], "X": along[0] * size[1]}
    return Stack(tuple(map(int, order)), spacing, _placing(steps, first) if steps else None)


def _parallel(planes: Sequence[Plane], name: str) -> tuple[Array, Array]:
    """Return the origins and the one pair of directions of parallel slices."""
    first = planes[0].along
    origins = [plane.origin for plane in planes if plane.origin is not None]
    if first is None or len(origins) != len(planes):
        raise NotParallel(f"{name}: not every slice states its position and direction")
    for plane in planes:
        if plane.along is None or np.abs(plane.along - first).max() > TURNED:
            raise NotParallel(f"{name}: its {len(planes)} slices are turned against each other and are no volume")
        if (
            plane.size is not None
            and planes[0].size is not None
            and not np.allclose(plane.size, planes[0].size, rtol=1e-3)
        ):
            raise NotParallel(f"{name}: its slices have pixels of different sizes")
    return np.stack(origins), first
