"""Drawing in physical units: coverage of pixels by shapes, granular fields, scattered points.

Every shape is drawn with an edge one pixel wide and nothing beyond it, so the pixels that it touches are
known exactly.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.util import img_as_float32

__all__ = ["Canvas", "Outline", "Scene", "camera", "scattered"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """One rendered image with its truth.

    Attributes
    ----------
    image
        Float32 ``(C, *S)`` in [0, 1].
    masks
        Boolean ``(*S)`` by name: ``"object"``, and for each factor the pixels that carry it.
    """

    image: NDArray[np.float32]
    masks: dict[str, Mask]


@dataclass(frozen=True)
class Canvas:
    """A field of pixels with a physical pixel size, its origin in the middle.

    Attributes
    ----------
    size
        Pixels along each spatial axis.
    pixel
        Edge length of a pixel in the scene's unit.
    """

    size: tuple[int, ...]
    pixel: float

    @classmethod
    def of_field(cls, size: tuple[int, ...], extent: float) -> "Canvas":
        """Return the canvas whose shortest side is `extent` long."""
        return cls(size, extent / min(size))

    def grid(self, centre: Array) -> Array:
        """Return the position of every pixel relative to `centre`: ``(D, *S)``."""
        axes = [(np.arange(n) - (n - 1) / 2) * self.pixel - at for n, at in zip(self.size, centre, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"))

    def coverage(self, depth: Array) -> Array:
        """Return how much of each pixel lies inside a shape whose signed depth (positive inside) is given."""
        return np.clip(0.5 + depth / self.pixel, 0.0, 1.0)

    def discs(self, centres: Array, radius: float) -> Array:
        """Return the joint coverage of equal discs or balls at `centres` ``(n, D)``."""
        covered = np.zeros(self.size)
        for centre in centres:
            distance = np.sqrt((self.grid(centre) ** 2).sum(0))
            np.maximum(covered, self.coverage(radius - distance), out=covered)
        return covered

    def ramp(self, direction: Array) -> Array:
        """Return a linear slope from −1 to 1 along the unit vector `direction`."""
        grid = self.grid(np.zeros(len(self.size)))
        slope = np.tensordot(direction, grid, axes=1)
        return np.asarray(slope / np.abs(slope).max())

    def grain(self, noise: Array, diameter: float) -> Array:
        """Return `noise` smoothed to grains of that diameter, with mean 0 and standard deviation 1."""
        field = ndimage.gaussian_filter(noise, 0.5 * diameter / self.pixel, mode="wrap")
        return np.asarray((field - field.mean()) / field.std())


@dataclass(frozen=True)
class Outline:
    """An ellipse with a wavy edge, in two dimensions; its area is exact whatever the waves.

    Attributes
    ----------
    centre
        ``(2,)`` in the scene's unit.
    semi_axes
        ``(2,)`` long and short.
    angle
        Of the long axis, in radians.
    waves
        ``(k, 2)`` amplitude and phase of the third and higher harmonics of the radius.
    """

    centre: Array
    semi_axes: Array
    angle: float
    waves: Array

    @classmethod
    def of_area(cls, area: float, ratio: float, centre: Array, angle: float, waves: Array) -> "Outline":
        """Return the outline of that area whose short axis is `ratio` of the long one."""
        radius = np.sqrt(area / np.pi)
        return cls(centre, np.array([radius / np.sqrt(ratio), radius * np.sqrt(ratio)]), angle, waves)

    @property
    def _axes(self) -> Array:
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    def to_scene(self, points: Array) -> Array:
        """Map points ``(n, 2)`` of the unit disc into the outline."""
        return np.asarray(self.centre + (points * self.semi_axes) @ self._axes)

    def _along(self, canvas: Canvas) -> Array:
        """Pixel positions in the outline's own frame, where the ellipse without waves is the unit disc."""
        turned = np.tensordot(self._axes, canvas.grid(self.centre), axes=1)
        return np.asarray(turned / self.semi_axes[:, None, None])

    def depth(self, canvas: Canvas) -> Array:
        """Return the distance of each pixel to the edge, positive inside, exact to first order there."""
        along = self._along(canvas)
        radius = np.sqrt((along**2).sum(0)) + 1e-12
        slope = np.sqrt(((along / self.semi_axes[:, None, None]) ** 2).sum(0)) / radius + 1e-12
        return np.asarray((self._edge(along) - radius) / slope)

    def dome(self, canvas: Canvas) -> tuple[Array, Array]:
        """Return the unit normal of the ellipsoid over the outline: in the image plane ``(2, *S)``, to the viewer.

        Beyond the edge the surface falls away sideways.
        """
        along = self._along(canvas) / self._edge(self._along(canvas))
        radius = np.maximum(1.0, np.sqrt((along**2).sum(0)))
        plane = np.tensordot(self._axes.T, along / radius, axes=1)
        return plane, np.sqrt(np.clip(1 - (plane**2).sum(0), 0.0, 1.0))

    def _edge(self, along: Array) -> Array:
        theta = np.arctan2(along[1], along[0])
        edge = np.ones_like(theta)
        for order, (amplitude, phase) in enumerate(self.waves, start=3):
            edge += amplitude * np.cos(order * theta + phase)
        return np.asarray(edge / np.sqrt(1 + 0.5 * (self.waves[:, 0] ** 2).sum()))

    def across(self, canvas: Canvas) -> Array:
        """Return the signed distance of each pixel from the long axis."""
        return np.asarray(self._along(canvas)[1] * self.semi_axes[1])


def scattered(
    rng: np.random.Generator, count: int, dimensions: int = 2, tries: int = 24, taken: Array | None = None
) -> Array:
    """Return points of the unit ball, each far from those before it and from those `taken`; more points add to the same ones."""
    points = np.empty((0, dimensions)) if taken is None else taken
    first = len(points)
    for _ in range(count):
        spread = rng.uniform(-1.0, 1.0, (tries * 2, dimensions))
        spread = spread[np.argsort((spread**2).sum(1) > 1.0, kind="stable")][:tries]
        spread /= np.maximum(1.0, np.sqrt((spread**2).sum(1, keepdims=True)))
        gaps = np.sqrt(((spread[:, None] - points[None]) ** 2).sum(-1))
        points = np.vstack([points, spread[gaps.min(1).argmax()] if len(points) else spread[0]])
    return points[first:]


def camera(image: Array) -> NDArray[Any]:
    """Return what an eight-bit camera records of the scene, as float32 in [0, 1]."""
    levels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.asarray(img_as_float32(levels))  # type: ignore[no-untyped-call]
