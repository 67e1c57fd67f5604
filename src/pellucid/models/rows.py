"""Rows of a batch: taken, repeated, joined."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pellucid.models.model import Inputs

__all__ = ["join_rows", "repeat_rows", "take_part", "take_rows"]


def take_rows(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    """Return those rows of every input."""
    return tuple(tensor[rows] for tensor in inputs)


def repeat_rows(inputs: Inputs, times: int) -> Inputs:
    """Return every row `times` times in a run: rows 0, 0, ..., 1, 1, ..."""
    return tuple(tensor.repeat_interleave(times, 0) for tensor in inputs)


def join_rows(parts: Sequence[Inputs]) -> Inputs:
    """Return the rows of all parts, input by input."""
    return parts[0] if len(parts) == 1 else tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def take_part(placed: Mapping[str, Tensor], part: slice) -> dict[str, Tensor]:
    """Return those rows of the values of every layer."""
    return {name: values[part] for name, values in placed.items()}
