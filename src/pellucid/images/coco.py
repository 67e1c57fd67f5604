"""Outlines in COCO's JSON: polygons and run lengths become label images, one mask a category."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skimage.draw import polygon

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.listing import Listing
from pellucid.images.reader import Reader, Wanted, named, refuse_too_large

__all__ = ["COCO", "CocoMasks", "coco_masks"]


@dataclass(frozen=True)
class CocoMasks:
    """Draws the objects of one category on an image, numbered from 1; where two overlap, the later one is on top.

    Attributes
    ----------
    path
        The JSON file.
    sizes
        Image id to rows and columns.
    outlines
        Image id to the outlines of its objects, as the file words them.
    """

    path: str
    sizes: Mapping[str, tuple[int, int]]
    outlines: Mapping[str, tuple[Any, ...]]

    def __call__(self, image: str) -> RawImage:
        """Return the label image, (Y, X)."""
        labels = np.zeros(self.sizes[image], np.int32)
        for number, outline in enumerate(self.outlines.get(image, ()), start=1):
            with named(self.path, f"object {number} of {image} has no outline that can be drawn"):
                labels[_drawn(outline, labels.shape)] = number
        return RawImage(labels, "YX")


def _drawn(outline: Any, shape: tuple[int, ...]) -> Array:
    if isinstance(outline, Mapping):
        return _from_runs(outline, shape)
    if not outline:
        raise ValueError("it is a box only")
    inside = np.zeros(shape, bool)
    for ring in outline:
        corners = np.array(ring, float).reshape(-1, 2)
        if len(corners) < 3 or not np.isfinite(corners).all():
            raise ValueError(f"a polygon of {len(corners)} corners")
        inside[polygon(corners[:, 1] - 0.5, corners[:, 0] - 0.5, shape)] = True  # type: ignore[no-untyped-call]
    return inside


def _from_runs(outline: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    counts = outline["counts"]
    runs = np.array(_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if tuple(outline["size"]) != tuple(shape) or (runs < 0).any() or runs.sum() != math.prod(shape):
        raise ValueError(f"run lengths of size {outline['size']} on an image of {shape}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1]).T


def _counts(text: str) -> list[int]:
    """Return run lengths from their compressed text: five bits a letter, and from the fourth on differences."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def coco_masks(path: Path, ids: Sequence[str] | None, limit: int) -> tuple[dict[str, CocoMasks], tuple[str, ...]]:
    """Read a COCO file.

    Parameters
    ----------
    path
        The JSON file.
    ids
        Image ids to match with its file names, by the whole name or its last part; None takes its own names.
    limit
        The most values that an image may have.

    Returns
    -------
    tuple
        Category name to its masks, and the ids of all images that the file describes.

    Raises
    ------
    BadImage
        When the file is no COCO JSON, or describes none of the images.
    """
    with named(path, "it is no COCO file of images, annotations and categories"):
        stated = json.loads(path.read_text(encoding="utf-8"))
        called = {one["id"]: str(one["file_name"]) for one in stated["images"]}
        sizes = {one["id"]: (int(one["height"]), int(one["width"])) for one in stated["images"]}
        categories = {one["id"]: str(one["name"]) for one in stated["categories"]}
        found = [
            (categories[one["category_id"]], one["image_id"], one.get("segmentation")) for one in stated["annotations"]
        ]
    for number, (height, width) in sizes.items():
        if min(height, width) < 1:
            raise BadImage(f"{path}: {called[number]} is said to have {height} × {width} pixels")
        refuse_too_large(height * width, limit, f"{path}: {called[number]}")
    matched = _matched(called, ids, path)
    masks = {}
    for category in dict.fromkeys(categories.values()):
        outlines: dict[str, tuple[Any, ...]] = {}
        for kind, number, outline in found:
            if kind == category and number in matched:
                outlines[matched[number]] = (*outlines.get(matched[number], ()), outline)
        masks[category] = CocoMasks(
            str(path), {matched[number]: size for number, size in sizes.items() if number in matched}, outlines
        )
    return masks, tuple(matched.values())


def _matched(called: Mapping[Any, str], ids: Sequence[str] | None, path: Path) -> dict[Any, str]:
    if ids is None:
        return dict(called)
    whole = set(ids)
    last: dict[str, list[str]] = {}
    for image in ids:
        last.setdefault(image.rpartition("/")[2], []).append(image)
    matched = {}
    for number, name in called.items():
        alike = [name] if name in whole else last.get(name.rpartition("/")[2], [])
        if len(alike) > 1:
            raise BadImage(f"{path}: {name} could be {alike[0]} or {alike[1]}")
        if alike:
            matched[number] = alike[0]
    if not matched:
        raise BadImage(
            f"{path}: none of its {len(called)} file names, such as {next(iter(called.values()), 'none')}, is an image here"
        )
    return matched


def _entries(path: Path, wanted: Wanted) -> Listing:
    """Return the images that the file names, below its own folder or the folder ``images`` beside it."""
    masks, names = coco_masks(path, None, wanted.limit)
    files = {}
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadImage(f"{path}: it names the image {name!r} outside its folder")
        there = [folder / name for folder in (path.parent, path.parent / "images") if (folder / name).is_file()]
        if not there:
            raise BadImage(f"{path}: its image {name!r} is missing, both beside it and in {path.parent / 'images'}")
        files[name] = str(there[0])
    if not files:
        raise BadImage(f"{path}: the file names no image")
    return Listing(files, drawn=masks)


COCO = Reader(
    name="COCO",
    suffixes=(".json",),
    entries=_entries,
    reads="polygons and run lengths (plain and compressed), one mask a category, objects numbered; as the path, or as `masks=` of images",
    refuses="annotations that are boxes only; outlines that do not fit their image; images outside the file's folder",
)
