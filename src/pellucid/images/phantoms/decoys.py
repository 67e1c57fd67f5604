"""Decoys: spots as bright and as large as those that may decide, in another colour, that tell nothing."""

from dataclasses import dataclass

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.phantoms.rule import Factor
from pellucid.images.phantoms.scene import Array, scattered

__all__ = ["DECOY", "Decoys"]

DECOY = Factor(
    "decoy_number", "1", 0, 10, "spots of equal contrast in another colour, which decide nothing", whole=True
)
"""The factor that counts them."""


@dataclass(frozen=True, kw_only=True)
class Decoys:
    """Spots that a map should not light up for: any edge or brightness detector does.

    Their number is drawn evenly and independently of everything else, their places keep clear of the true spots. Size
    and brightness are those in the middle of the true spots' range.

    Attributes
    ----------
    diameter
        In micrometres.
    brightness
        Over the cytoplasm, display range 1.
    colour
        Of a decoy in red, green and blue; its length and its largest part should equal the true spots'.
    """

    diameter: float = 1.6
    brightness: float = 0.4
    colour: tuple[float, float, float] = (0.3, 0.9, 1.0)

    def __post_init__(self) -> None:
        if not 0.3 <= self.diameter <= 4.0 or not 0.0 < self.brightness <= 1.0:
            raise BadImage(f"{self} cannot be painted: take a diameter of 0.3 to 4 µm and a brightness up to 1")

    def places(self, rng: np.random.Generator, taken: Array) -> Array:
        """Return where in the unit disc decoys may lie, far from the spots ``(n, 2)`` that are there."""
        return scattered(rng, int(DECOY.high), taken=taken)

    def painted(self, covered: Array) -> Array:
        """Return what decoys add to the image ``(3, Y, X)``, given how much of each pixel they cover."""
        return np.asarray(self.brightness * np.array(self.colour)[:, None, None] * covered)
