"""Expert masks at image positions: one a row, of one or several annotators."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.evaluation.positions import Grid

__all__ = ["Masks", "read_masks"]

Masks = Mapping[str, Any] | Sequence[Any] | Tensor | None
"""``(N, *S)``, a sequence with None where an image has no mask, or annotator to either."""


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
