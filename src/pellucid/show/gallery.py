"""The gallery: every method's map of an image side by side, with the model's call, the masks and the numbers."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution import METHODS
from pellucid.errors import BadImage, ShapeError
from pellucid.show.charts import short
from pellucid.show.colour import full_colour, signed_bytes
from pellucid.show.figure import palette_of
from pellucid.show.picture import ScaleBar, address, line_path, outline_path, reduced, rgb, scale_bar
from pellucid.show.repeated import repeat_numbers, setting_numbers
from pellucid.show.view import View, on_image_grid, strongest_view
from pellucid.study import Study

__all__ = ["Album", "Case", "Outline", "Tile", "plane_of", "signed_picture"]

Array = NDArray[np.floating[Any]]

EDGE = 144
"""Longest side of a picture, in pixels; less where many methods would make the page heavy."""

_PIXELS = 5_500_000
"""Pixels of all maps together: at most about 8 MB of page."""

_NUMBERS = {
    "relevance_mass": "mass in mask",
    "relevance_rank": "top pixels in mask",
    "localisation_auc": "localisation AUC",
    "insertion": "insertion",
    "deletion": "deletion",
    "faithfulness_correlation": "faithfulness corr.",
}
"""The number printed beside each map: of the first of these metrics that the study holds."""


@dataclass(frozen=True)
class Outline:
    """The rim of a mask, as an SVG path."""

    name: str
    path: str


@dataclass(frozen=True)
class Tile:
    """One method's map of one image, ready for the page; without `src` the sentence says why there is none."""

    method: str
    label: str
    src: str = ""
    scale: float = 0.0
    shared: float = 0.0
    number: str = ""
    sentence: str = ""
    steps: str = ""
    palette: str = "signed"


