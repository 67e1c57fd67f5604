"""From an image and its objects to a table of phenotypes with units."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.progress import track
from skimage.measure import regionprops
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageRecord, ImageSet
from pellucid.measure.further import further
from pellucid.measure.phenotype import Panel, columns
from pellucid.measure.segmentation import segment
from pellucid.measure.spots import Spots, find_spots
from pellucid.measure.surface import Array, Mask, fitted_plane, plane_terms
from pellucid.measure.texture import texture

__all__ = ["measure_images", "phenotypes"]


def phenotypes(
    image: Tensor,
    mask: Tensor,
    record: ImageRecord,
    *,
    panel: Panel = "core",
    spot_diameter: float | None = None,
    spot_contrast: float = 0.08,
) -> pa.Table:
    """Measure the phenotypes of every object: size, shape, intensity, texture, spots, and the background round it.

    Parameters
    ----------
    image
        Float ``(C, *S)``, two or three spatial axes.
    mask
        Integer ``(*S)``: 0 is background, each other number an object; boolean: one object.
    record
        Gives channel names, pixel size and display range.
    panel
        ``"core"``: twenty phenotypes; ``"full"``: also further shape, percentiles, granularity, colour, rings, neighbours.
    spot_diameter
        Expected diameter of a spot in the record's unit; None: three pixels.
    spot_contrast
        Least height of a spot over its surroundings, as a share of the display range.

    Returns
    -------
    pyarrow.Table
        One row an object: ``object`` and the columns of `columns`, whose fields carry ``unit`` and ``meaning``. What is
        not defined (a perimeter in 3-D or with unequal pixel sides, the size of no spots) is null.

    Raises
    ------
    BadImage
        When image, mask and record do not fit each other.
    """
    _check(image, mask, record)
    pixels, labels = image.detach().cpu().numpy().astype(np.float64), mask.cpu().numpy().astype(np.int64)
    grey, low, high = pixels.mean(0), *record.display_range
    spots = find_spots(grey, labels > 0, _spot_pixels(spot_diameter, record), contrast=spot_contrast * (high - low))
    shared = _background(pixels, labels == 0, record)
    regions = regionprops(labels, spacing=record.spacing)  # type: ignore[no-untyped-call]
    rows = []
    for region in regions:
        inside = labels == region.label
        row = {"object": region.label} | _shape(region, record) | _intensity(pixels[:, inside], record)
        row |= _texture(grey, inside, record) | _spots(spots, inside, record) | shared
        rows.append(row)
    if panel == "full":
        rows = [row | more for row, more in zip(rows, further(pixels, labels, regions, record), strict=True)]
    return pa.Table.from_pylist(rows, schema=_schema(record, panel))


def measure_images(
    images: ImageSet,
    mask: str | None = "object",
    *,
    ids: Sequence[str] | None = None,
    panel: Panel = "core",
    spot_diameter: float | None = None,
    spot_contrast: float = 0.08,
    progress: bool = False,
) -> pa.Table:
    """Measure the objects of a whole set: one row an object, with the id of its image.

    Parameters
    ----------
    images
        The set.
    mask
        Name of the mask that numbers the objects, or None to find them with `segment`.
    ids
        Images to measure; None: all. One without that mask, or without an object, gives no row.
    panel, spot_diameter, spot_contrast
        See `phenotypes`.
    progress
        Whether to show a progress bar.

    Returns
    -------
    pyarrow.Table
        ``image``, ``object`` and the columns of `phenotypes`.
    """
    schema = _schema(images.record, panel).insert(0, pa.field("image", pa.string()))
    tables = [schema.empty_table()]
    chosen = images.ids if ids is None else ids
    for name in track(chosen, "measuring objects", disable=not progress):
        image = images.tensor([name])[0]
        labels = segment(image) if mask is None else images.mask(mask, [name])[0]
        if labels is None:
            continue
        table = phenotypes(
            image, labels, images.record, panel=panel, spot_diameter=spot_diameter, spot_contrast=spot_contrast
        )
        tables.append(table.add_column(0, schema.field(0), pa.array([name] * len(table), pa.string())))
    return pa.concat_tables(tables)


def _check(image: Tensor, mask: Tensor, record: ImageRecord) -> None:
    if record.spatial not in {"YX", "ZYX"}:
        raise BadImage(f"phenotypes are measured in YX or ZYX, not in {record.spatial}")
    if image.ndim != len(record.axes) or len(image) != len(record.channels):
        raise BadImage(f"the image is {tuple(image.shape)}, its record says {record.axes} of {record.channels}")
    if mask.shape != image.shape[1:]:
        raise BadImage(f"the mask is {tuple(mask.shape)}, the image {tuple(image.shape[1:])}")
    if mask.is_floating_point() or bool((mask < 0).any() if mask.dtype != torch.bool else False):
        raise BadImage("a mask holds whole numbers of at least 0: 0 is background, each other number an object")


def _schema(record: ImageRecord, panel: Panel) -> pa.Schema:
    fields = [pa.field("object", pa.int64())]
    for name, (phenotype, unit) in columns(record, panel).items():
        fields.append(pa.field(name, pa.float64(), metadata={"unit": unit, "meaning": phenotype.meaning}))
    return pa.schema(fields)


def _spot_pixels(diameter: float | None, record: ImageRecord) -> tuple[float, ...]:
    spacing = record.spacing or (1.0,) * len(record.spatial)
    wide = 3 * min(spacing) if diameter is None else diameter
    return tuple(wide / step for step in spacing)


def _shape(region: Any, record: ImageRecord) -> dict[str, float | None]:
    row: dict[str, float | None] = {
        "AreaShape_Area": region.area,
        "AreaShape_EquivalentDiameter": region.equivalent_diameter_area,
        "AreaShape_Extent": region.extent,
    }
    if min(region.image.shape) > 1 or region.image.ndim == 2:
        row["AreaShape_Solidity"] = region.solidity
    if region.image.ndim == 2:
        row["AreaShape_Eccentricity"] = region.eccentricity
        if record.spacing is None or len(set(record.spacing)) == 1:
            # the usual count of border steps is 5 % too long for a circle of any size
            perimeter = region.perimeter_crofton
            row["AreaShape_Perimeter"] = perimeter
            row["AreaShape_FormFactor"] = 4 * np.pi * region.area / perimeter**2
    return row


def _intensity(values: Array, record: ImageRecord) -> dict[str, float]:
    reductions: dict[str, Callable[[Array], Any]] = {
        "Mean": np.mean,
        "Std": np.std,
        "Min": np.min,
        "Max": np.max,
        "Integrated": np.sum,
    }
    return {
        f"Intensity_{name}Intensity_{channel}": float(reduce(row))
        for name, reduce in reductions.items()
        for channel, row in zip(record.channels, values, strict=True)
    }


def _texture(grey: Array, inside: Mask, record: ImageRecord) -> dict[str, float | None]:
    if grey.ndim != 2:
        return {}
    names = ("Texture_Contrast", "Texture_Correlation", "Texture_AngularSecondMoment")
    found = texture(grey, inside, record.display_range)
    return {name: None if np.isnan(value) else value for name, value in zip(names, found, strict=True)}


def _spots(spots: Spots, inside: Mask, record: ImageRecord) -> dict[str, float | None]:
    own = np.flatnonzero(inside[tuple(spots.peaks.T)])
    if not len(own):
        return {"Spots_Count": 0.0}
    cell = float(np.prod(record.spacing or (1.0,)))
    sizes = cell * np.bincount(spots.labels.ravel(), minlength=len(spots.peaks) + 1)[own + 1]
    wide = 2 * np.sqrt(sizes / np.pi) if inside.ndim == 2 else np.cbrt(6 * sizes / np.pi)
    return {
        "Spots_Count": float(len(own)),
        "Spots_MeanDiameter": float(wide.mean()),
        "Spots_MeanBrightness": float(spots.brightness[own].mean()),
    }


def _background(pixels: Array, outside: Mask, record: ImageRecord) -> dict[str, float | None]:
    """Mean over channels; a plane needs more pixels than it has terms."""
    if outside.sum() <= outside.ndim + 1:
        return {}
    terms = plane_terms(outside.shape, record.spacing)
    plane = fitted_plane(pixels.mean(0, keepdims=True), outside, terms)[0]
    return {
        "Background_MeanIntensity": float(pixels[:, outside].mean()),
        "Background_Slope": float(np.linalg.norm(plane[1:])),
    }
