"""OME-Zarr 0.4 and 0.5: images with their pyramid, label images as masks, plates as sets of fields."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.levels import chosen_level, chosen_series
from pellucid.images.listing import Listing
from pellucid.images.reader import Reader, Wanted, named, refuse_too_large
from pellucid.images.units import MICROMETRES, SECONDS, positive

__all__ = ["OME_ZARR", "Multiscale", "opened"]

MARKS = (".zgroup", "zarr.json")


@dataclass(frozen=True)
class Multiscale:
    """One image of a store: its axes and, for each level, the array's path and the size of its pixels.

    Attributes
    ----------
    axes
        One letter a dimension, in file order.
    paths
        The level's array below the store, the finest first.
    spacings
        Axis letter to micrometres (``T``: seconds) of each level, as far as units are stated.
    channels
        Channel names, or None.
    """

    axes: str
    paths: tuple[str, ...]
    spacings: tuple[Mapping[str, float], ...]
    channels: tuple[str, ...] | None


@contextmanager
def opened(path: Path) -> Iterator[None]:
    """Turn whatever zarr raises inside into one sentence."""
    with named(path, "the OME-Zarr is corrupt, incomplete or of a kind that cannot be read"):
        yield


def _attributes(path: Path) -> Mapping[str, Any]:
    """Return what a group states, from below ``ome`` where the store is of Zarr 3."""
    if not any((path / name).is_file() for name in MARKS):
        raise BadImage(f"{path}: there is no OME-Zarr group here")
    stated = dict(zarr.open_group(path, mode="r").attrs)
    inner = stated.get("ome", stated)
    if not isinstance(inner, dict):
        raise BadImage(f"{path}: the OME-Zarr's metadata are {type(inner).__name__}, not an object")
    return inner


def image_path(path: Path, wanted: Wanted) -> Path:
    """Return the group of the image that is meant; converters keep a series of images in numbered groups."""
    stated = _attributes(path)
    if "multiscales" in stated:
        return path
    if "plate" in stated or "well" in stated:
        what = "plate" if "plate" in stated else "well"
        raise BadImage(f"{path}: it is a {what}; give it as the path of read_images, or one of its fields")
    names = [str(name) for name in _series(path, stated)]
    if not names:
        raise BadImage(
            f"{path}: the OME-Zarr states no image (no multiscales); it has {', '.join(stated) or 'nothing'}"
        )
    return image_path(path / names[chosen_series(names, wanted, path)], wanted)


def _series(path: Path, stated: Mapping[str, Any]) -> list[Any]:
    if "bioformats2raw.layout" not in stated:
        return []
    if (path / "OME").is_dir():
        return list(_attributes(path / "OME").get("series", ()))
    return sorted((one.name for one in path.iterdir() if one.name.isdigit()), key=int)


def multiscale(path: Path) -> Multiscale:
    """Return what the group of an image states.

    Raises
    ------
    BadImage
        When axes or levels are missing or do not fit each other.
    """
    stated = _attributes(path)
    several = stated.get("multiscales", [])
    if not isinstance(several, list) or len(several) != 1:
        raise BadImage(f"{path}: the OME-Zarr states {len(several)} multiscale images in one group; one is read")
    image = several[0]
    axes = image.get("axes") or []
    if not axes:
        raise BadImage(
            f"{path}: the OME-Zarr names no axes (version {image.get('version', 'unknown')}; 0.4 and 0.5 do)"
        )
    named = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    units = {str(axis["name"]).upper(): str(axis.get("unit", "")).lower() for axis in named}
    whole = _scale(image, len(axes), path)
    datasets = image.get("datasets", [])
    scales = [
        [one * all_ for one, all_ in zip(_scale(level, len(axes), path), whole, strict=True)] for level in datasets
    ]
    if not datasets:
        raise BadImage(f"{path}: the OME-Zarr lists no level of its image")
    channels = [one.get("label") for one in stated.get("omero", {}).get("channels", [])]
    return Multiscale(
        axes="".join(letter if len(letter) == 1 else "?" for letter in units),
        paths=tuple(_inside(path, str(level["path"])) for level in datasets),
        spacings=tuple(_in_units(dict(zip(units, scale, strict=True)), units) for scale in scales),
        channels=tuple(map(str, channels)) if channels and None not in channels else None,
    )


def _inside(path: Path, name: str) -> str:
    """Keep a hostile store from naming files elsewhere."""
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise BadImage(f"{path}: its metadata names an array {name!r} outside the store")
    return name


def _scale(holder: Mapping[str, Any], count: int, path: Path) -> list[float]:
    steps = [1.0] * count
    for change in holder.get("coordinateTransformations", ()):
        kind = change.get("type")
        if kind == "scale" and len(change.get("scale", ())) == count:
            steps = [step * float(factor) for step, factor in zip(steps, change["scale"], strict=True)]
        elif kind not in ("translation", "identity"):
            raise BadImage(f"{path}: a transformation of type {kind!r} does not give a pixel size for {count} axes")
    return steps


def _in_units(scale: Mapping[str, float], units: Mapping[str, str]) -> Mapping[str, float]:
    """Keep the sizes whose unit is stated: a number without one is no length."""
    known = {axis: (SECONDS if axis == "T" else MICROMETRES).get(unit) for axis, unit in units.items() if axis != "C"}
    return positive({axis: scale[axis] * unit for axis, unit in known.items() if unit is not None})


def _read(path: Path, wanted: Wanted) -> RawImage:
    with opened(path):
        return _read_image(image_path(path, wanted), wanted)


def _read_image(path: Path, wanted: Wanted) -> RawImage:
    found = multiscale(path)
    level = chosen_level([spacing.get("X") for spacing in found.spacings], wanted, path)
    array = level_array(path, found, level, wanted.limit)
    refuse_too_large(math.prod(array.shape), wanted.limit, path)
    return RawImage(np.asarray(array[...]), found.axes, found.spacings[level], found.channels)


def level_array(path: Path, found: Multiscale, level: int, limit: int) -> Any:
    """Return the array of a level, unread.

    Raises
    ------
    BadImage
        When its dimensions are not those of the axes, or one of its chunks is too large.
    """
    array = zarr.open_array(path / found.paths[level], mode="r")
    if array.ndim != len(found.axes):
        raise BadImage(f"{path}: its axes are {found.axes}, but level {level} has the shape {array.shape}")
    refuse_too_large(math.prod(array.chunks), limit, f"{path}: one chunk of level {level}")
    return array


def _labels(path: Path) -> dict[str, str]:
    """Return the label images that lie in an image's group, by name."""
    folder = path / "labels"
    if not folder.is_dir():
        return {}
    return {str(name): str(folder / _inside(path, str(name))) for name in _attributes(folder).get("labels", ())}


