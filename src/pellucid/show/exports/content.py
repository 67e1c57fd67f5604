"""What an export writes: images, maps on the image's grid, masks and numbers, one image at a time."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pellucid.errors import BadImage, ShapeError
from pellucid.hashing import hash_key
from pellucid.images.imageset import ImageRecord
from pellucid.show.view import SHOWN, on_image_grid
from pellucid.study import Study

__all__ = ["STAMP", "Content"]

Array = NDArray[Any]

STAMP = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
"""Said by every object that could be taken for a clinical one."""


@dataclass(frozen=True)
class Content:
    """The chosen part of a study.

    Attributes
    ----------
    study
        The study.
    ids
        The images.
    methods
        The methods, in their canonical text.
    """

    study: Study
    ids: tuple[str, ...]
    methods: tuple[str, ...]

    @property
    def record(self) -> ImageRecord:
        """What holds for all images."""
        return self.study.images.record

    @cached_property
    def stems(self) -> dict[str, str]:
        """A name for the files of each image: its id without what file systems refuse, told apart where that is needed."""
        plain = {image: re.sub(r"[^A-Za-z0-9.-]+", "_", image).strip("_.") or "image" for image in self.ids}
        often = [stem.lower() for stem in plain.values()]
        return {
            image: stem if often.count(stem.lower()) == 1 else f"{stem}-{hash_key(image).hex()[:8]}"
            for image, stem in plain.items()
        }

    def pixels(self, image: str) -> Array:
        """Return one image, float32 ``(C, *S)``."""
        return self.study.images.tensor([image])[0].numpy()

    def maps(self, image: str) -> dict[str, Array]:
        """Return the signed maps of one image on its grid, float32 ``(*S)``; a method that failed or has no place is absent."""
        x, found = self.study.images.tensor([image]), {}
        for method in self.methods:
            try:
                values = on_image_grid(self.study.maps(method, [image]), x)[0]
            except ShapeError:  # tokens have no place in the image
                continue
            if np.isfinite(values).all():
                found[method] = values.astype(np.float32)
        return found

    def masks(self, image: str) -> dict[str, Array]:
        """Return the masks that one image has, int32 ``(*S)``; one that cannot be read is among the study's failures."""
        found = {}
        for name in self.study.images.masks:
            try:
                mask = self.study.images.mask(name, [image])[0]
            except BadImage:
                continue
            if mask is not None:
                found[name] = mask.numpy().astype(np.int32)
        return found

    @cached_property
    def calls(self) -> dict[str, dict[str, Any]]:
        """What the model said of each image: label and predicted as class names, confidence."""
        names = self.study.model.classes or self.study.images.classes

        def named(number: Any) -> str:
            return "" if number is None else names[number] if number < len(names) else str(number)

        return {
            row["image"]: {"label": named(row["label"]), "predicted": named(row["predicted"]),
                           "confidence": row["confidence"], "outcome": _outcome(row)}
            for row in self.study.called(self.ids).to_pylist()
        }  # fmt: skip

    @cached_property
    def scores(self) -> pa.Table:
        """Every score of the chosen images and methods."""
        table = self.study.scores.table
        keep = pc.and_(pc.is_in(table["image"], pa.array(self.ids)), pc.is_in(table["method"], pa.array(self.methods)))
        return table.filter(keep)

    def source(self, image: str) -> Path | None:
        """Return the file or folder that an image was read from, or None where it was drawn or cannot be found."""
        home = self.study.config.images.path
        if home is None or home.is_file() or home.name == image:  # one file, or the slices of one volume
            return home
        return home / image if (home / image).exists() else None

    @cached_property
    def about(self) -> dict[str, Any]:
        """What every export says of its maps."""
        return {
            "study": self.study.path.resolve().name,
            "values": "signed relevance in the method's own unit, neither clipped nor normalised",
            "steps": list(SHOWN),
            "target": str(self.study.config.explain.target),
            "methods": list(self.methods),
            "images": len(self.ids),
            "model": self.study.settings["provenance"].get("model", ""),
            "pellucid": self.study.settings["provenance"]["versions"]["pellucid"],
            "stamp": STAMP,
        }


def _outcome(row: dict[str, Any]) -> str:
    return "" if row["label"] is None else "right" if row["label"] == row["predicted"] else "wrong"
