"""Segmenters: which elements of a row are hidden together, as labels that broadcast over its inputs."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from skimage.segmentation import slic
from torch import Tensor

from pellucid.attribution.content import Content
from pellucid.attribution.perturbation.grids import labels_of, regular
from pellucid.errors import ShapeError
from pellucid.models import Inputs

__all__ = ["Labels", "Segmentation", "Segments", "segment", "shared_space"]

COMPACTNESS = (0.1, 0.3, 1.0, 3.0)
"""Tried from the most faithful to edges to the most regular, until SLIC keeps about the number asked for."""


class Labels(Content):
    """A label image as a setting.

    Parameters
    ----------
    tensor
        Integers ``(*S)``, the same for every image, or ``(N, *S)``, one an image. Every value is a segment, 0 too.
    """

    noun = "labels"

    def __init__(self, tensor: Tensor) -> None:
        if tensor.is_floating_point() or tensor.is_complex():
            raise ShapeError(f"labels are integers (*S) or (N, *S), not {tensor.dtype}")
        super().__init__(tensor.long())


def _spec(value: object) -> object:
    """Take a count, a name or labels; say in one sentence what else is wrong."""
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        return Labels(value)
    if isinstance(value, str) and value.startswith("labels("):
        raise PydanticCustomError(
            "labels", "labels cannot be read back from their digest; pass the label tensor itself"
        )
    named = isinstance(value, str) and (value in {"pixels", "channels"} or _cells(value) is not None)
    counted = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (named or counted or isinstance(value, Labels)):
        raise PydanticCustomError(
            "segments", 'it is a count of at least 1, "pixels", "channels", "grid(6, 6)" or an integer label tensor'
        )
    return value


Segments = Annotated[int | str | Labels, BeforeValidator(_spec)]
"""Annotation of a recipe's ``segments``."""


