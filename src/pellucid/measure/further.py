"""The phenotypes of the full panel: further shape, percentiles, granularity, colour, rings, neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.color import rgb2hsv
from skimage.measure import euler_number, marching_cubes, mesh_surface_area
from skimage.morphology import disk

from pellucid.images.imageset import ImageRecord
from pellucid.measure.phenotype import GRAINS, RINGS
from pellucid.measure.surface import Array, Mask

__all__ = ["further"]

Row = dict[str, float | None]

_RGB = ("red", "green", "blue")
_SMOOTH = 0.7
"""Standard deviation in voxels by which a solid is smoothed before its surface is measured."""
_NEAR = 2.0
"""Mean diameters within which another object is a neighbour."""


def further(pixels: Array, labels: NDArray[np.int64], regions: Sequence[Any], record: ImageRecord) -> list[Row]:
    """Return what the full panel adds for every region, in their order.

    Parameters
    ----------
    pixels
        ``(C, *S)``.
    labels
        ``(*S)``, 0 is background.
    regions
        Of ``skimage.measure.regionprops`` with the record's spacing.
    record
        Channel names, pixel size, display range.
    """
    beside = _neighbours(regions)
    grains = _openings(pixels) if labels.ndim == 2 else None
    rows = []
    for region, near in zip(regions, beside, strict=True):
        inside = labels == region.label
        row = _shape(region, record) | _percentiles(pixels[:, inside], record) | _colour(pixels[:, inside], record)
        row |= _rings(pixels, inside, region, record) | near
        rows.append(row if grains is None else row | _granularity(grains, inside, record))
    return rows


def _shape(region: Any, record: ImageRecord) -> Row:
    solid = region.image
    cell = float(np.prod(record.spacing or (1.0,)))
    steps = np.array(record.spacing or (1.0,) * solid.ndim)
    away = (np.argwhere(solid) * steps - region.centroid_local) ** 2
    spread = float(away.sum(1).mean() + (steps**2).sum() / 12)  # a pixel is a box, no point
    size = float(solid.sum()) * cell
    moments = np.cov((np.argwhere(solid) * steps).T, bias=True) + np.diag(steps**2) / 12
    axes = np.sqrt(np.linalg.eigvalsh(np.atleast_2d(moments)))
    row: Row = {
        "AreaShape_MajorAxisLength": float(2 * np.sqrt(solid.ndim + 2) * axes[-1]),
        "AreaShape_MinorAxisLength": float(2 * np.sqrt(solid.ndim + 2) * axes[0]),
        "AreaShape_EulerNumber": float(euler_number(solid, connectivity=solid.ndim)),  # type: ignore[no-untyped-call]
        "AreaShape_Compactness": spread / _ball_spread(size, solid.ndim),
    }
    return row if solid.ndim == 2 else row | _surface(solid, size, record)


def _ball_spread(size: float, dimensions: int) -> float:
    """Return the mean squared distance from the centre of the disc or ball of that size."""
    return size / (2 * np.pi) if dimensions == 2 else 0.6 * float((3 * size / (4 * np.pi)) ** (2 / 3))


def _surface(solid: Mask, size: float, record: ImageRecord) -> Row:
    """Measure the surface of a slightly smoothed solid: steps of voxels would make a ball's a tenth too large."""
    room = ndimage.gaussian_filter(np.pad(solid, 4).astype(np.float64), _SMOOTH)
    if room.max() <= 0.5:
        return {}
    spacing = record.spacing or (1.0, 1.0, 1.0)
    corners, faces, *_ = marching_cubes(room, 0.5, spacing=spacing)  # type: ignore[no-untyped-call]
    area = float(mesh_surface_area(corners, faces))  # type: ignore[no-untyped-call]
    one, two, three = np.moveaxis(corners[faces].astype(np.float64), 1, 0)
    enclosed = abs(float((one * np.cross(two, three)).sum()) / 6)
    return {
        "AreaShape_SurfaceArea": area,
        "AreaShape_Sphericity": float(np.cbrt(np.pi) * (6 * enclosed) ** (2 / 3) / area),
        "AreaShape_SurfaceToVolume": area / size,
    }


