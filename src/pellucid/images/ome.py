"""OME-XML: what the metadata of an OME-TIFF states of each of its images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from pellucid.errors import BadImage
from pellucid.images.units import MICROMETRES, SECONDS, positive

__all__ = ["OmeImage", "companion_xml", "ome_images"]

_LARGEST = 64 << 20
"""Bytes of metadata that a companion may have."""


@dataclass(frozen=True)
class OmeImage:
    """One ``Image`` element.

    Attributes
    ----------
    name
        Its name, or "".
    size
        Values that it states to have.
    spacing
        Axis letter to pixel size in micrometres (``T``: seconds).
    channels
        Channel names, or None where not all are named.
    files
        Names of the files that hold its planes; empty where it states none.
    """

    name: str
    size: int
    spacing: Mapping[str, float]
    channels: tuple[str, ...] | None
    files: tuple[str, ...]


def ome_images(xml: str, path: Path) -> tuple[OmeImage, ...]:
    """Return what OME-XML states, an image each.

    Raises
    ------
    BadImage
        When it names files outside the image's own folder.
    """
    found = _listed(tifffile.xml2dict(xml).get("OME", {}).get("Image", []))
    images = tuple(_image(one) for one in found if isinstance(one, dict))
    for name in (name for image in images for name in image.files):
        _beside(name, path)
    return images


def companion_xml(xml: str, path: Path) -> str | None:
    """Return the OME-XML of the companion file beside a TIFF that holds planes only, None where there is none.

    Raises
    ------
    BadImage
        When the companion is named outside the folder, or is larger than metadata are.
    """
    only = tifffile.xml2dict(xml).get("OME", {}).get("BinaryOnly") if "BinaryOnly" in xml else None
    name = only.get("MetadataFile") if isinstance(only, dict) else None
    if name is None:
        return None
    file = _beside(str(name), path)
    if not file.is_file():
        return None
    if file.stat().st_size > _LARGEST:
        raise BadImage(f"{path}: its companion {file.name} has more than {_LARGEST >> 20} MiB, which no metadata have")
    return file.read_text(encoding="utf-8")


def _beside(name: str, path: Path) -> Path:
    if Path(name).name != name or "\\" in name:
        raise BadImage(f"{path}: its metadata names planes in {name!r}, outside the folder of the file")
    return path.with_name(name)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _image(image: Mapping[str, Any]) -> OmeImage:
    pixels = image.get("Pixels", {})
    uuids = [data.get("UUID") for data in _listed(pixels.get("TiffData", [])) if isinstance(data, dict)]
    names = [channel.get("Name") for channel in _listed(pixels.get("Channel", [])) if isinstance(channel, dict)]
    return OmeImage(
        name=str(image.get("Name", "")),
        size=math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "CTZYX") if pixels else 0,
        spacing=_spacing(pixels),
        channels=tuple(map(str, names)) if names and all(name is not None and str(name) for name in names) else None,
        files=tuple(
            dict.fromkeys(str(one["FileName"]) for one in uuids if isinstance(one, dict) and "FileName" in one)
        ),
    )


def _spacing(pixels: Mapping[str, Any]) -> dict[str, float]:
    spacing = {}
    for axis in "XYZ":
        unit = MICROMETRES.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower())
        if unit is not None and f"PhysicalSize{axis}" in pixels:
            spacing[axis] = float(pixels[f"PhysicalSize{axis}"]) * unit
    unit = SECONDS.get(str(pixels.get("TimeIncrementUnit", "s")))
    if unit is not None and "TimeIncrement" in pixels:
        spacing["T"] = float(pixels["TimeIncrement"]) * unit
    return positive(spacing)
