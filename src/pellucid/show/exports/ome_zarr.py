"""OME-Zarr: each image, its maps beside it with the same axes and scale, its masks as labels."""

from pathlib import Path

import numpy as np

from pellucid.images.multiscale import build_levels, create_pyramid, ome_order, write_labels
from pellucid.show.colour import full_colour
from pellucid.show.exports.content import Array, Content

__all__ = ["spacing_of", "write_ome_zarr"]


def write_ome_zarr(content: Content, folder: Path) -> None:
    """Write ``NAME.ome.zarr`` with the labels and ``NAME.maps.ome.zarr``, one channel a method, for every image."""
    record = content.record
    for image, stem in content.stems.items():
        display = [record.display_range] * len(record.channels)
        where = folder / f"{stem}.ome.zarr"
        _write(where, content.pixels(image), content, name=image, channels=record.channels, window=display)
        if masks := content.masks(image):
            ordered = {name: ome_order(mask, record.spatial) for name, mask in masks.items()}
            axes = next(iter(ordered.values()))[1]
            write_labels(
                where, {name: mask for name, (mask, _) in ordered.items()}, axes=axes, spacing=spacing_of(content)
            )
        if maps := content.maps(image):
            sizes = [full_colour(values) or 1.0 for values in maps.values()]
            _write(
                folder / f"{stem}.maps.ome.zarr", np.stack(list(maps.values())), content, name=f"{image}: maps",
                channels=tuple(maps), window=[(-size, size) for size in sizes], about=True,
            )  # fmt: skip


def spacing_of(content: Content) -> tuple[float, ...] | None:
    """Return the pixel size in the order of OME's axes, where a line has become a plane of one row."""
    record = content.record
    if record.spacing is None:
        return None
    sizes = dict(zip(record.spatial, record.spacing, strict=True))
    return tuple(sizes.get(letter, float("nan")) for letter in "TZYX" if letter in record.spatial or letter == "Y")


def _write(
    path: Path,
    array: Array,
    content: Content,
    *,
    name: str,
    channels: tuple[str, ...],
    window: list[tuple[float, float]],
    about: bool = False,
) -> None:
    ordered, axes = ome_order(array, content.record.axes)
    made = create_pyramid(
        path, ordered.shape, axes=axes, dtype="float32", name=name, spacing=spacing_of(content), channels=channels,
        window=window, about=content.about if about else None,
    )  # fmt: skip
    made[...] = ordered
    build_levels(path)
