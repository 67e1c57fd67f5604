"""Volumes: an organ in three dimensions with nodules, voxels longer along Z as scanners make them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageRecord
from pellucid.images.phantoms.phantom import Member, Phantom, assemble, group_of, stream
from pellucid.images.phantoms.rule import Factor, Rule
from pellucid.images.phantoms.scene import Array, Scene, camera, scattered

__all__ = ["VOLUME_FACTORS", "volumes"]

VOLUME_FACTORS = (
    Factor("nodule_number", "1", 0, 5, "bright nodules in the organ", whole=True),
    Factor("nodule_size", "mm", 6.0, 9.0, "diameter of a nodule"),
    Factor("nodule_brightness", "1", 0.2, 0.4, "of a nodule over the organ, display range 1"),
    Factor("organ_size", "mm", 44.0, 60.0, "longest diameter of the organ"),
    Factor("organ_brightness", "1", 0.25, 0.4, "of the organ, display range 1"),
    Factor("shading", "1", 0.0, 0.15, "slope of the background over the field, display range 1"),
)

_FIELD = 80.0
_STRETCH = 2.0
_FLAT = np.array([0.7, 0.8, 1.0])
_BACKGROUND = 0.1
_NOISE = 0.03
_VALUES, _NUISANCE, _SLIDE = range(3)


@dataclass(frozen=True)
class _Painter:
    """Renders volume `index` with given factors; the same index always has the same nuisances."""

    seed: int
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def __call__(self, index: int, values: Mapping[str, float]) -> Scene:
        rng = stream(self.seed, index, _NUISANCE)
        centre, places = rng.uniform(-4.0, 4.0, 3), scattered(rng, int(VOLUME_FACTORS[0].high), 3)
        direction = rng.standard_normal(3)
        noise = rng.standard_normal(self.size)
        gain = stream(self.seed, group_of(index), _SLIDE).uniform(0.95, 1.05)
        semi_axes = 0.5 * values["organ_size"] * _FLAT
        organ = self._ball(centre, semi_axes)
        nodules = np.zeros(self.size)
        for place in places[: int(values["nodule_number"])]:
            at = centre + place * (semi_axes - 0.6 * values["nodule_size"])
            nodules = np.maximum(nodules, self._ball(at, np.full(3, 0.5 * values["nodule_size"])))
        slope = np.tensordot(direction / np.linalg.norm(direction), self._grid(np.zeros(3)), axes=1) / _FIELD
        volume = _BACKGROUND + values["shading"] * slope * (1 - organ) + values["organ_brightness"] * organ
        volume = volume + values["nodule_brightness"] * nodules
        covers = {
            "nodule_number": nodules, "nodule_size": nodules, "nodule_brightness": nodules, "organ_size": organ,
            "organ_brightness": organ, "shading": 1 - organ,
        }  # fmt: skip
        masks = {name: covered > 0 for name, covered in covers.items()} | {"object": organ >= 0.5}
        return Scene(camera(gain * volume + _NOISE * noise)[None], masks)

    def _grid(self, centre: Array) -> Array:
        axes = [
            (np.arange(n) - (n - 1) / 2) * step - at
            for n, step, at in zip(self.size, self.spacing, centre, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"))

    def _ball(self, centre: Array, semi_axes: Array) -> Array:
        """Return how much of each voxel an ellipsoid covers; its rim is one voxel of the plane wide."""
        radius = np.sqrt(((self._grid(centre) / semi_axes[:, None, None, None]) ** 2).sum(0))
        depth = (1 - radius) * semi_axes.min()
        return np.asarray(np.clip(0.5 + depth / self.spacing[-1], 0.0, 1.0))


def volumes(
    count: int = 200, size: tuple[int, int, int] = (20, 40, 40), seed: int = 0, *, rule: str = "nodule_number",
    margin: float = 0.1,
) -> Phantom:  # fmt: skip
    """Make three-dimensional images of one organ each, whose label follows from chosen factors and nothing else.

    The six of `VOLUME_FACTORS` are drawn evenly and independently of each other. Place, noise, gain and shading vary and
    tell nothing.

    Parameters
    ----------
    count
        Volumes. Volume i is the same whatever the count.
    size
        Voxels in Z, Y and X; the field is 80 mm on the shorter side of the plane, voxels are twice as long along Z.
    seed
        Of everything that is drawn.
    rule
        As for `cells`: ``"nodule_number"`` (a local truth), ``"organ_size"`` (a global one), and so on.
    margin
        Share of a deciding factor's range on each side of its threshold that is never drawn.

    Returns
    -------
    Phantom
        Its images are float32 ``(1, Z, Y, X)`` with classes ``healthy`` and ``diseased``; pixel sizes are in micrometres.

    Raises
    ------
    BadImage
        When the size is under 12 voxels along an axis or the rule cannot be read.
    """
    if len(size) != 3 or min(size) < 12 or count < 0:
        raise BadImage(f"volumes need a count and a size (Z, Y, X) of at least 12 voxels, not {count} and {size}")
    law = Rule.parse(rule, VOLUME_FACTORS, margin)
    plane = _FIELD / min(size[1:])
    spacing = (_STRETCH * plane, plane, plane)
    members = [law.draw(stream(seed, index, _VALUES), VOLUME_FACTORS) for index in range(count)]
    return assemble(
        "volumes",
        ImageRecord(
            "CZYX", ("signal",), spacing=tuple(1000 * step for step in spacing), source=f"volumes(seed={seed})"
        ),
        (1, *size),
        [Member(law.label(values), values) for values in members],
        dials=VOLUME_FACTORS,
        classes=("healthy", "diseased"),
        rule=f"diseased where {law}",
        causes=tuple(factor.name for factor in law.factors),
        paint=_Painter(seed, size, spacing),
        classify=law.label,
    )
