"""From a map to a measured feature: what lies under the relevance, held against the rest of the same object."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.images.imageset import ImageRecord
from pellucid.interpretation.evidence import Case
from pellucid.intervals import mean_interval, or_null
from pellucid.measure.spots import find_spots

__all__ = ["relevance_effects", "relevance_measures"]

Array = NDArray[np.float64]

_TOP = 0.1
"""Share of the object's area that counts as under the relevance."""


def relevance_measures(maps: Tensor, cases: Sequence[Case], record: ImageRecord) -> pa.Table:
    """Measure what lies under the strongest tenth of each map within the object, and in the rest of the object.

    Parameters
    ----------
    maps
        ``(N, C, *S)`` signed, at the images' resolution; channels are added up, the sign is dropped.
    cases
        Images with outlines, one a map.
    record
        Channel names, pixel size and display range.

    Returns
    -------
    pyarrow.Table
        One row an image and measure: image, group, measure, under, elsewhere, difference (in standard deviations of the
        measure within the object). Measures: intensity by channel, local roughness, share of spots, depth below the
        outline (0 at the rim, 1 at the deepest).

    Raises
    ------
    ShapeError
        When a map does not have the image's spatial shape.
    """
    rows = []
    for values, case in zip(maps, cases, strict=True):
        if values.shape[1:] != case.outline.shape:
            raise ShapeError(
                f"the map of {case.id} is {tuple(values.shape[1:])}, the image {tuple(case.outline.shape)}"
            )
        inside = case.outline.numpy() > 0
        strength = values.sum(0).abs().double().cpu().numpy()
        top = _top(strength, inside)
        for name, field in _fields(case, inside, record).items():
            spread = field[inside].std()
            under, rest = float(field[top].mean()), float(field[inside & ~top].mean())
            rows.append(
                {"image": case.id, "group": case.group, "measure": name, "under": under, "elsewhere": rest,
                 "difference": float((under - rest) / spread) if spread > 0 else 0.0}
            )  # fmt: skip
    schema = pa.schema(
        [("image", pa.string()), ("group", pa.string()), ("measure", pa.string()), ("under", pa.float64()),
         ("elsewhere", pa.float64()), ("difference", pa.float64())]
    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


def _top(strength: Array, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count = max(1, round(_TOP * int(inside.sum())))
    within = np.where(inside, strength, -np.inf).ravel()
    top = np.zeros(inside.size, dtype=np.bool_)
    top[np.argsort(-within, kind="stable")[:count]] = True
    return top.reshape(inside.shape)


def _fields(case: Case, inside: NDArray[np.bool_], record: ImageRecord) -> dict[str, Array]:
    """Return what is measured at every pixel."""
    pixels = case.image.double().numpy()
    grey = pixels.mean(0)
    low, high = record.display_range
    fields = {f"Intensity_{name}": channel for name, channel in zip(record.channels, pixels, strict=True)}
    mean, square = (ndimage.uniform_filter(field, 3) for field in (grey, grey**2))
    fields["Roughness"] = np.sqrt(np.maximum(square - mean**2, 0.0))
    depth = ndimage.distance_transform_edt(inside, sampling=record.spacing)
    fields["Depth"] = depth / depth.max()
    spots = find_spots(grey, inside, (3.0,) * inside.ndim, contrast=0.08 * (high - low)).labels > 0
    fields["Spots"] = spots.astype(np.float64)
    return fields


def relevance_effects(table: pa.Table, *, seed: int = 0) -> pa.Table:
    """Say over all images what the map prefers: the mean difference of each measure with its interval over groups.

    Returns
    -------
    pyarrow.Table
        One row a measure, largest difference first: measure, under, elsewhere, difference with low and high, n, groups.
    """
    rows = []
    for name in dict.fromkeys(table["measure"].to_pylist()):
        own = [row for row in table.to_pylist() if row["measure"] == name]
        found = mean_interval([row["difference"] for row in own], groups=[row["group"] for row in own], seed=seed)
        rows.append(
            {"measure": name, "under": float(np.mean([row["under"] for row in own])),
             "elsewhere": float(np.mean([row["elsewhere"] for row in own])), "difference": found.value,
             "low": or_null(found.low), "high": or_null(found.high), "n": found.n, "groups": found.groups}
        )  # fmt: skip
    return pa.Table.from_pylist(sorted(rows, key=lambda row: -abs(float(row["difference"]))))
