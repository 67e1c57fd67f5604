"""How `segments` is written: a count, a name with its settings, or labels."""

import ast
import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from torch import Tensor

from pellucid.attribution.content import Content
from pellucid.attribution.perturbation.superpixels import REGIONS, Spacing
from pellucid.errors import ShapeError

__all__ = ["Labels", "Segments", "Spec", "spec_of"]

_TAKES = (
    'it is a count of at least 1, "pixels", "channels", "grid(6, 6)", "regular(50)", '
    + ", ".join(f'"{name}(50)"' for name in REGIONS)
    + ', "channels(...)" of one of these, or an integer label tensor'
)


class Labels(Content):
    """A label image (nuclei, cells, organs, grains, an atlas) as a setting.

    Parameters
    ----------
    tensor
        Integers ``(*S)``, the same for every image, or ``(N, *S)``, one an image. Every value that occurs in an image is
        a segment of it; a region that an image lacks is simply none of its segments.
    background
        A label that is no segment: those pixels are always shown. None makes every value a segment, 0 too.
    """

    noun = "labels"

    def __init__(self, tensor: Tensor, background: int | None = None) -> None:
        if tensor.is_floating_point() or tensor.is_complex():
            raise ShapeError(f"labels are integers (*S) or (N, *S), not {tensor.dtype}")
        super().__init__(tensor.long())
        self.background = background
        if background is not None:
            self.digest = hashlib.sha256(f"{self.digest}:{background}".encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """A name with its settings, read.

    Attributes
    ----------
    name
        ``"pixels"``, ``"channels"``, ``"grid"``, ``"regular"`` or a name of `REGIONS`.
    counts
        Cells an axis of a grid; else the one number asked for.
    spacing
        Physical spacing along each axis, where it was given.
    by_channel
        Whether each channel of each region is a segment of its own.
    """

    name: str
    counts: tuple[int, ...] = ()
    spacing: Spacing = None
    by_channel: bool = False


def spec_of(text: str) -> Spec | None:
    """Return what a text such as ``"slic(200, spacing=(2.0, 0.5, 0.5))"`` says, or None where it says nothing known."""
    inner = re.fullmatch(r"channels\((.+)\)", text.strip(), re.DOTALL)
    if inner:
        found = spec_of(inner[1])
        known = found is not None and not found.by_channel and found.name not in {"pixels", "channels"}
        return Spec(found.name, found.counts, found.spacing, by_channel=True) if found and known else None
    if text in {"pixels", "channels"}:
        return Spec(text)
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        counts = tuple(ast.literal_eval(value) for value in call.args)
        settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        return None
    return _checked(call.func.id, counts, settings)


def _checked(name: str, counts: tuple[object, ...], settings: dict[str | None, object]) -> Spec | None:
    whole = tuple(count for count in counts if isinstance(count, int) and not isinstance(count, bool) and count > 0)
    one = len(whole) == 1 or name == "grid"
    if name not in {"grid", "regular", *REGIONS} or not whole or len(whole) < len(counts) or not one:
        return None
    spacing = settings.pop("spacing", None) if name in {"slic", "watershed"} else None
    if settings or not (spacing is None or _lengths(spacing)):
        return None
    return Spec(name, whole, tuple(float(step) for step in spacing) if isinstance(spacing, tuple) else None)


def _lengths(spacing: object) -> bool:
    return isinstance(spacing, tuple) and all(
        isinstance(step, int | float) and 0 < step < float("inf") for step in spacing
    )


def _read(value: object) -> object:
    """Take a count, a name or labels; say in one sentence what else is wrong."""
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        return Labels(value)
    if isinstance(value, str) and value.startswith("labels("):
        raise PydanticCustomError(
            "labels", "labels cannot be read back from their digest; pass the label tensor itself"
        )
    named = isinstance(value, str) and spec_of(value) is not None
    counted = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (named or counted or isinstance(value, Labels)):
        raise PydanticCustomError("segments", _TAKES)
    return value


Segments = Annotated[int | str | Labels, BeforeValidator(_read)]
"""Annotation of a recipe's ``segments``."""
