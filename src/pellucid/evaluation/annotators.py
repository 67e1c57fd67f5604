"""How far experts agree with each other: the ceiling of what a map can score against any one of them."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from pellucid.errors import ShapeError

__all__ = ["ANNOTATORS", "annotator_agreement"]

Mask = NDArray[np.bool_]

ANNOTATORS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("dice", pa.float64()),
        pa.field("kappa", pa.float64()),
        pa.field("surface", pa.float64()),
    ]
)
"""Columns of `annotator_agreement`: one line an image and pair of annotators who both marked it."""


def annotator_agreement(
    masks: Mapping[str, Sequence[Any]], *, ids: Sequence[str] | None = None, pixel_size: Sequence[float] | None = None
) -> pa.Table:
    """Compare the masks of every two annotators, image by image.

    Parameters
    ----------
    masks
        Annotator to one mask ``(*S)`` an image, None where this annotator did not look at the image; not 0 is marked.
    ids
        One text an image; default: the row numbers.
    pixel_size
        Physical size of a pixel along each axis, for the surface distance; default: in pixels.

    Returns
    -------
    pyarrow.Table
        ``dice``: twice the common part over the sum of both, 1 for equal masks, null where both are empty; ``kappa``:
        Cohen's, agreement of pixels beyond chance, null where neither could disagree; ``surface``: mean distance of the
        rims from each other, null where one mask is empty.

    Raises
    ------
    ShapeError
        When there are fewer than two annotators, or their masks do not fit each other.

    References
    ----------
    Cohen 1960, A coefficient of agreement for nominal scales; Dice 1945; Heimann et al. 2009 for the surface distance.
    """
    if len(masks) < 2:
        raise ShapeError(f"agreement needs two annotators or more; masks are of {', '.join(masks) or 'none'}")
    rows = {name: len(given) for name, given in masks.items()}
    if len(set(rows.values())) != 1:
        raise ShapeError(f"annotators have masks of other numbers of images ({rows}); give None where there is none")
    names = list(ids) if ids is not None else [str(row) for row in range(next(iter(rows.values())))]
    if len(names) != next(iter(rows.values())):
        raise ShapeError(f"{len(names)} ids were given for {next(iter(rows.values()))} images")
    lines = []
    for first, second in combinations(masks, 2):
        for name, one, two in zip(names, masks[first], masks[second], strict=True):
            if one is not None and two is not None:
                lines.append(
                    {"image": name, "first": first, "second": second}
                    | _compare(_read(one), _read(two), f"{first} and {second} on {name}", pixel_size)
                )
    return pa.Table.from_pylist(lines, schema=ANNOTATORS)


def _read(mask: Any) -> Mask:
    marked: Mask = np.asarray(mask) != 0
    return marked


def _compare(one: Mask, two: Mask, where: str, pixel_size: Sequence[float] | None) -> dict[str, float | None]:
    if one.shape != two.shape:
        raise ShapeError(f"the masks of {where} have shapes {one.shape} and {two.shape}")
    if pixel_size is not None and len(pixel_size) != one.ndim:
        raise ShapeError(f"pixel_size has {len(pixel_size)} numbers and the masks {one.ndim} axes {one.shape}")
    total = int(one.sum()) + int(two.sum())
    dice = 2 * int((one & two).sum()) / total if total else None
    return {"dice": dice, "kappa": _kappa(one, two), "surface": _surface(one, two, pixel_size)}


def _kappa(one: Mask, two: Mask) -> float | None:
    seen = float((one == two).mean())
    chance = float(one.mean() * two.mean() + (1 - one.mean()) * (1 - two.mean()))
    return (seen - chance) / (1 - chance) if chance < 1 else None


def _rim(mask: Mask) -> Mask:
    """Return the marked pixels that touch what is not marked; beyond the image nothing is."""
    inner = ndimage.binary_erosion(mask, border_value=0)
    rim: Mask = mask & ~inner
    return rim


def _surface(one: Mask, two: Mask, pixel_size: Sequence[float] | None) -> float | None:
    if not one.any() or not two.any():
        return None
    rims = [_rim(mask) for mask in (one, two)]
    away = [ndimage.distance_transform_edt(~rim, sampling=pixel_size) for rim in rims]
    distances = np.concatenate([away[1][rims[0]], away[0][rims[1]]])
    return float(distances.mean())
