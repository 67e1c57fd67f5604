"""OME-TIFF: each image, its maps and its masks as three files that Fiji, QuPath and every microscopist's tool open."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pellucid.images.multiscale import ome_order
from pellucid.show.exports.content import Array, Content

__all__ = ["write_ome_tiff"]


def write_ome_tiff(content: Content, folder: Path) -> None:
    """Write ``NAME.ome.tif``, ``NAME.maps.ome.tif`` (a channel a method, signed) and ``NAME.masks.ome.tif`` (a channel a mask)."""
    for image, stem in content.stems.items():
        _write(folder / f"{stem}.ome.tif", content.pixels(image), content, content.record.channels, name=image)
        if maps := content.maps(image):
            values = np.stack(list(maps.values()))
            _write(folder / f"{stem}.maps.ome.tif", values, content, tuple(maps), name=f"{image}: maps")
        if masks := content.masks(image):
            labels = np.stack(list(masks.values()))
            _write(folder / f"{stem}.masks.ome.tif", labels, content, tuple(masks), name=f"{image}: masks")


def _write(path: Path, array: Array, content: Content, channels: Sequence[str], *, name: str) -> None:
    ordered, axes = ome_order(array, content.record.axes)
    metadata: dict[str, Any] = {"axes": axes, "Name": name, "Channel": {"Name": list(channels)}}
    metadata |= _sizes(content) | {"Description": content.about["values"] if name.endswith(": maps") else ""}
    tifffile.imwrite(path, ordered, ome=True, photometric="minisblack", metadata=metadata)


def _sizes(content: Content) -> dict[str, Any]:
    """Return the size of a pixel under the names of OME."""
    record = content.record
    told: dict[str, Any] = {}
    for letter, step in zip(record.spatial, record.spacing or (), strict=False):
        if step == step:  # NaN, an unknown size, differs from itself
            key, unit = ("TimeIncrement", "s") if letter == "T" else (f"PhysicalSize{letter}", "µm")
            told |= {key: step, f"{key}Unit": unit}
    return told
