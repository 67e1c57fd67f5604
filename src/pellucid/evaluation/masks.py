"""Expert masks and labelled regions at image positions: masks of one or several annotators, an atlas for all rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.evaluation.positions import Grid

__all__ = ["Masks", "Regions", "read_masks", "read_regions"]

Masks = Mapping[str, Any] | Sequence[Any] | Tensor | None
"""``(N, *S)``, a sequence with None where an image has no mask, or annotator to either."""

Regions = Any
"""Labels ``(*S)`` for all images or ``(N, *S)``, an array or tensor; 0 is background. None where there are none."""


def read_masks(masks: Masks, grid: Grid, rows: int) -> dict[str, list[Tensor | None]]:
    """Return annotator to one boolean mask ``(P)`` an image, None for an image that this annotator did not mark.

    Label images count as marked wherever they are not 0.

    Raises
    ------
    ShapeError
        When the masks are not one an image or not of the image's axes.
    """
    if masks is None:
        return {}
    if len(grid.shapes) > 1:
        raise ShapeError(
            f"masks were given for a model of {len(grid.shapes)} inputs; they need a model of one image input"
        )
    named = masks if isinstance(masks, Mapping) else {"": masks}
    return {str(name): _of_one(given, grid.shapes[0], rows, str(name)) for name, given in named.items()}


def _of_one(given: Any, shape: tuple[int, ...], rows: int, name: str) -> list[Tensor | None]:
    whose = f"the masks of {name!r}" if name else "the masks"
    if len(given) != rows:
        raise ShapeError(f"{whose} are {len(given)} for {rows} images; give one an image, None where there is none")
    return [None if mask is None else _flat(mask, shape, f"{whose}, row {row},") for row, mask in enumerate(given)]


def _flat(mask: Any, shape: tuple[int, ...], whose: str) -> Tensor:
    tensor = torch.as_tensor(np.asarray(mask))
    if tuple(tensor.shape) not in {shape, (1, *shape)}:
        raise ShapeError(f"{whose} have shape {tuple(tensor.shape)}; the images' axes are {shape}")
    return (tensor != 0).flatten()


def read_regions(regions: Regions, grid: Grid, rows: int) -> Tensor | None:
    """Return the region of every position ``(N, P)``, 0 for background, or None.

    Raises
    ------
    ShapeError
        When the labels are no whole numbers from 0 on, or not of the images' axes.
    """
    if regions is None:
        return None
    labels = torch.as_tensor(np.asarray(regions))
    shapes = {grid.shapes[0], (rows, *grid.shapes[0])}
    if len(grid.shapes) > 1 or tuple(labels.shape) not in shapes:
        raise ShapeError(
            f"the regions have shape {tuple(labels.shape)}; the images' axes are {grid.shapes[0]}, with or without one "
            "row an image, and the model must have one input"
        )
    if labels.is_floating_point() or labels.is_complex() or (labels.numel() and int(labels.min()) < 0):
        raise ShapeError(f"regions are whole numbers, 0 for background; these are {labels.dtype}")
    return labels.long().expand(rows, *grid.shapes[0]).flatten(1)
