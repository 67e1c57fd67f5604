"""Backgrounds: the set of reference images that a method averages over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from torch import Tensor

from pellucid.attribution.content import Content
from pellucid.attribution.fills import Fill, FillValue, known, meaning, reference
from pellucid.attribution.method import Call, row_seeds
from pellucid.errors import ShapeError
from pellucid.models import Inputs, take_rows

__all__ = ["Background", "Images", "References", "references"]


class Images(Content):
    """Background images as a setting.

    Parameters
    ----------
    tensor
        ``(M, C, *S)`` in model space, M ≥ 1, finite.
    """

    noun = "images"

    def __init__(self, tensor: Tensor) -> None:
        if tensor.ndim < 3 or not tensor.is_floating_point() or not len(tensor):
            raise ShapeError(
                f"background images are floating-point (M, C, *S) in model space, not {tuple(tensor.shape)} of {tensor.dtype}"
            )
        if not bool(tensor.isfinite().all()):
            raise ShapeError(f"the background images {tuple(tensor.shape)} hold NaN or infinity")
        super().__init__(tensor)


def _spec(value: object) -> object:
    """Take images; check the names of fills here, where each can be named; the rest is left to the annotation."""
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        return Images(value)
    if isinstance(value, str) and value.startswith("images("):
        raise PydanticCustomError(
            "images", "images cannot be read back from their digest; pass the tensor (M, C, *S) itself"
        )
    if isinstance(value, list | tuple) and not value:
        raise PydanticCustomError("background", "a background holds at least one fill")
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, str):
            known(part)
    return value


Background = Annotated[Fill | tuple[Fill, ...] | Images, BeforeValidator(_spec)]
"""Annotation of a recipe's ``background``: one fill, several fills, or background images ``(M, C, *S)``.

A tuple of numbers alone is one fill, a number a channel.
"""


@dataclass(frozen=True)
class References:
    """The references of one call: `len` of them a row, made when they are asked for.

    Attributes
    ----------
    source
        Background images, or fills.
    call
        The call whose rows they stand against.
    """

    source: Tensor | tuple[FillValue, ...]
    call: Call

    def __len__(self) -> int:
        return len(self.source)

    @property
    def meaning(self) -> str:
        """What the references are, in words, as a result names them."""
        if isinstance(self.source, Tensor):
            return f"{len(self)} background images"
        return "; ".join(meaning(fill) for fill in self.source)

    def of(self, owner: Tensor, pick: Tensor) -> Inputs:
        """Return for member i the reference number ``pick[i]`` of row ``owner[i]``, one tensor an input."""
        if isinstance(self.source, Tensor):
            return (self.source[pick].to(self.call.inputs[0]),)
        found = tuple(x.new_empty((len(owner), *x.shape[1:])) for x in self.call.inputs)
        for number in torch.unique(pick).tolist():
            members = (pick == number).nonzero().flatten()
            rows, back = torch.unique(owner[members], return_inverse=True)
            filled = reference(self.source[number], take_rows(self.call.inputs, rows), self._seeds(rows, number))
            for whole, part in zip(found, filled, strict=True):
                whole[members] = part[back]
        return found

    def _seeds(self, rows: Tensor, number: int) -> Sequence[int]:
        """Return streams of their own for every reference; those of the first are the rows' own."""
        own = [self.call.seeds[row] for row in rows.tolist()]
        return own if not number else [row_seeds(seed, (f"background {number}",), 1)[0] for seed in own]


def references(background: FillValue | tuple[object, ...] | Images, call: Call) -> References:
    """Return the references that a background means for a call.

    Raises
    ------
    ShapeError
        When background images do not have the explained images' shape.
    """
    if isinstance(background, Images):
        shapes = [tuple(x.shape[1:]) for x in call.inputs]
        if shapes != [tuple(background.tensor.shape[1:])]:
            raise ShapeError(
                f"background images of shape {tuple(background.tensor.shape[1:])} do not fit inputs of shape "
                f"{', '.join(map(str, shapes))}: give (M, C, *S) of the same C and S for a net of one input, or name fills"
            )
        return References(background.tensor, call)
    several = isinstance(background, tuple) and not all(isinstance(part, int | float) for part in background)
    fills = background if several and isinstance(background, tuple) else (background,)
    return References(fills, call)  # type: ignore[arg-type]  # the annotation of the recipe has checked each
