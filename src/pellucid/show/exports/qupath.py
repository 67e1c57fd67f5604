"""QuPath: outlines of the most relevant regions and of the masks as GeoJSON objects with measurements."""

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator

from pellucid.errors import BadStudy
from pellucid.show.colour import DIVERGING
from pellucid.show.exports.content import Array, Content

__all__ = ["outlines", "write_qupath"]

_TOP = 0.1
"""Share of the image, in pixels, that the outlined relevance covers at most."""

_GREY = (90, 90, 90)


def write_qupath(content: Content, folder: Path) -> None:
    """Write ``NAME.geojson`` for every image: where each map is strongest, and every object of every mask.

    Of a map it is the tenth of the pixels with most relevance for the target and, apart, against it. Coordinates are pixels of
    the image as the study reads it.

    Raises
    ------
    BadStudy
        For lines, which have no outlines.
    """
    if "Y" not in content.record.spatial:
        raise BadStudy(f"QuPath shows planes, and these images are {content.record.spatial}; export to csv")
    for image, stem in content.stems.items():
        features = [*_of_maps(content, image), *_of_masks(content, image)]
        told = {
            "type": "FeatureCollection",
            "features": features,
            "pellucid": {**content.about, "top": _TOP, "image": image},
        }
        (folder / f"{stem}.geojson").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


def _of_maps(content: Content, image: str) -> Iterator[dict[str, Any]]:
    for method, values in content.maps(image).items():
        total = float(np.abs(values).sum(dtype=np.float64))
        for told, sign, colour in (("for", 1, DIVERGING[-1]), ("against", -1, DIVERGING[0])):
            one_side = (sign * values).clip(0)
            region = one_side >= max(float(np.quantile(one_side, 1 - _TOP)), np.nextafter(np.float32(0), np.float32(1)))
            inside = values[region]
            measured = {
                "Relevance sum": float(inside.sum(dtype=np.float64)),
                "Relevance share of magnitude": float(np.abs(inside).sum(dtype=np.float64)) / total if total else 0.0,
            }
            yield from _features(content, region, f"{method}: {told}", colour, measured, kind="annotation")


def _of_masks(content: Content, image: str) -> Iterator[dict[str, Any]]:
    maps = content.maps(image)
    for name, mask in content.masks(image).items():
        for number in np.unique(mask[mask > 0]):
            region = mask == number
            measured = {
                f"Relevance sum: {method}": float(values[region].sum(dtype=np.float64))
                for method, values in maps.items()
            }
            measured |= {f"Relevance mean: {method}": float(values[region].mean()) for method, values in maps.items()}
            yield from _features(content, region, name, _GREY, {"Object": float(number)} | measured, kind="detection")


def _features(
    content: Content, region: Array, name: str, colour: tuple[int, int, int], measured: dict[str, float], *, kind: str
) -> Iterator[dict[str, Any]]:
    """Yield one object a plane on which the region has pixels."""
    leading = content.record.spatial[:-2]
    for index in np.ndindex(region.shape[:-2]):
        plane = region[index]
        if not plane.any():
            continue
        places = dict(zip(leading, index, strict=True))
        at = {"c": -1, "z": places.get("Z", 0), "t": places.get("T", 0)}
        yield {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": outlines(plane), "plane": at},
            "properties": {
                "objectType": kind,
                "name": name,
                "classification": {"name": name, "color": list(colour)},
                "measurements": measured | _area(content, plane),
            },
        }


def _area(content: Content, plane: Array) -> dict[str, float]:
    spacing = (content.record.spacing or (float("nan"),) * 2)[-2:]
    square = float(np.prod(spacing))
    return {"Area px^2": float(plane.sum())} | ({"Area µm^2": plane.sum() * square} if square == square else {})


def outlines(plane: Array) -> list[list[list[list[float]]]]:
    """Return the polygons of a region ``(Y, X)``, holes included, as GeoJSON does: ``[[outer, hole, ...], ...]`` of ``[x, y]``.

    A pixel covers the unit square from its index on, as in QuPath.
    """
    padded = np.pad(plane.astype(float), 1)
    filled: Any = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    points, offsets = filled
    return [list(_rings(one, np.asarray(starts))) for one, starts in zip(points, offsets, strict=True)]


def _rings(points: Array, starts: Array) -> Iterable[list[list[float]]]:
    for begin, end in pairwise(starts):
        yield [[float(x) - 0.5, float(y) - 0.5] for x, y in points[begin:end]]