def _percentiles(values: Array, record: ImageRecord) -> Row:
    row: Row = {}
    for channel, inside in zip(record.channels, values, strict=True):
        low, middle, high = np.quantile(inside, [0.25, 0.5, 0.75])
        found = {
            "LowerQuartile": low,
            "Median": middle,
            "UpperQuartile": high,
            "MAD": np.median(np.abs(inside - middle)),
        }
        row |= {f"Intensity_{name}Intensity_{channel}": float(value) for name, value in found.items()}
    return row


def _colour(values: Array, record: ImageRecord) -> Row:
    if record.channels != _RGB:
        return {}
    low, high = record.display_range
    hue, saturation, _ = rgb2hsv(np.clip((values.T - low) / (high - low), 0.0, 1.0)).T
    mean = (saturation * np.exp(2j * np.pi * hue)).mean()
    seen = abs(mean) > 1e-6
    return {
        "Colour_MeanHue": float(np.degrees(np.angle(mean)) % 360) if seen else None,
        "Colour_MeanSaturation": float(saturation.mean()),
    }


def _rings(pixels: Array, inside: Mask, region: Any, record: ImageRecord) -> Row:
    """Cut the object by each pixel's distance to the edge, as a share of the deepest one's."""
    box = region.slice
    own = np.pad(inside[box], 1)
    depth = ndimage.distance_transform_edt(own, sampling=record.spacing)[tuple(slice(1, -1) for _ in box)][inside[box]]
    ring = np.minimum(((1 - depth / depth.max()) * RINGS).astype(np.int64), RINGS - 1)
    count = np.bincount(ring, minlength=RINGS)
    row: Row = {}
    for channel, field in zip(record.channels, pixels, strict=True):
        values = field[box][inside[box]]
        total, sums = values.sum(), np.bincount(ring, weights=values, minlength=RINGS)
        for place in range(RINGS):
            ending = f"{channel}_{place + 1}of{RINGS}"
            usable = total > 0
            row[f"RadialDistribution_FracAtD_{ending}"] = float(sums[place] / total) if usable else None
            filled = usable and count[place] > 0
            row[f"RadialDistribution_MeanFrac_{ending}"] = (
                float(sums[place] / count[place] * len(values) / total) if filled else None
            )
        both = count[0] > 0 and count[-1] > 0
        row[f"RadialDistribution_RimMinusCentre_{channel}"] = (
            float(sums[-1] / count[-1] - sums[0] / count[0]) if both else None
        )
    return row


def _openings(pixels: Array) -> Array:
    """Return every channel and its openings by growing discs ``(1 + radii, C, Y, X)``."""
    opened = [np.stack([ndimage.grey_opening(field, footprint=disk(radius)) for field in pixels]) for radius in GRAINS]  # type: ignore[no-untyped-call]
    return np.stack([pixels, *opened])


def _granularity(openings: Array, inside: Mask, record: ImageRecord) -> Row:
    row: Row = {}
    means = openings[:, :, inside].mean(2)
    floor = openings[0][:, inside].min(1)
    for place, channel in enumerate(record.channels):
        over = means[0, place] - floor[place]
        for step, radius in enumerate(GRAINS):
            lost = means[step, place] - means[step + 1, place]
            row[f"Granularity_{radius}_{channel}"] = float(lost / over) if over > 0 else None
    return row


def _neighbours(regions: Sequence[Any]) -> list[Row]:
    """Return each object's distance to the nearest other one and how many are near."""
    if len(regions) < 2:
        return [{"Neighbors_Number": 0.0} for _ in regions]
    centres = np.array([region.centroid for region in regions])
    reach = _NEAR * float(np.mean([region.equivalent_diameter_area for region in regions]))
    tree = KDTree(centres)
    nearest = tree.query(centres, k=2)[0][:, 1]
    return [
        {
            "Neighbors_FirstClosestDistance": float(away),
            "Neighbors_Number": float(len(tree.query_ball_point(centre, reach)) - 1),
        }
        for centre, away in zip(centres, nearest, strict=True)
    ]
