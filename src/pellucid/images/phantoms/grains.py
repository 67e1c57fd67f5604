"""Grain kernels: a lit ellipsoid with a crease, healthy, with a pink patch, or with its skin abraded."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageRecord
from pellucid.images.phantoms.phantom import Member, Phantom, assemble, check_size, group_of, split_of, stream
from pellucid.images.phantoms.rule import Factor
from pellucid.images.phantoms.scene import Array, Canvas, Outline, Scene, camera
from pellucid.images.phantoms.shortcut import TAG, Shortcut

__all__ = ["GRAIN_FACTORS", "grains"]

GRAIN_FACTORS = (
    Factor("kernel_size", "mm²", 10.0, 16.0, "area of the kernel"),
    Factor("kernel_colour", "1", 0.0, 1.0, "0 pale wheat, 1 red-brown"),
    Factor("crease_depth", "1", 0.1, 0.5, "share of light that the crease takes"),
    Factor("illumination", "1", 0.8, 1.15, "strength of the light"),
    Factor("fusarium_area", "mm²", 0.0, 2.5, "area of the pink patch, 0 where there is none"),
    Factor("skinned_area", "mm²", 0.0, 2.5, "area of the abraded skin, 0 where there is none"),
)

_NUISANCES = GRAIN_FACTORS[:4]
_SMALLEST_LESION = 0.9
_FIELD = 8.0
_RATIO = 0.5
_CREASE = 0.28
_NOISE = 0.012
_BACKGROUND = np.array([0.05, 0.055, 0.065])
_PALE, _BROWN = np.array([0.78, 0.60, 0.36]), np.array([0.55, 0.36, 0.20])
_INSIDE = {"fusarium_area": np.array([0.86, 0.50, 0.52]), "skinned_area": np.array([0.93, 0.87, 0.72])}
_OPACITY = {"fusarium_area": 0.7, "skinned_area": 0.85}
_DEFECTS = {
    "fusarium": ("fusarium_area",),
    "skinned": ("skinned_area",),
    "both": ("fusarium_area", "skinned_area"),
}
_VALUES, _NUISANCE, _SLIDE, _TAGGED = range(4, 8)


@dataclass(frozen=True)
class _Nuisance:
    """What varies from kernel to kernel and tells nothing."""

    centre: Array
    angle: float
    waves: Array
    light: Array
    lesions: Array
    lesion_waves: Array
    grain: Array
    noise: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> "_Nuisance":
        turn = rng.uniform(0, 2 * np.pi)
        return cls(
            centre=rng.uniform(-0.25, 0.25, 2),
            angle=float(rng.uniform(0, np.pi)),
            waves=np.stack([rng.uniform(0, 0.02, 3), rng.uniform(0, 2 * np.pi, 3)], axis=1),
            light=0.5 * np.array([np.sin(turn), np.cos(turn)]),
            lesions=np.stack([rng.uniform(0, 1, 2), rng.uniform(0, 2 * np.pi, 2)], axis=1),
            lesion_waves=np.stack([rng.uniform(0, 0.06, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))], axis=2),
            grain=rng.standard_normal(size),
            noise=rng.standard_normal((3, *size)),
        )


@dataclass(frozen=True)
class _Painter:
    """Renders kernel `index` with given factors; the same index always has the same nuisances."""

    seed: int
    size: tuple[int, int]
    shortcut: Shortcut | None

    def __call__(self, index: int, values: Mapping[str, float]) -> Scene:
        canvas = Canvas.of_field(self.size, _FIELD)
        nuisance = _Nuisance.draw(stream(self.seed, index, _NUISANCE), self.size)
        gain = stream(self.seed, group_of(index), _SLIDE).uniform(0.97, 1.03, (3, 1, 1))
        kernel = Outline.of_area(values["kernel_size"], _RATIO, nuisance.centre, nuisance.angle, nuisance.waves)
        body = canvas.coverage(kernel.depth(canvas))
        crease = body * np.clip(1 - np.abs(kernel.across(canvas)) / _CREASE, 0.0, 1.0)
        lesions = {name: body * _lesion(canvas, kernel, nuisance, place, values) for place, name in enumerate(_INSIDE)}
        surface = _surface(canvas, crease, lesions, nuisance, values)
        light = values["illumination"] * _light(canvas, kernel, nuisance)
        touched = {"crease_depth": crease, **lesions}
        ground = _BACKGROUND[:, None, None]
        if self.shortcut is not None:
            touched["shortcut"] = self.shortcut.coverage(canvas) * (body < 0.5) * values["shortcut"]
            ground = ground + self.shortcut.contrast * touched["shortcut"]
        image = ground * (1 - body) + surface * light * body
        parts = dict.fromkeys((dial.name for dial in GRAIN_FACTORS), body) | touched
        masks = {name: covered > 0 for name, covered in parts.items()}
        return Scene(camera(gain * image + _NOISE * nuisance.noise), masks | {"object": body >= 0.5})


def _lesion(canvas: Canvas, kernel: Outline, nuisance: _Nuisance, place: int, values: Mapping[str, float]) -> Array:
    area = values[tuple(_INSIDE)[place]]
    if area == 0:
        return np.zeros(canvas.size)
    reach = max(0.0, 0.9 - 1.2 * np.sqrt(area / values["kernel_size"]))
    share, turn = nuisance.lesions[place]
    centre = kernel.to_scene(reach * share * np.array([[np.sin(turn), np.cos(turn)]]))[0]
    patch = Outline.of_area(area, _RATIO, centre, kernel.angle, nuisance.lesion_waves[place])
    return canvas.coverage(patch.depth(canvas))


def _surface(
    canvas: Canvas,
    crease: Array,
    lesions: Mapping[str, Array],
    nuisance: _Nuisance,
    values: Mapping[str, float],
) -> Array:
    """Reflected colour of the kernel before light: skin, crease, then whatever lies open."""
    grain = canvas.grain(nuisance.grain, 0.3)
    skin = _PALE + values["kernel_colour"] * (_BROWN - _PALE)
    surface = skin[:, None, None] * (1 + 0.03 * grain) * (1 - values["crease_depth"] * crease)
    for name, covered in lesions.items():
        rough = _INSIDE[name][:, None, None] * (1 + 0.08 * grain)
        surface = surface + _OPACITY[name] * covered * (rough - surface)
    return np.asarray(surface)


def _light(canvas: Canvas, kernel: Outline, nuisance: _Nuisance) -> Array:
    plane, facing = kernel.dome(canvas)
    towards = np.sqrt(1 - (nuisance.light**2).sum())
    lit = np.tensordot(nuisance.light, plane, axes=1) + towards * facing
    return np.asarray(0.35 + 0.65 * np.clip(lit, 0.0, 1.0))


def grains(
    count: int = 300,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    *,
    defect: str = "both",
    shortcut: Shortcut | None = None,
) -> Phantom:
    """Make images of one grain kernel each, healthy or with a defect whose exact pixels are known.

    Kernel size, colour, crease depth and illumination are drawn evenly, independently of each other and of the
    defect. A pink patch stands for fusarium, a pale abraded patch for lost skin; the mask ``"truth"`` holds it and is
    empty for a healthy kernel.

    Parameters
    ----------
    count
        Images. Image i is the same whatever the count.
    size
        Pixels in Y and X; the field is always 8 mm on its shorter side.
    seed
        Of everything that is drawn.
    defect
        ``"fusarium"``, ``"skinned"`` (two classes each, with ``healthy``) or ``"both"`` (three classes).
    shortcut
        A tag beside the kernel that goes with the first defect, or None.

    Returns
    -------
    Phantom
        Its images are float32 ``(3, Y, X)``.

    Raises
    ------
    BadImage
        When the size is under 24 pixels or there is no such defect.
    """
    check_size("grains", count, size)
    if defect not in _DEFECTS:
        raise BadImage(f"there is no defect {defect!r}; there are {', '.join(_DEFECTS)}")
    causes = _DEFECTS[defect]
    tag = None if shortcut is None else shortcut.settled(seed)
    classes = ("healthy", *(cause.removesuffix("_area") for cause in causes))
    pixel = 1000 * _FIELD / min(size)
    return assemble(
        "grains",
        ImageRecord("CYX", ("red", "green", "blue"), spacing=(pixel, pixel), source=f"grains(seed={seed})"),
        (3, *size),
        [_member(seed, index, causes, tag) for index in range(count)],
        dials=GRAIN_FACTORS if tag is None else (*GRAIN_FACTORS, TAG),
        classes=classes,
        rule="; ".join(f"{name} where {cause} > 0 mm²" for name, cause in zip(classes[1:], causes, strict=True)),
        causes=causes,
        paint=_Painter(seed, size, tag),
        classify=lambda values: _label(values, causes),
    )


def _label(values: Mapping[str, float], causes: tuple[str, ...]) -> int:
    """Class 0 without a lesion, else the class of the largest one."""
    areas = [0.0, *(values[cause] for cause in causes)]
    return int(np.argmax(areas))


def _member(seed: int, index: int, causes: tuple[str, ...], tag: Shortcut | None) -> Member:
    rng = stream(seed, index, _VALUES)
    values = {dial.name: dial.value(rng.random()) for dial in _NUISANCES} | dict.fromkeys(_INSIDE, 0.0)
    label = int(rng.integers(len(causes) + 1))
    area = rng.uniform(_SMALLEST_LESION, GRAIN_FACTORS[-1].high)
    if label:
        values[causes[label - 1]] = float(area)
    if tag is not None:
        values["shortcut"] = float(tag.present(stream(seed, index, _TAGGED), int(label == 1), split_of(index)))
    return Member(label, values)