@dataclass(frozen=True)
class Case:
    """One image with the model's call, its masks and every method's map."""

    id: str
    truth: str
    called: str
    confidence: float
    right: bool | None
    src: str
    lines: tuple[str, ...]
    width: int
    height: int
    bar: ScaleBar
    note: str
    outlines: tuple[Outline, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Album:
    """Pictures and maps of the images that a report shows; all are read once.

    Attributes
    ----------
    study
        The study.
    ids
        The images shown.
    """

    study: Study
    ids: tuple[str, ...]

    @cached_property
    def images(self) -> Tensor:
        """Images ``(N, C, *S)``."""
        return self.study.images.tensor(self.ids)

    @cached_property
    def raw(self) -> dict[str, Tensor]:
        """Raw maps by method; NaN where the method failed."""
        return {method: self.study.maps(method, self.ids) for method in self.study.methods}

    @cached_property
    def shown(self) -> dict[str, Array | str]:
        """Maps ``(N, *S)`` on the image's grid by method, or the sentence that says why there is none."""
        return {method: _shown(maps, self.images) for method, maps in self.raw.items()}

    @cached_property
    def edge(self) -> int:
        """Longest side of a picture."""
        return min(EDGE, int(sqrt(_PIXELS / max(1, len(self.ids) * len(self.study.methods)))))

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], str]:
        known = {metric.split("(", maxsplit=1)[0]: metric for metric in self.study.metrics}
        name = next((name for name in _NUMBERS if name in known), None)
        if name is None:
            return {}
        table = self.study.ranked_scores.table
        table = table.filter(pc.equal(table["metric"], known[name]))
        means = table.group_by("method").aggregate([("value", "mean")]).to_pylist()
        mean = {row["method"]: row["value_mean"] for row in means}
        return {
            (row["image"], row["method"]): _number(_NUMBERS[name], row, mean[row["method"]])
            for row in table.select(["image", "method", "value", "chance", "reason"]).to_pylist()
        }

    @cached_property
    def _repeats(self) -> dict[tuple[str, str], str]:
        return repeat_numbers(self.study.repeats, self.study.nets)

    def _told(self, image: str, method: str) -> str:
        """Return the numbers beside a map: its score, and how far other nets and other settings share it."""
        found = (self._numbers.get((image, method)), self._repeats.get((image, method)), self._settings.get(method))
        return "; ".join(number for number in found if number)

    @cached_property
    def _settings(self) -> dict[str, str]:
        return setting_numbers(self.study.tables.get("settings", pa.table({})))

    @cached_property
    def _calls(self) -> dict[str, dict[str, object]]:
        return {row["image"]: row for row in self.study.called(self.ids).to_pylist()}

    def case(self, image: str) -> Case:
        """Return one image with everything that stands beside it."""
        row, study = self.ids.index(image), self.study
        maps = {method: maps[row] for method, maps in self.shown.items() if not isinstance(maps, str)}
        sound = [one for one in maps.values() if np.isfinite(one).all()]
        spatial = study.images.record.spatial
        view = strongest_view(sound, spatial)
        pixels, line = self.images[row], len(spatial) == 1
        height, width = (1, pixels.shape[-1]) if line else tuple(view.plane(pixels).shape[-2:])
        call = self._calls[image]
        return Case(
            id=image, truth=self._class(call["label"]), called=self._class(call["predicted"]),
            confidence=float(str(call["confidence"])),
            right=None if call["label"] is None else call["label"] == call["predicted"],
            src="" if line else _picture(view.plane(pixels), study.images.record.display_range, self.edge),
            lines=_lines(pixels) if line else (), width=width, height=height,
            bar=scale_bar(study.images.record, width), note=view.note,
            outlines=self._outlines(image, view),
            tiles=tuple(self.tile(method, image, view) for method in study.methods),
        )  # fmt: skip

    def _class(self, number: object) -> str:
        names = self.study.model.classes or self.study.images.classes
        if number is None:
            return "unknown"
        return names[int(str(number))] if int(str(number)) < len(names) else str(number)

    def _outlines(self, image: str, view: View) -> tuple[Outline, ...]:
        found = []
        for name in self.study.truth:
            try:
                mask = self.study.images.mask(name, [image])[0]
            except BadImage:  # stands among the failures of the study already
                continue
            if mask is not None:
                plane = mask[None] if mask.ndim == 1 else view.plane(mask)
                found.append(Outline(name, outline_path(plane)))
        return tuple(outline for outline in found if outline.path)

    @cached_property
    def _shared(self) -> dict[str, float]:
        return {method: full_colour(maps[np.isfinite(maps)]) if not isinstance(maps, str) else 0.0
                for method, maps in self.shown.items()}  # fmt: skip

    def tile(self, method: str, image: str, view: View) -> Tile:
        """Return one method's map of one image."""
        maps, label = self.shown[method], short(method)
        if isinstance(maps, str):
            return Tile(method, label, sentence=maps)
        values = maps[self.ids.index(image)]
        if not np.isfinite(values).all():
            return Tile(method, label, sentence="no map: the method failed on this image, see Failures")
        scale = full_colour(values)
        return Tile(
            method, label, signed_picture(plane_of(values, view), scale, self.edge), scale, self._shared[method],
            self._told(image, method), palette=palette_of(METHODS.parse(method)),
        )  # fmt: skip


def signed_picture(plane: Array, scale: float, edge: int) -> str:
    """Return a plane as the address of an 8-bit signed grey picture in which `scale` has full colour."""
    return address(signed_bytes(reduced(plane, edge), scale))


def plane_of(values: Array, view: View) -> Array:
    """Return the shown plane ``(Y, X)`` of a map; a line is a plane of one row."""
    if values.ndim == 1:
        return values[None]
    return np.asarray(values[view.index]) if view.index else values


def _shown(maps: Tensor, images: Tensor) -> Array | str:
    try:
        return on_image_grid(maps, images)
    except ShapeError as error:
        return str(error)


def _number(told: str, row: dict[str, Any], mean: float) -> str:
    """Say a score beside what chance and the mean over all explained images are: one image proves nothing."""
    if row["value"] is None:
        return str(row["reason"])
    chance = "" if row["chance"] is None else f"chance {row['chance']:.3f}, "
    return f"{told} {row['value']:.3f} ({chance}all images {mean:.3f})"


def _picture(plane: Tensor, display_range: tuple[float, float], edge: int) -> str:
    small = max(plane.shape[-2:]) <= edge
    return address(rgb(plane, display_range), form="PNG" if small else "JPEG", edge=2 * edge)


def _lines(signal: Tensor) -> tuple[str, ...]:
    low, high = float(signal.min()), float(signal.max())
    return tuple(line_path(channel.double().numpy(), low, high) for channel in signal)
