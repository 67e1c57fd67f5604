"""Phenotypes of whole images, one number each: what is measured of every image, real or generated, in the same way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pellucid.errors import BadImage, BadRecipe
from pellucid.images.imageset import ImageRecord
from pellucid.measure.measuring import phenotypes
from pellucid.measure.outlining import otsu
from pellucid.measure.phenotype import Panel, columns

__all__ = ["OBJECTS", "Profiler"]

OBJECTS = "Count_Objects"
"""Column of the number of objects in the image."""

Array = NDArray[np.float64]

_OTSU = otsu()


@dataclass(frozen=True, kw_only=True)
class Profiler:
    """Measures images: objects are outlined anew in each, and the phenotypes of several objects are averaged.

    Attributes
    ----------
    record
        Of the images: channels, pixel size, display range.
    names
        Phenotypes to measure, by column, of the core or the full panel; default: those of the core panel and the number of
        objects.
    outline
        From an image ``(C, *S)`` to integer labels ``(*S)``.
    spot_diameter, spot_contrast
        See `phenotypes`.
    """

    record: ImageRecord
    names: tuple[str, ...] = ()
    outline: Callable[[Tensor], Tensor] = _OTSU
    spot_diameter: float | None = None
    spot_contrast: float = 0.08

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names) or (*columns(self.record), OBJECTS))
        known = (*columns(self.record, "full"), OBJECTS)
        for name in self.names:
            if name not in known:
                raise BadRecipe(f"there is no phenotype {name!r} of these images; there are {', '.join(known)}")

    @property
    def panel(self) -> Panel:
        """The smallest panel that has all names."""
        return "core" if set(self.names) <= {*columns(self.record), OBJECTS} else "full"

    @property
    def units(self) -> dict[str, str]:
        """The unit of each phenotype."""
        units = {name: unit for name, (_, unit) in columns(self.record, "full").items()} | {OBJECTS: "1"}
        return {name: units[name] for name in self.names}

    def __call__(self, images: Tensor | Sequence[Tensor], *, progress: bool = False) -> Array:
        """Return phenotypes ``(N, P)`` of images ``(N, C, *S)``; NaN where an image has no object or no such number."""
        turns = track(images, "measuring images", total=len(images), disable=not progress, transient=True)
        rows = [self._measured(image) for image in turns]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))

    def _measured(self, image: Tensor) -> list[float]:
        try:
            labels = self.outline(image)
        except BadImage:
            return [np.nan] * len(self.names)
        table = phenotypes(
            image, labels, self.record, panel=self.panel, spot_diameter=self.spot_diameter,
            spot_contrast=self.spot_contrast,
        )  # fmt: skip
        if not table.num_rows:
            return [0.0 if name == OBJECTS else np.nan for name in self.names]
        means = {name: _mean(table[name].to_pylist()) for name in self.names if name != OBJECTS}
        return [float(table.num_rows) if name == OBJECTS else means[name] for name in self.names]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else np.nan
