"""OME-Zarr images on disk: one array a resolution with the metadata that viewers read (OME-NGFF 0.5)."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

__all__ = ["build_levels", "create_pyramid", "level_shapes", "ome_order", "write_labels"]

Array = NDArray[Any]

_ORDER = "TCZYX"
_KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_UNITS = {"time": "second", "space": "micrometer"}
_SMALLEST = 256
"""Longest side, in pixels, from which no coarser level is made."""


def ome_order(array: Array, axes: str) -> tuple[Array, str]:
    """Return an array with its axes in the order that OME asks for; a line becomes a plane of one row.

    Parameters
    ----------
    array
        One axis a letter of `axes`.
    axes
        Such as ``"CTYX"`` or, for labels, ``"ZYX"``.
    """
    if "Y" not in axes:
        array, axes = np.expand_dims(array, axes.index("X")), axes.replace("X", "YX")
    ordered = "".join(letter for letter in _ORDER if letter in axes)
    return array.transpose([axes.index(letter) for letter in ordered]), ordered


def level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes of all levels: each halves the last two axes, until the image fits a thumbnail."""
    levels = [tuple(shape)]
    while max(levels[-1][-2:]) > _SMALLEST:
        *leading, height, width = levels[-1]
        levels.append((*leading, ceil(height / 2), ceil(width / 2)))
    return levels


def create_pyramid(
    path: Path,
    shape: Sequence[int],
    *,
    axes: str,
    dtype: str,
    name: str,
    spacing: Sequence[float] | None = None,
    channels: Sequence[str] = (),
    window: Sequence[tuple[float, float]] = (),
    about: Mapping[str, Any] | None = None,
    chunk: int = 256,
    shard: int | None = None,
    fill: float = 0,
) -> zarr.Array[Any]:
    """Make an empty image of all levels and return its finest array.

    Parameters
    ----------
    path
        Folder of the image, ``NAME.ome.zarr``.
    shape, axes, dtype
        Of the finest level, in the order of OME; see `ome_order`.
    name
        Shown by viewers.
    spacing
        Size of a pixel, one number an axis of space (micrometre) or time (second), in the order of `axes`; None or NaN if
        unknown.
    channels, window
        Name and shown range of each channel.
    about
        What pellucid says of the values.
    chunk, shard
        Pixels a side; a shard is what one writer writes. None: no shards.
    fill
        Value where nothing was written.
    """
    levels = level_shapes(shape)
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [_multiscale(name, axes, spacing, levels)]}
    if channels:
        ome["omero"] = {"channels": _channels(channels, window), "rdefs": {"model": "color"}}
    group = zarr.open_group(path, mode="w", attributes={"ome": ome} | ({"pellucid": dict(about)} if about else {}))
    for place, level in enumerate(levels):
        chunks = (*(1,) * (len(level) - 2), *(min(chunk, side) for side in level[-2:]))
        whole = (*(1,) * (len(level) - 2), *(shard or 0,) * 2)
        group.create_array(
            str(place), shape=level, dtype=dtype, chunks=chunks, dimension_names=[letter.lower() for letter in axes],
            shards=_shards(chunks, whole) if shard else None, fill_value=fill,
        )  # fmt: skip
    return zarr.open_array(path / "0", mode="r+")


def _shards(chunks: Sequence[int], whole: Sequence[int]) -> tuple[int, ...]:
    """Return the shard as a whole number of chunks."""
    return tuple(max(1, side // chunk) * chunk for chunk, side in zip(chunks, whole, strict=True))


def _multiscale(
    name: str, axes: str, spacing: Sequence[float] | None, levels: Sequence[Sequence[int]]
) -> dict[str, Any]:
    steps = iter(spacing or ())
    sizes = {letter: next(steps, float("nan")) for letter in axes if letter != "C"}
    known = {
        letter: step for letter, step in sizes.items() if step == step
    }  # NaN, an unknown size, differs from itself
    told = [{"name": letter.lower(), "type": _KINDS[letter]}
            | ({"unit": _UNITS[_KINDS[letter]]} if letter in known else {}) for letter in axes]  # fmt: skip
    datasets = []
    for place in range(len(levels)):
        factor = [2.0**place if letter in "YX" else 1.0 for letter in axes]
        scale = [known.get(letter, 1.0) * part for letter, part in zip(axes, factor, strict=True)]
        shift = [known.get(letter, 1.0) * (part - 1) / 2 for letter, part in zip(axes, factor, strict=True)]
        moves: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        moves += [{"type": "translation", "translation": shift}] if place else []
        datasets.append({"path": str(place), "coordinateTransformations": moves})
    return {"name": name, "axes": told, "datasets": datasets, "type": "mean"}


def _channels(names: Sequence[str], window: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    ranges = window or [(0.0, 1.0)] * len(names)
    return [
        {"label": name, "color": "FFFFFF", "active": True,
         "window": {"min": low, "max": high, "start": low, "end": high}}
        for name, (low, high) in zip(names, ranges, strict=True)
    ]  # fmt: skip


def write_labels(path: Path, labels: Mapping[str, Array], *, axes: str, spacing: Sequence[float] | None = None) -> None:
    """Write label images ``(*S)`` under ``labels`` of an image, in the order of OME, so that viewers lay them over it."""
    group = zarr.open_group(path / "labels", mode="w")
    group.attrs.update({"ome": {"version": "0.5", "labels": list(labels)}})
    for name, label in labels.items():
        where = path / "labels" / name
        array = create_pyramid(where, label.shape, axes=axes, dtype="int32", name=name, spacing=spacing)
        array[...] = label
        build_levels(where, nearest=True)
        made = zarr.open_group(where, mode="r+")
        made.attrs.update({"ome": made.attrs["ome"] | {"image-label": {"source": {"image": "../../"}}}})  # type: ignore[operator]


def build_levels(path: Path, *, nearest: bool = False) -> None:
    """Fill the coarser levels from the finest, shard by shard, so that memory does not grow with the image.

    Parameters
    ----------
    path
        The image.
    nearest
        Whether to take one pixel of four, as labels need, in place of their mean.
    """
    told: Any = zarr.open_group(path, mode="r").attrs["ome"]
    for place in range(1, len(told["multiscales"][0]["datasets"])):
        fine = zarr.open_array(path / str(place - 1), mode="r")
        coarse = zarr.open_array(path / str(place), mode="r+")
        for block in _blocks(coarse.shape, coarse.shards or coarse.chunks):
            coarse[block] = _halved(np.asarray(fine[_doubled(block, fine.shape)]), nearest=nearest).astype(coarse.dtype)


def _blocks(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = [range(0, whole, step) for whole, step in zip(shape, size, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(at, min(at + step, whole)) for at, step, whole in zip(corner, size, shape, strict=True))


def _doubled(block: tuple[slice, ...], shape: Sequence[int]) -> tuple[slice, ...]:
    *leading, rows, columns = block
    sides = [
        slice(2 * part.start, min(2 * part.stop, whole))
        for part, whole in zip((rows, columns), shape[-2:], strict=True)
    ]
    return (*leading, *sides)


def _halved(array: Array, *, nearest: bool) -> Array:
    """Return one pixel for each two by two; an odd last row or column stands for itself."""
    if nearest:
        return array[..., ::2, ::2]
    odd = [(0, 0)] * (array.ndim - 2) + [(0, side % 2) for side in array.shape[-2:]]
    even = np.pad(array, odd, mode="edge")
    *leading, height, width = even.shape
    halved: Array = even.reshape(*leading, height // 2, 2, width // 2, 2).mean((-3, -1))
    return np.rint(halved) if np.issubdtype(array.dtype, np.integer) else halved