def _entries(path: Path, wanted: Wanted) -> Listing | None:
    """Return the fields of a plate or well, or one image with its label images."""
    with opened(path):
        stated = _attributes(path)
        if "plate" in stated:
            return _plate(path, stated["plate"])
        if "well" in stated:
            return _fields(path, [("", path)])
        return _labelled({path.name: image_path(path, wanted)})


def _labelled(images: Mapping[str, Path], metadata: Any = None) -> Listing:
    masks: dict[str, dict[str, str]] = {}
    for image, path in images.items():
        for name, file in _labels(path).items():
            masks.setdefault(name, {})[image] = file
    files = {image: str(path) for image, path in images.items()}
    return Listing(files, metadata=metadata or pa.table({}), masks=masks)


def _plate(path: Path, plate: Mapping[str, Any]) -> Listing:
    wells = [str(well["path"]) for well in plate.get("wells", ())]
    if not wells:
        raise BadImage(f"{path}: the plate lists no well")
    return _fields(path, [(_inside(path, well), path / well) for well in wells])


def _fields(path: Path, wells: list[tuple[str, Path]]) -> Listing:
    """Return one image a field; ids are ``row/column/field`` and the columns say well and field."""
    rows = [
        (f"{well}/{field}".lstrip("/"), well or path.name, field, folder / _inside(path, field))
        for well, folder in wells
        for field in (str(image["path"]) for image in _attributes(folder).get("well", {}).get("images", ()))
    ]
    if not rows:
        raise BadImage(f"{path}: its wells list no field")
    table = pa.table({"well": [well for _, well, _, _ in rows], "field": [field for _, _, field, _ in rows]})
    return _labelled({image: folder for image, _, _, folder in rows}, table)


OME_ZARR = Reader(
    name="OME-Zarr",
    suffixes=(".zarr",),
    read=_read,
    entries=_entries,
    folders=True,
    marks=MARKS,
    takes=frozenset({"series", "level"}),
    reads="images of versions 0.4 and 0.5 (Zarr 2 and 3) with axes, units, channel names and pyramid; label images as masks; "
    "plates and wells as sets of fields; numbered series of converters",
    refuses="axes that are not named; several series unless `series=` chooses one; arrays outside the store; zipped stores",
)
