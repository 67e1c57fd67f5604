"""Fields of several cells of which at most one is abnormal: one instance decides the label of the whole image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.images.imageset import ImageRecord
from pellucid.images.phantoms.phantom import Member, Phantom, assemble, check_size, group_of, stream
from pellucid.images.phantoms.rule import Factor, Rule
from pellucid.images.phantoms.scene import Array, Canvas, Outline, Scene, camera, scattered

__all__ = ["FIELD_FACTORS", "fields"]

FIELD_FACTORS = (
    Factor("abnormal_cell", "1", 0, 1, "1 where one cell of the field is crowded with spots", whole=True),
    Factor("cell_number", "1", 3, 6, "cells in the field", whole=True),
    Factor("cell_size", "µm²", 60.0, 110.0, "area of each cell"),
    Factor("spot_size", "µm", 1.2, 2.0, "diameter of a spot"),
    Factor("spot_brightness", "1", 0.25, 0.55, "of a spot over the cytoplasm, display range 1"),
    Factor("background_shading", "1", 0.0, 0.2, "slope of the background over the field, display range 1"),
)

_FIELD = 48.0
_FEW, _MANY = 2, 7
_NOISE = 0.02
_BACKGROUND = np.array([0.14, 0.14, 0.16])
_CYTOPLASM = np.array([0.22, 0.26, 0.14])
_SPOT = np.array([1.0, 0.9, 0.3])
_VALUES, _NUISANCE, _SLIDE = range(3)


@dataclass(frozen=True)
class _Painter:
    """Renders field `index` with given factors; the same index always has the same nuisances."""

    seed: int
    size: tuple[int, int]

    def __call__(self, index: int, values: Mapping[str, float]) -> Scene:
        canvas = Canvas.of_field(self.size, _FIELD)
        rng = stream(self.seed, index, _NUISANCE)
        places, turn = scattered(rng, int(FIELD_FACTORS[1].high)), rng.uniform(0, 2 * np.pi)
        cells = [_Cell.draw(rng, place) for place in places]
        noise = rng.standard_normal((3, *self.size))
        slide = stream(self.seed, group_of(index), _SLIDE)
        gain, haze = slide.uniform(0.96, 1.04, (3, 1, 1)), slide.uniform(-0.02, 0.02)
        slope = canvas.ramp(np.array([np.sin(turn), np.cos(turn)]))
        body, ordinary, crowded = self._covered(canvas, cells[: int(values["cell_number"])], values)
        spots = np.maximum(ordinary, crowded)
        image = _BACKGROUND[:, None, None] + haze + 0.5 * values["background_shading"] * slope * (1 - body)
        image = image + _CYTOPLASM[:, None, None] * body + values["spot_brightness"] * _SPOT[:, None, None] * spots
        covers = {
            "abnormal_cell": crowded, "cell_number": body, "cell_size": body, "spot_size": spots,
            "spot_brightness": spots, "background_shading": 1 - body,
        }  # fmt: skip
        masks = {name: covered > 0 for name, covered in covers.items()} | {"object": body >= 0.5}
        return Scene(camera(gain * image + _NOISE * noise), masks)

    @staticmethod
    def _covered(canvas: Canvas, cells: "list[_Cell]", values: Mapping[str, float]) -> tuple[Array, Array, Array]:
        """Return how much of each pixel cells, ordinary spots and the abnormal cell's further spots cover."""
        outlines = [cell.outline(values["cell_size"]) for cell in cells]
        body = np.max([canvas.coverage(outline.depth(canvas)) for outline in outlines], axis=0)
        centres = [outline.to_scene(cell.spots[:_FEW]) for outline, cell in zip(outlines, cells, strict=True)]
        ordinary = canvas.discs(np.concatenate(centres), 0.5 * values["spot_size"])
        extra = outlines[0].to_scene(cells[0].spots[_FEW:_MANY])
        crowded = canvas.discs(extra[: len(extra) * int(values["abnormal_cell"])], 0.5 * values["spot_size"])
        return body, ordinary, crowded


@dataclass(frozen=True)
class _Cell:
    """Where a cell lies, how it is turned, and where its spots would be."""

    centre: Array
    angle: float
    waves: Array
    spots: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, place: Array) -> "_Cell":
        return cls(
            centre=place * 0.5 * (_FIELD - 12.0) * 0.95,
            angle=float(rng.uniform(0, np.pi)),
            waves=np.stack([rng.uniform(0, 0.02, 3), rng.uniform(0, 2 * np.pi, 3)], axis=1),
            spots=scattered(rng, _MANY) * 0.75,
        )

    def outline(self, area: float) -> Outline:
        return Outline.of_area(area, 0.85, self.centre, self.angle, self.waves)


def fields(count: int = 300, size: tuple[int, int] = (96, 96), seed: int = 0) -> Phantom:
    """Make images of several cells, treated where one of them is crowded with spots: multiple-instance truth.

    Every cell has two spots, the abnormal one five more; the mask ``"truth"`` holds those five. Number and size of cells,
    size and brightness of spots are drawn evenly and independently; place, orientation, noise and illumination vary and
    tell nothing.

    Parameters
    ----------
    count
        Images. Image i is the same whatever the count.
    size
        Pixels in Y and X; the field is always 48 µm on its shorter side.
    seed
        Of everything that is drawn.

    Returns
    -------
    Phantom
        Its images are float32 ``(3, Y, X)`` with classes ``control`` and ``treated``.

    Raises
    ------
    BadImage
        When the size is under 24 pixels.
    """
    check_size("fields", count, size)
    law = Rule.parse("abnormal_cell", FIELD_FACTORS, 0.0)
    pixel = _FIELD / min(size)
    members = [law.draw(stream(seed, index, _VALUES), FIELD_FACTORS) for index in range(count)]
    return assemble(
        "fields",
        ImageRecord("CYX", ("red", "green", "blue"), spacing=(pixel, pixel), source=f"fields(seed={seed})"),
        (3, *size),
        [Member(law.label(values), values) for values in members],
        dials=FIELD_FACTORS,
        classes=("control", "treated"),
        rule="treated where one cell of the field has seven spots instead of two",
        causes=("abnormal_cell",),
        paint=_Painter(seed, size),
        classify=law.label,
    )
