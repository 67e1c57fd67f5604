"""Cells with spots: one cell a field, nine independent factors; colour, a tag, decoys and an instrument's disturbances if asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageRecord
from pellucid.images.phantoms.decoys import DECOY, Decoys
from pellucid.images.phantoms.phantom import (
    Member,
    Phantom,
    assemble,
    check_size,
    group_of,
    split_of,
    stream,
)
from pellucid.images.phantoms.rule import Factor, Rule
from pellucid.images.phantoms.scene import Array, Canvas, Outline, Scene, camera, scattered
from pellucid.images.phantoms.shortcut import TAG, Shortcut
from pellucid.images.phantoms.suppressors import Suppressors

__all__ = ["CELL_FACTORS", "cells"]

CELL_FACTORS = (
    Factor("cell_size", "µm²", 90.0, 190.0, "area of the cell"),
    Factor("eccentricity", "1", 0.2, 0.75, "of the cell's outline: 0 is round"),
    Factor("nucleus_size", "µm²", 15.0, 35.0, "area of the nucleus"),
    Factor("spot_number", "1", 1, 10, "bright spots in the cell", whole=True),
    Factor("spot_size", "µm", 1.2, 2.0, "diameter of a spot"),
    Factor("spot_brightness", "1", 0.25, 0.55, "of a spot over the cytoplasm, display range 1"),
    Factor("texture_grain", "µm", 0.6, 2.0, "grain diameter of the cytoplasm"),
    Factor("membrane_ring", "1", 0.05, 0.35, "brightness of the rim, display range 1"),
    Factor("background_shading", "1", 0.0, 0.2, "slope of the background over the field, display range 1"),
)

_FIELD = 32.0
_RING = 0.9
_NOISE = 0.02
_BACKGROUND = np.array([0.14, 0.14, 0.16])
_CYTOPLASM = np.array([0.36, 0.40, 0.30])
_TEXTURE = np.array([0.04, 0.045, 0.035])
_NUCLEUS = np.array([0.22, 0.28, 0.60])
_RIM = np.array([1.0, 0.6, 0.5])
_SPOT = np.array([1.0, 0.9, 0.3])
_RED = np.array([1.0, 0.0, -1.0])
_VALUES, _NUISANCE, _SLIDE, _TAGGED, _EXTRA, _DECOYS, _INSTRUMENT = range(7)


@dataclass(frozen=True)
class _Nuisance:
    """What varies from image to image and tells nothing."""

    centre: Array
    angle: float
    waves: Array
    nucleus: Array
    spots: Array
    slope: Array
    noise: Array
    grain: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> "_Nuisance":
        turn = rng.uniform(0, 2 * np.pi)
        return cls(
            centre=rng.uniform(-1.0, 1.0, 2),
            angle=float(rng.uniform(0, np.pi)),
            waves=np.stack([rng.uniform(0, 0.02, 3), rng.uniform(0, 2 * np.pi, 3)], axis=1),
            nucleus=rng.uniform(-0.08, 0.08, 2),
            spots=scattered(rng, 10) * 0.78,
            slope=np.array([np.sin(turn), np.cos(turn)]),
            noise=rng.standard_normal((3, *size)),
            grain=rng.standard_normal(size),
        )


@dataclass(frozen=True)
class _Painter:
    """Renders cell `index` with given factors; the same index always has the same nuisances."""

    seed: int
    size: tuple[int, int]
    shortcut: Shortcut | None
    decoys: Decoys | None
    suppressors: Suppressors | None

    def __call__(self, index: int, values: Mapping[str, float]) -> Scene:
        canvas = Canvas.of_field(self.size, _FIELD)
        nuisance = _Nuisance.draw(stream(self.seed, index, _NUISANCE), self.size)
        slide = stream(self.seed, group_of(index), _SLIDE)
        gain, haze = slide.uniform(0.96, 1.04, (3, 1, 1)), slide.uniform(-0.02, 0.02)
        cover = _coverages(canvas, values, nuisance)
        ramp = 0.5 * values["background_shading"] * canvas.ramp(nuisance.slope)
        image = _BACKGROUND[:, None, None] + haze + ramp
        if self.shortcut is not None:
            cover["shortcut"] = self.shortcut.coverage(canvas) * values["shortcut"]
            image = image + self.shortcut.contrast * cover["shortcut"]
        image = _add_cell(image, cover, canvas.grain(nuisance.grain, values["texture_grain"]), values)
        if "cell_colour" in values:
            cover["cell_colour"] = cover["cell_size"]
            image = image + values["cell_colour"] * _RED[:, None, None] * cover["cell_colour"]
        if self.decoys is not None:
            places = self.decoys.places(stream(self.seed, index, _DECOYS), nuisance.spots / 0.78) * 0.78
            centres = _outline(values, nuisance).to_scene(places[: int(values["decoy_number"])])
            cover["decoy_number"] = canvas.discs(centres, 0.5 * self.decoys.diameter)
            image = image + self.decoys.painted(cover["decoy_number"])
        if self.suppressors is not None:
            image = self.suppressors.applied(image, values, canvas, stream(self.seed, index, _INSTRUMENT))
            cover |= {dial.name: np.ones(self.size) for dial in self.suppressors.dials}
        masks = {name: covered > 0 for name, covered in cover.items()} | {"object": cover["cell_size"] >= 0.5}
        return Scene(camera(gain * image + _NOISE * nuisance.noise), masks)


def _outline(values: Mapping[str, float], nuisance: _Nuisance) -> Outline:
    ratio = np.sqrt(1 - values["eccentricity"] ** 2)
    return Outline.of_area(values["cell_size"], ratio, nuisance.centre, nuisance.angle, nuisance.waves)


def _coverages(canvas: Canvas, values: Mapping[str, float], nuisance: _Nuisance) -> dict[str, Array]:
    """How much of each pixel carries each factor."""
    cell = _outline(values, nuisance)
    middle = cell.to_scene(nuisance.nucleus[None])[0]
    nucleus = Outline.of_area(values["nucleus_size"], 0.9, middle, nuisance.angle, nuisance.waves[::-1])
    depth = cell.depth(canvas)
    body = canvas.coverage(depth)
    core = canvas.coverage(nucleus.depth(canvas))
    centres = cell.to_scene(nuisance.spots[: int(values["spot_number"])])
    spots = canvas.discs(centres, 0.5 * values["spot_size"])
    return {
        "cell_size": body,
        "eccentricity": body,
        "nucleus_size": core,
        "spot_number": spots,
        "spot_size": spots,
        "spot_brightness": spots,
        "texture_grain": body * (1 - core),
        "membrane_ring": body - canvas.coverage(depth - _RING),
        "background_shading": 1 - body,
    }


def _add_cell(background: Array, cover: Mapping[str, Array], grain: Array, values: Mapping[str, float]) -> Array:
    def tint(colour: Array, field: Array) -> Array:
        return np.asarray(colour[:, None, None] * field)

    body, core = cover["cell_size"], cover["nucleus_size"]
    image = background * (1 - body) + tint(_CYTOPLASM, body)
    image = image + tint(_TEXTURE, cover["texture_grain"] * grain)
    image = image + tint(_NUCLEUS - _CYTOPLASM, core)
    image = image + tint(_RIM, values["membrane_ring"] * cover["membrane_ring"])
    return image + tint(_SPOT, values["spot_brightness"] * cover["spot_number"])


def cells(
    count: int = 300,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    *,
    rule: str = "spot_number",
    colour: float = 0.0,
    shortcut: Shortcut | None = None,
    decoys: Decoys | None = None,
    suppressors: Suppressors | None = None,
    levels: int = 2,
    margin: float = 0.1,
) -> Phantom:
    """Make images of one cell each, whose label follows from chosen factors and nothing else.

    The nine of `CELL_FACTORS` are drawn evenly and independently of each other (a rule that adds factors ties
    those it adds). Place, orientation, outline, noise and the slide's illumination vary and tell nothing.

    Parameters
    ----------
    count
        Images. Image i is the same whatever the count.
    size
        Pixels in Y and X; the field is always 32 µm on its shorter side.
    seed
        Of everything that is drawn.
    rule
        The factors that decide the label, cut so that the classes are balanced: ``"spot_number"`` (a local
        truth), ``"cell_size"`` (a global one), several joined by one of ``and``, ``or``, ``xor``, ``+``, or a
        conditional one, ``"spot_number if nucleus_size else membrane_ring"``.
    colour
        Largest shift of the cell's colour from blue to red, display range 1: a tenth factor ``"cell_colour"``; 0: none.
    shortcut
        A tag beside the cell that goes with the label, or None.
    decoys
        Spots of equal contrast that decide nothing, or None.
    suppressors
        Illumination, stain and correlated noise, or None.
    levels
        Classes; more than two cut the range of the one deciding factor into as many doses.
    margin
        Share of a deciding factor's range on each side of its threshold that is never drawn.

    Returns
    -------
    Phantom
        Its images are float32 ``(3, Y, X)`` with classes ``control`` and ``treated``, or ``dose_0``, ``dose_1``, ...

    Raises
    ------
    BadImage
        When the size is under 24 pixels or the rule cannot be read.
    """
    check_size("cells", count, size)
    tag = None if shortcut is None else shortcut.settled(seed)
    factors = (*CELL_FACTORS, *((_coloured(colour),) if colour else ()))
    law = Rule.parse(rule, factors, margin, levels)
    extra = (*((DECOY,) if decoys else ()), *(suppressors.dials if suppressors else ()))
    pixel = _FIELD / min(size)
    two = levels == 2
    return assemble(
        "cells",
        ImageRecord("CYX", ("red", "green", "blue"), spacing=(pixel, pixel), source=f"cells(seed={seed})"),
        (3, *size),
        [_member(seed, index, law, factors, tag, extra) for index in range(count)],
        dials=(*factors, *(() if tag is None else (TAG,)), *extra),
        classes=("control", "treated") if two else tuple(f"dose_{level}" for level in range(levels)),
        rule=f"treated where {law}" if two else f"dose: {law}",
        causes=tuple(factor.name for factor in law.factors),
        paint=_Painter(seed, size, tag, decoys, suppressors),
        classify=law.label,
    )


def _coloured(colour: float) -> Factor:
    if not 0 < colour < 0.5:
        raise BadImage(
            f"colour={colour:g} cannot be painted: it shifts the cell by less than half of the display range"
        )
    return Factor("cell_colour", "1", -colour, colour, "shift of the cell from blue to red, display range 1")


def _member(
    seed: int, index: int, law: Rule, factors: tuple[Factor, ...], tag: Shortcut | None, extra: tuple[Factor, ...]
) -> Member:
    values = law.draw(stream(seed, index, _VALUES), factors)
    label = law.label(values)
    if tag is not None:
        values["shortcut"] = float(tag.present(stream(seed, index, _TAGGED), label, split_of(index)))
    shares = stream(seed, index, _EXTRA).random(len(extra))
    values |= {dial.name: dial.value(share) for dial, share in zip(extra, shares, strict=True)}
    return Member(label, values)
