"""From pixels to objects: what every labelled cell, lesion or organ adds, as a sum and as a density."""

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import ShapeError

__all__ = ["object_sums", "object_table"]


def _fitted(labels: Tensor, values: Tensor) -> Tensor:
    """Return integer labels ``(N, *S)`` for a map ``(N, C, *S)``."""
    rows, shape = len(values), tuple(values.shape[2:])
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError(f"labels are whole numbers, 0 for background; these are {labels.dtype}")
    if tuple(labels.shape) not in {shape, (rows, *shape)}:
        raise ShapeError(
            f"labels have shape {tuple(labels.shape)} and the map {tuple(values.shape)}: give {shape} or {(rows, *shape)}"
        )
    if labels.numel() and int(labels.min()) < 0:
        raise ShapeError(
            f"labels are 0 for background and 1, 2, ... for objects; the smallest here is {int(labels.min())}"
        )
    return labels.long().to(values.device).expand(rows, *shape)


def object_sums(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Add up a map over every labelled object.

    Parameters
    ----------
    values
        ``(N, C, *S)``.
    labels
        Whole numbers ``(*S)`` or ``(N, *S)``; 0 is background.

    Returns
    -------
    sums
        ``(N, C, 1 + K)`` in double precision, background first.
    pixels
        ``(N, 1 + K)`` how many pixels each has.

    Raises
    ------
    ShapeError
        When the labels do not fit the map.
    """
    flat = _fitted(labels, values).flatten(1)
    count = 1 + (int(flat.max()) if flat.numel() else 0)
    rows, channels = values.shape[:2]
    sums = values.new_zeros((rows, channels, count), dtype=torch.float64)
    sums.scatter_add_(2, flat[:, None].expand(-1, channels, -1), values.flatten(2).double())
    pixels = flat.new_zeros((rows, count)).scatter_add_(1, flat, torch.ones_like(flat))
    return sums, pixels


def object_table(values: Tensor, labels: Tensor, ids: tuple[str, ...] | None = None) -> pa.Table:
    """Return one line an image, channel and object: label (0 is background), pixels, sum and density.

    Raises
    ------
    ShapeError
        When the labels or ids do not fit the map.
    """
    names = ids if ids is not None else tuple(str(row) for row in range(len(values)))
    if len(names) != len(values):
        raise ShapeError(f"{len(names)} ids were given for {len(values)} maps")
    sums, pixels = object_sums(values, labels)
    rows, channels, objects = (index.flatten() for index in _grid(sums))
    present = pixels[rows, objects] > 0
    rows, channels, objects = rows[present], channels[present], objects[present]
    size, total = pixels[rows, objects], sums[rows, channels, objects]
    return pa.table(
        {
            "image": [names[row] for row in rows.tolist()],
            "channel": channels.tolist(),
            "label": objects.tolist(),
            "pixels": size.tolist(),
            "sum": total.tolist(),
            "density": (total / size).tolist(),
        }
    )


def _grid(sums: Tensor) -> tuple[Tensor, ...]:
    return torch.meshgrid(*(torch.arange(length, device=sums.device) for length in sums.shape), indexing="ij")