def _cells(text: str) -> tuple[int, ...] | None:
    found = re.fullmatch(r"grid\(\s*([1-9]\d*(?:\s*,\s*[1-9]\d*)*)\s*,?\s*\)", text)
    return tuple(int(number) for number in found[1].split(",")) if found else None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The players of one row.

    Attributes
    ----------
    labels
        One integer tensor an input, numbered 0 to `players` − 1, that broadcasts over the row's ``(C, *S)``.
    shapes
        ``(C, *S)`` of each input.
    players
        Number of segments.
    """

    labels: Inputs
    shapes: tuple[torch.Size, ...]
    players: int

    @cached_property
    def sizes(self) -> Tensor:
        """``(players,)`` number of elements of each segment, over all channels and inputs."""
        counts = [
            torch.bincount(labels.flatten(), minlength=self.players) * (math.prod(shape) // labels.numel())
            for labels, shape in zip(self.labels, self.shapes, strict=True)
        ]
        return torch.stack(counts).sum(0)

    def spread(self, effects: Tensor) -> Inputs:
        """Spread ``(players, T)`` effects evenly over their elements: ``(T, C, *S)`` an input, with the same sum."""
        density = (effects / self.sizes.to(effects.device)[:, None]).T
        return tuple(
            density[:, labels.to(effects.device)].expand(-1, *shape)
            for labels, shape in zip(self.labels, self.shapes, strict=True)
        )


def shared_space(inputs: Inputs, asked: str) -> tuple[int, ...]:
    """Return the spatial axes that all inputs share.

    Raises
    ------
    ShapeError
        When an input has none, or they differ.
    """
    shapes = [tuple(tensor.shape) for tensor in inputs]
    space = shapes[0][2:]
    if not space or any(shape[2:] != space for shape in shapes):
        seen = " and ".join(map(str, shapes))
        raise ShapeError(
            f"{asked} needs inputs (N, C, *S) with the same spatial axes, not {seen}; "
            'segments="channels" or segments="pixels" of ablation, lime or kernel_shap take any inputs'
        )
    return space


def segment(segments: int | str | Labels, inputs: Inputs) -> tuple[list[Segmentation], tuple[str, ...]]:
    """Return one segmentation a row, each from that row alone, and warnings.

    A count means SLIC superpixels in two or three spatial axes, equal runs in one, and a regular grid in more. Inputs
    that share their spatial axes are segmented together, by the first; ``"pixels"`` and ``"channels"`` number every
    input on its own.

    Raises
    ------
    ShapeError
        When labels, cells or inputs do not fit each other.
    """
    if segments == "pixels":
        return _alike(_numbered([(1, *tensor.shape[2:]) for tensor in inputs]), inputs), ()
    if segments == "channels":
        flat = [(tensor.shape[1], *[1] * (tensor.ndim - 2)) for tensor in inputs]
        return _alike(_numbered(flat), inputs), ()
    space = shared_space(inputs, f"segments={segments!r}")
    if isinstance(segments, Labels):
        return _given(segments.tensor, inputs, space), ()
    if isinstance(segments, str):
        return _alike(labels_of(_fitting(segments, space), space), inputs), ()
    if segments >= math.prod(space):
        return _alike(torch.arange(math.prod(space)).view(space), inputs), ()
    if len(space) not in {2, 3}:
        return _alike(labels_of(regular(segments, space), space), inputs), ()
    return _superpixels(segments, inputs, space)


def _row(labels: Tensor | Inputs, inputs: Inputs) -> Segmentation:
    shapes = tuple(tensor.shape[1:] for tensor in inputs)
    if isinstance(labels, Tensor):
        labels = (labels[None],) * len(inputs)
    labels = tuple(part.to(inputs[0].device, torch.int32) for part in labels)
    return Segmentation(labels, shapes, 1 + max(int(part.max()) for part in labels))


def _alike(labels: Tensor | Inputs, inputs: Inputs) -> list[Segmentation]:
    return [_row(labels, inputs)] * len(inputs[0])


def _numbered(shapes: list[tuple[int, ...]]) -> Inputs:
    parts, start = [], 0
    for shape in shapes:
        parts.append(torch.arange(start, start + math.prod(shape)).view(shape))
        start += math.prod(shape)
    return tuple(parts)


def _dense(labels: Tensor) -> Tensor:
    _, dense = torch.unique(labels, return_inverse=True)
    return torch.as_tensor(dense)


def _given(labels: Tensor, inputs: Inputs, space: tuple[int, ...]) -> list[Segmentation]:
    rows = len(inputs[0])
    if tuple(labels.shape) == space:
        return _alike(_dense(labels), inputs)
    if tuple(labels.shape) != (rows, *space):
        raise ShapeError(f"labels have shape {tuple(labels.shape)}; the images need {space} or {(rows, *space)}")
    return [_row(_dense(part), inputs) for part in labels]


def _fitting(text: str, space: tuple[int, ...]) -> tuple[int, ...]:
    cells = _cells(text)
    if cells is None or len(cells) != len(space) or any(cell > size for cell, size in zip(cells, space, strict=True)):
        raise ShapeError(
            f"segments={text!r} does not fit spatial axes {space}: one number of cells an axis, none above its size"
        )
    return cells


def _superpixels(count: int, inputs: Inputs, space: tuple[int, ...]) -> tuple[list[Segmentation], tuple[str, ...]]:
    found = [_slic(image, count) for image in inputs[0].detach().cpu().double().numpy()]
    rows = [_row(labels_of(regular(count, space), space) if labels is None else labels, inputs) for labels in found]
    lost = sum(labels is None for labels in found)
    if not lost:
        return rows, ()
    return rows, (
        f"SLIC kept far from {count} segments in {lost} of {len(found)} images; a regular grid stands in there",
    )


def _slic(image: np.ndarray, count: int) -> Tensor | None:
    """Return superpixels of ``(C, *S)``, or None where no compactness keeps about `count` of them."""
    flat = image.reshape(len(image), -1)
    low, high = np.percentile(flat, (1, 99), axis=1)
    axes = (-1, *[1] * (image.ndim - 1))
    clipped = np.clip(image, low.reshape(axes), high.reshape(axes)) - low.reshape(axes)
    scaled = np.moveaxis(clipped / max(float((high - low).max()), np.finfo(np.float64).tiny), 0, -1)
    run: Callable[..., np.ndarray] = slic
    for compactness in COMPACTNESS:
        labels = run(scaled, count, compactness=compactness, sigma=1, convert2lab=False, start_label=0, channel_axis=-1)
        dense = _dense(torch.as_tensor(labels))
        if count / 2 <= int(dense.max()) + 1 <= 2 * count:
            return dense
    return None
