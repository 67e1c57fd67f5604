"""Maps on disk: one group a method in ``maps.zarr``, one shard a task, so that two tasks never write the same file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from pellucid.errors import BadStudy
from pellucid.images import ImageSet
from pellucid.recipes import Recipe

__all__ = ["MapStore"]

_KINDS = {"T": "time", "Z": "space", "Y": "space", "X": "space"}


def _key(recipe: Recipe) -> str:
    """Name a method's group: readable, safe as a file name, and different for another definition."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '_', str(recipe)).strip('_')}-{recipe.definition[:8]}"


@dataclass(frozen=True)
class MapStore:
    """The raw maps of a study.

    Attributes
    ----------
    root
        ``maps.zarr``.
    shard
        Images a task; the images of task t take the places from ``t * shard``.
    """

    root: Path
    shard: int

    def make(self, recipe: Recipe, count: int, shape: Sequence[int], images: ImageSet) -> None:
        """Make the empty array of a method, ``(count, C, *S)`` float32: one shard a task, one chunk an image.

        Axes and pixel sizes are told in the manner of OME-NGFF 0.5; the first axis, the images, is its own.
        """
        group = zarr.open_group(self.root, mode="a").require_group(_key(recipe))
        axes = _axes(images, shape)
        transformations: list[Any] = [{"type": "scale", "scale": _scale(images, shape)}]
        group.attrs.update(
            {
                "pellucid": {"method": str(recipe), "definition": recipe.definition, "values": "raw, signed"},
                "ome": {
                    "version": "0.5",
                    "multiscales": [
                        {"name": str(recipe), "axes": axes,
                         "datasets": [{"path": "0", "coordinateTransformations": transformations}]}
                    ],
                },
            }
        )  # fmt: skip
        group.create_array(
            "0", shape=(count, *shape), shards=(self.shard, *shape), chunks=(1, *shape), dtype="float32",
            fill_value=float("nan"), dimension_names=[axis["name"] for axis in axes], overwrite=True,
        )  # fmt: skip

    def _array(self, recipe: Recipe) -> Any:
        try:
            return zarr.open_array(self.root / _key(recipe) / "0", mode="r+")
        except FileNotFoundError:
            raise BadStudy(f"{self.root} holds no maps of {recipe}") from None

    def write(self, recipe: Recipe, task: int, rows: Sequence[int], maps: Tensor) -> None:
        """Write one task's maps: exactly one shard; its images without a map stay NaN."""
        array = self._array(recipe)
        start, stop = task * self.shard, min((task + 1) * self.shard, array.shape[0])
        block = np.full((stop - start, *array.shape[1:]), np.nan, dtype=np.float32)
        block[list(rows)] = maps.float().numpy()
        array[start:stop] = block

    def read(self, recipe: Recipe, places: Sequence[int]) -> Tensor:
        """Return the maps at these places ``(N, C, *S)``; NaN where the method failed."""
        array = self._array(recipe)
        maps = torch.empty(len(places), *array.shape[1:])
        for row, place in enumerate(places):
            maps[row] = torch.from_numpy(np.asarray(array[place]))
        return maps


def _axes(images: ImageSet, shape: Sequence[int]) -> list[dict[str, str]]:
    """Name the axes; a layer of another rank than the images has axes that are no space."""
    spatial = images.record.spatial
    if len(shape) != len(images.shape):
        named = [{"name": f"axis{place}", "type": "layer"} for place in range(1, len(shape))]
    else:
        named = [{"name": letter.lower(), "type": _KINDS[letter]} for letter in spatial]
        if images.record.spacing is not None:
            units = {"time": "second", "space": "micrometer"}
            named = [axis | {"unit": units[axis["type"]]} for axis in named]
    return [{"name": "image", "type": "image"}, {"name": "c", "type": "channel"}, *named]


def _scale(images: ImageSet, shape: Sequence[int]) -> list[float]:
    """Return the size of a map's element: a layer's covers several pixels."""
    if len(shape) != len(images.shape):
        return [1.0] * (len(shape) + 1)
    spacing = images.record.spacing or (1.0,) * len(shape[1:])
    sizes = [
        (step if step == step else 1.0) * whole / part  # NaN, an unknown size, differs from itself
        for step, whole, part in zip(spacing, images.shape[1:], shape[1:], strict=True)
    ]
    return [1.0, 1.0, *sizes]
