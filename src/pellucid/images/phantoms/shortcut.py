"""A planted shortcut: a tag that betrays the label without being part of the object."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.phantoms.rule import Factor
from pellucid.images.phantoms.scene import Array, Canvas

__all__ = ["SHAPES", "TAG", "Shortcut"]

TAG = Factor("shortcut", "1", 0, 1, "1 where the tag is present", whole=True)
"""The factor that says whether an image carries the tag."""

SHAPES = ("square", "disc", "triangle", "bar", "cross", "ring")


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """A tag of one shape at one place of all images that carry it, beside the object.

    Attributes
    ----------
    shape
        One of `SHAPES`, or None to draw it from the phantom's seed.
    place
        Degrees round the field's edge, 0 to 360, anticlockwise from the right, or None to draw it.
    contrast
        How much brighter the tag is than the background.
    width
        Of the tag, as a share of the field's shorter side.
    correlation
        Between tag and label, −1 to 1, for all splits or by split; 1: on every image of class 1, on no other.
    """

    shape: str | None = None
    place: float | None = None
    contrast: float = 0.3
    width: float = 0.125
    correlation: float | Mapping[str, float] = 1.0

    def __post_init__(self) -> None:
        if self.shape is not None and self.shape not in SHAPES:
            raise BadImage(f"there is no shortcut shape {self.shape!r}; there are {', '.join(SHAPES)}")
        if not 0.02 <= self.width <= 0.15:
            raise BadImage(f"a shortcut of width {self.width:g} does not fit beside the object; take 0.02 to 0.15")
        values = self.correlation.values() if isinstance(self.correlation, Mapping) else [self.correlation]
        for value in values:
            if not -1.0 <= value <= 1.0:
                raise BadImage(f"a shortcut's correlation lies between −1 and 1, not at {value:g}")

    def settled(self, seed: int) -> "Shortcut":
        """Return the shortcut with shape and place drawn from the seed where they were left open."""
        rng = np.random.default_rng([seed, 0x7A6])
        shape, place = SHAPES[rng.integers(len(SHAPES))], float(rng.uniform(0.0, 360.0))
        return replace(self, shape=self.shape or shape, place=place if self.place is None else self.place)

    def present(self, rng: np.random.Generator, label: int, split: str) -> bool:
        """Draw whether an image of this label and split carries the tag."""
        correlation = self.correlation
        if isinstance(correlation, Mapping):
            correlation = correlation.get(split, 1.0)
        chance = (1 + (2 * label - 1) * correlation) / 2
        return bool(rng.random() < chance)

    def coverage(self, canvas: Canvas) -> Array:
        """Return how much of each pixel the tag covers."""
        y, x = canvas.grid(self._centre(canvas))
        half = 0.5 * self.width * min(canvas.size) * canvas.pixel
        return canvas.coverage(_depth(str(self.shape), y, x, half))

    def _centre(self, canvas: Canvas) -> Array:
        angle = np.deg2rad(self.place or 0.0)
        direction = np.array([-np.sin(angle), np.cos(angle)])
        half_field = 0.5 * min(canvas.size) * canvas.pixel
        reach = half_field * (1 - self.width) - 1.5 * canvas.pixel
        return np.asarray(direction * reach / np.abs(direction).max())


def _depth(shape: str, y: Array, x: Array, half: float) -> Array:
    """Signed depth of each position inside a shape of half width `half` about the origin."""
    box = np.minimum(half - np.abs(y), half - np.abs(x))
    bars = [np.minimum(half - np.abs(a), half / 3 - np.abs(b)) for a, b in ((x, y), (y, x))]
    radius = np.hypot(y, x)
    sides = np.minimum(half - y, (half + y) / np.sqrt(5) - np.abs(x) * 2 / np.sqrt(5))
    depths = {
        "square": box,
        "disc": half - radius,
        "triangle": sides,
        "bar": bars[0],
        "cross": np.maximum(*bars),
        "ring": np.minimum(half - radius, radius - half / 2),
    }
    return np.asarray(depths[shape])
