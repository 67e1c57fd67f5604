"""Which output of the model each row reads."""

import torch
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models.model import Model

__all__ = ["Index", "columns_of", "pick"]

Index = int | str | tuple[int | str, ...]
"""A class: its number, its name, or one of these a row."""


def columns_of(index: Index, model: Model, outputs: Tensor, spelt: str) -> Tensor:
    """Return one output number a row, with names looked up and ranges checked."""
    rows, width = outputs.shape[:2]
    chosen = index if isinstance(index, tuple) else (index,) * rows
    if len(chosen) != rows:
        raise BadTarget(f"{spelt} names {len(chosen)} classes for {rows} rows; give one, or one a row")
    numbers = []
    for name in chosen:
        if isinstance(name, str) and name not in model.classes:
            raise BadTarget(
                f"{spelt}: there is no class {name!r}; the model has {', '.join(model.classes) or 'no class names'}"
            )
        number = model.classes.index(name) if isinstance(name, str) else name
        if not -width <= number < width:
            raise BadTarget(
                f"{spelt}: output {number} does not exist; the model returns {width} (shape {tuple(outputs.shape)})"
            )
        numbers.append(number % width)
    return torch.tensor(numbers, device=outputs.device)


def pick(outputs: Tensor, columns: Tensor) -> Tensor:
    """Return the output ``(B,)`` that each row of `columns` names."""
    return outputs.gather(1, columns[:, None])[:, 0]
