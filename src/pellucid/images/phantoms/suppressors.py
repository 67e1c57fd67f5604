"""Suppressors: what an instrument does to all pixels. A model must discount it, so that maps may light up where nothing is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.phantoms.rule import Factor
from pellucid.images.phantoms.scene import Array, Canvas

__all__ = ["Suppressors"]

_STAIN = np.array([0.6, -0.3, -0.5])


@dataclass(frozen=True, kw_only=True)
class Suppressors:
    """Uneven illumination, varying stain and correlated noise, each drawn evenly up to its strength, image by image.

    They tell nothing of the label by themselves, but whoever knows them reads the deciding factors better: a trained
    model gives them weight (Haufe et al. 2014; Wilming et al. 2022), which a map must not take for a cause.

    Attributes
    ----------
    illumination
        Largest relative slope of the light over the field.
    stain
        Largest shift of the colour along one axis, display range 1.
    noise
        Largest standard deviation of the correlated noise, display range 1.
    grain
        Grain diameter of that noise in micrometres.
    """

    illumination: float = 0.4
    stain: float = 0.1
    noise: float = 0.05
    grain: float = 2.0

    def __post_init__(self) -> None:
        if not (0 <= self.illumination < 1 and 0 <= self.stain < 0.5 and 0 <= self.noise < 0.5 and self.grain > 0):
            raise BadImage(f"{self} cannot be painted: illumination below 1, stain and noise below 0.5, grain above 0")

    @property
    def dials(self) -> tuple[Factor, ...]:
        """The factors that say how strong each is."""
        return (
            Factor("illumination", "1", 0.0, self.illumination, "relative slope of the light over the field"),
            Factor("stain", "1", -self.stain, self.stain, "shift of the colour, display range 1"),
            Factor("correlated_noise", "1", 0.0, self.noise, "standard deviation of grainy noise, display range 1"),
        )

    def applied(self, image: Array, values: Mapping[str, float], canvas: Canvas, rng: np.random.Generator) -> Array:
        """Return the image ``(3, Y, X)`` as the instrument passes it on."""
        turn = rng.uniform(0, 2 * np.pi)
        light = 1 + 0.5 * values["illumination"] * canvas.ramp(np.array([np.sin(turn), np.cos(turn)]))
        grain = np.stack([canvas.grain(field, self.grain) for field in rng.standard_normal(image.shape)])
        stained = image + values["stain"] * _STAIN[:, None, None]
        return np.asarray(light * stained + values["correlated_noise"] * grain)
