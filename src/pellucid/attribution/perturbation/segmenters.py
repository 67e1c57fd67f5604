"""Segmenters: which elements of a row are hidden together, as labels that broadcast over its inputs."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.perturbation.grids import labels_of, regular
from pellucid.attribution.perturbation.spelling import Labels, Segments, Spec, spec_of
from pellucid.attribution.perturbation.superpixels import REGIONS
from pellucid.errors import ShapeError
from pellucid.models import Inputs

__all__ = ["Labels", "Segmentation", "Segments", "alternatives", "players", "segment", "shared_space"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The players of one row.

    Attributes
    ----------
    labels
        One integer tensor an input, numbered 0 to `players` − 1, that broadcasts over the row's ``(C, *S)``; the number
        `players` itself marks elements that belong to no segment and are always shown.
    shapes
        ``(C, *S)`` of each input.
    players
        Number of segments.
    values
        ``(players,)`` the value of each segment in the label image that was given; None elsewhere.
    """

    labels: Inputs
    shapes: tuple[torch.Size, ...]
    players: int
    values: Tensor | None = None

    @cached_property
    def background(self) -> bool:
        """Whether some elements belong to no segment."""
        return any(int(labels.max()) == self.players for labels in self.labels)

    @cached_property
    def sizes(self) -> Tensor:
        """``(players,)`` number of elements of each segment, over all channels and inputs."""
        counts = [
            torch.bincount(labels.flatten(), minlength=self.players + 1) * (math.prod(shape) // labels.numel())
            for labels, shape in zip(self.labels, self.shapes, strict=True)
        ]
        return torch.stack(counts).sum(0)[: self.players]

    def spread(self, effects: Tensor) -> Inputs:
        """Spread ``(players, T)`` effects evenly over their elements: ``(T, C, *S)`` an input, with the same sum."""
        density = functional.pad((effects / self.sizes.to(effects.device)[:, None]).T, (0, 1))
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
    """Return one segmentation a row, each from that row alone and without randomness, and warnings.

    - ``50``: about so many SLIC superpixels in two or three spatial axes, equal runs in one, a regular grid in more.
    - ``"slic(50)"``, ``"watershed(50)"``: superpixels, or basins of the edge strength, in one to three axes;
      ``spacing=(2.0, 0.5, 0.5)`` gives the physical distance of neighbours along each axis.
    - ``"quantiles(8)"``: bands of equal area by intensity, wherever they lie.
    - ``"grid(6, 6)"``, ``"regular(50)"``: cells an axis, or about so many near-cubic ones.
    - ``"pixels"``, ``"channels"``: every pixel with all its channels, every channel of every input.
    - ``"channels(slic(50))"``: each channel of each region of one of the above.
    - `Labels`: nuclei, cells, organs, grains, an atlas; with or without a background that is always shown.

    Inputs that share their spatial axes are segmented together, by the first.

    Raises
    ------
    ShapeError
        When labels, cells, spacing or inputs do not fit each other.
    """
    if segments == "pixels":
        return _alike(_numbered([(1, *tensor.shape[2:]) for tensor in inputs]), inputs), ()
    if segments == "channels":
        flat = [(tensor.shape[1], *[1] * (tensor.ndim - 2)) for tensor in inputs]
        return _alike(_numbered(flat), inputs), ()
    space = shared_space(inputs, f"segments={segments!r}")
    if isinstance(segments, Labels):
        return _given(segments, inputs, space), ()
    spec = _spec(segments, space)
    if spec.name not in REGIONS:
        return _alike(_by_channel(_cells(spec, space, segments), inputs, spec), inputs), ()
    return _from_content(spec, inputs, space)


def players(segments: int | str | Labels, inputs: Inputs) -> int:
    """Return the number of segments of a row, about where only segmenting it would tell."""
    if segments in {"pixels", "channels"} or isinstance(segments, Labels):
        return max(own.players for own in segment(segments, inputs)[0])
    spec = _spec(segments, shared_space(inputs, f"segments={segments!r}"))
    count = math.prod(spec.counts)
    return count * sum(tensor.shape[1] for tensor in inputs) if spec.by_channel else count


def alternatives(segments: int | str | Labels, own: Segmentation, row: Inputs, most: int) -> list[Segmentation]:
    """Return other segmentations of one row into about as many regions, `most` at most.

    Of superpixels, watershed basins and regular cells those that were not asked for; none where segments are channels
    or single pixels.
    """
    spaces = {tuple(tensor.shape[2:]) for tensor in row}
    pixels = math.prod(next(iter(spaces)))
    if len(spaces) > 1 or segments in {"pixels", "channels"} or 2 * own.players > pixels:
        return []
    asked = None if isinstance(segments, Labels) else _spec(segments, next(iter(spaces)))
    if asked is not None and asked.by_channel:
        return []
    name = "regular" if asked is not None and asked.name == "grid" else getattr(asked, "name", None)
    kinds = [kind for kind in ("slic", "watershed", "regular") if kind != name][:most]
    return [segment(f"{kind}({own.players})", row)[0][0] for kind in kinds]


def _spec(segments: int | str, space: tuple[int, ...]) -> Spec:
    if isinstance(segments, int):
        content = len(space) in {2, 3} and segments < math.prod(space)
        return Spec("slic" if content else "regular", (segments,))
    spec = spec_of(segments)
    if spec is None:
        raise ShapeError(f"segments={segments!r} is no known way to cut an image into segments")
    if spec.spacing is not None and len(spec.spacing) != len(space):
        raise ShapeError(f"segments={segments!r}: spacing has not one number for each of the spatial axes {space}")
    if spec.name in REGIONS and len(space) > 3:
        raise ShapeError(f"segments={segments!r} takes one to three spatial axes, not {space}; use a grid")
    return spec


def _cells(spec: Spec, space: tuple[int, ...], segments: int | str) -> Tensor:
    cells = spec.counts
    if spec.name == "regular":
        cells = space if cells[0] >= math.prod(space) else regular(cells[0], space)
    if len(cells) != len(space) or any(cell > size for cell, size in zip(cells, space, strict=True)):
        raise ShapeError(
            f"segments={segments!r} does not fit spatial axes {space}: one number of cells an axis, none above its size"
        )
    return labels_of(cells, space)


def _row(
    labels: Tensor | Inputs, inputs: Inputs, values: Tensor | None = None, count: int | None = None
) -> Segmentation:
    shapes = tuple(tensor.shape[1:] for tensor in inputs)
    if isinstance(labels, Tensor):
        labels = (labels[None],) * len(inputs)
    labels = tuple(part.to(inputs[0].device, torch.int32) for part in labels)
    found = 1 + max(int(part.max()) for part in labels)
    return Segmentation(labels, shapes, found if count is None else count, values)


def _alike(labels: Tensor | Inputs, inputs: Inputs) -> list[Segmentation]:
    return [_row(labels, inputs)] * len(inputs[0])


def _numbered(shapes: list[tuple[int, ...]]) -> Inputs:
    parts, start = [], 0
    for shape in shapes:
        parts.append(torch.arange(start, start + math.prod(shape)).view(shape))
        start += math.prod(shape)
    return tuple(parts)


def _by_channel(labels: Tensor, inputs: Inputs, spec: Spec) -> Tensor | Inputs:
    """Give each channel of each region a number of its own where that was asked for."""
    if not spec.by_channel:
        return labels
    regions, parts, start = 1 + int(labels.max()), [], 0
    for tensor in inputs:
        channels = torch.arange(start, start + tensor.shape[1]).view(-1, *[1] * labels.ndim)
        parts.append(channels * regions + labels)
        start += tensor.shape[1]
    return tuple(parts)


def _given(labels: Labels, inputs: Inputs, space: tuple[int, ...]) -> list[Segmentation]:
    rows, given = len(inputs[0]), labels.tensor
    if tuple(given.shape) == space:
        return [_labelled(given, labels.background, inputs)] * rows
    if tuple(given.shape) != (rows, *space):
        raise ShapeError(f"labels have shape {tuple(given.shape)}; the images need {space} or {(rows, *space)}")
    return [_labelled(part, labels.background, inputs) for part in given]


def _labelled(given: Tensor, background: int | None, inputs: Inputs) -> Segmentation:
    values = torch.unique(given)
    if background is not None:
        values = values[values != background]
        if not len(values):
            raise ShapeError(f"an image has no label but the background {background}, so there is nothing to hide")
    dense = torch.searchsorted(values, given.contiguous())
    if background is not None:
        dense[given == background] = len(values)
    return _row(dense, inputs, values, len(values))


def _from_content(spec: Spec, inputs: Inputs, space: tuple[int, ...]) -> tuple[list[Segmentation], tuple[str, ...]]:
    count, make = spec.counts[0], REGIONS[spec.name].make
    found = [make(image, count, spec.spacing) for image in inputs[0].detach().cpu().double().numpy()]
    grid = labels_of(regular(min(count, math.prod(space)), space), space)
    rows = [_row(_by_channel(grid if labels is None else labels, inputs, spec), inputs) for labels in found]
    lost = sum(labels is None for labels in found)
    if not lost:
        return rows, ()
    return rows, (
        f"{spec.name} kept far from {count} segments in {lost} of {len(found)} images; a regular grid stands in there",
    )
