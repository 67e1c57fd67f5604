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
from torch.nn.functional import adaptive_avg_pool1d

from pellucid.errors import BadStudy
from pellucid.images import ImageSet
from pellucid.recipes import Recipe

__all__ = ["MapStore", "reduced", "reduced_shape"]

_FULL, _REDUCED = "0", "reduced"

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
    whole
        Images, from the first, whose maps are kept in full: whole shards, or all.
    reduced
        Longest side of the small maps that are kept of every image; 0 for none.
    """

    root: Path
    shard: int
    whole: int
    reduced: int = 0

    def make(self, recipe: Recipe, count: int, shape: Sequence[int], images: ImageSet) -> None:
        """Make the empty arrays of a method, float32: one shard a task, one chunk an image.

        ``0`` holds the maps in full ``(whole, C, *S)``, ``reduced`` the small ones of all ``(count, 1, *S)``.

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
        names = [axis["name"] for axis in axes]
        self._create(group, _FULL, (self.whole, *shape), names)
        if self.reduced:
            self._create(group, _REDUCED, (count, 1, *reduced_shape(shape[1:], self.reduced)), names)

    def _create(self, group: Any, name: str, shape: Sequence[int], names: list[str]) -> None:
        group.create_array(
            name, shape=shape, shards=(self.shard, *shape[1:]), chunks=(1, *shape[1:]), dtype="float32", fill_value=float("nan"),
            dimension_names=names, overwrite=True,
        )  # fmt: skip

    def _array(self, recipe: Recipe, name: str) -> Any:
        try:
            return zarr.open_array(self.root / _key(recipe) / name, mode="r+")
        except FileNotFoundError:
            told = "" if name == _FULL else " reduced"
            raise BadStudy(f"{self.root} holds no{told} maps of {recipe}") from None

    def write(self, recipe: Recipe, task: int, rows: Sequence[int], maps: Tensor) -> None:
        """Write one task's maps: exactly one shard of each array; its images without a map stay NaN."""
        if task * self.shard < self.whole:
            self._write(self._array(recipe, _FULL), task, rows, maps)
        if self.reduced:
            self._write(self._array(recipe, _REDUCED), task, rows, reduced(maps, self.reduced))

    def _write(self, array: Any, task: int, rows: Sequence[int], maps: Tensor) -> None:
        start, stop = task * self.shard, min((task + 1) * self.shard, array.shape[0])
        block = np.full((stop - start, *array.shape[1:]), np.nan, dtype=np.float32)
        block[list(rows)] = maps.float().numpy()
        array[start:stop] = block

    def read(self, recipe: Recipe, places: Sequence[int]) -> Tensor:
        """Return the maps in full at these places ``(N, C, *S)``; NaN where the method failed.

        Raises
        ------
        BadStudy
            When there are none of that method, or an image's are not kept in full.
        """
        if beyond := [place for place in places if place >= self.whole]:
            raise BadStudy(
                f"{self.root} keeps the maps of the first {self.whole} images in full and not of number {beyond[0] + 1}; "
                "[store] says so"
            )
        return _rows(self._array(recipe, _FULL), places)

    def read_reduced(self, recipe: Recipe, places: Sequence[int]) -> Tensor:
        """Return the small maps at these places ``(N, 1, *S)``; NaN where the method failed.

        Raises
        ------
        BadStudy
            When none are kept.
        """
        return _rows(self._array(recipe, _REDUCED), places)


def _rows(array: Any, places: Sequence[int]) -> Tensor:
    maps = torch.empty(len(places), *array.shape[1:])
    for row, place in enumerate(places):
        maps[row] = torch.from_numpy(np.asarray(array[place]))
    return maps


def reduced_shape(shape: Sequence[int], longest: int) -> tuple[int, ...]:
    """Return a spatial shape no longer than `longest` on any side, with its proportions."""
    factor = min(1.0, longest / max(shape, default=1))
    return tuple(max(1, round(side * factor)) for side in shape)


def reduced(maps: Tensor, longest: int) -> Tensor:
    """Return small maps ``(N, 1, *S)`` of ``(N, C, *S)``: channels added up, each cell the mean of what it covers."""
    pooled = maps.float().sum(1, keepdim=True)
    for axis, side in enumerate(reduced_shape(maps.shape[2:], longest), start=2):
        pooled = _means(pooled, axis, side)
    return pooled


def _means(values: Tensor, axis: int, side: int) -> Tensor:
    """Return the means of `side` runs along an axis that cover it evenly."""
    moved = values.movedim(axis, -1)
    flat = adaptive_avg_pool1d(moved.reshape(-1, 1, moved.shape[-1]), side)
    return flat.reshape(*moved.shape[:-1], side).movedim(-1, axis)


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
