"""Occlusion by sliding windows, and ablation of one segment at a time."""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import Game, Maps, affordable
from pellucid.attribution.perturbation.render import Windows, respond
from pellucid.attribution.perturbation.samplers import LeaveOneOut
from pellucid.attribution.perturbation.segmenters import Segments, players, shared_space
from pellucid.attribution.perturbation.separable import boxes, carry
from pellucid.errors import ShapeError
from pellucid.models import Inputs

__all__ = ["ablation", "occlusion"]

Size = Annotated[int, Field(ge=1)]

SHARE = 6
"""The default window is one part in so many of each axis."""


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class occlusion(Method):
    """How much the score falls when a window of the image is hidden.

    A pixel's value is the mean over the windows that cover it of f(x) − f(hidden), divided by the window's number of
    elements; so where windows do not overlap the values of a window sum to its effect. The last window of an axis is
    cut at the rim.

    Attributes
    ----------
    window
        Pixels, one number or one an axis (Y, X); default a sixth of each axis.
    stride
        Pixels between windows; default half the window.
    fill
        What stands in for hidden pixels: a name of `FILLS`, a number, or one a channel.

    References
    ----------
    Zeiler & Fergus 2014, Visualizing and understanding convolutional networks.
    """

    window: Size | tuple[Size, ...] | None = None
    stride: Size | tuple[Size, ...] | None = None
    fill: Fill = "zero"

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="Which place does the model miss when it is hidden?",
        cost="((S − window) / stride + 1) ** axes forwards",
        reference="Zeiler & Fergus 2014, Visualizing and understanding convolutional networks",
        warning="hidden windows are images that the model never saw; the fill and the window's size shape the map",
        mechanism="perturbation",
    )

    def _sizes(self, space: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        window = _per_axis(self.window, space, f"{self.name}(window={self.window})")
        if window is None:
            window = tuple(max(1, round(size / SHARE)) for size in space)
        stride = _per_axis(self.stride, space, f"{self.name}(stride={self.stride})")
        if stride is None:
            stride = tuple((size + 1) // 2 for size in window)
        if any(part > whole for part, whole in zip(window, space, strict=True)):
            raise ShapeError(f"{self}: window {window} is larger than the image's axes {space}")
        if any(step > size for step, size in zip(stride, window, strict=True)):
            raise ShapeError(f"{self}: stride {stride} is larger than window {window} and would leave pixels uncovered")
        return window, stride

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the number of windows."""
        space = shared_space(inputs, self.name)
        return math.prod(len(_starts(*axis)) for axis in zip(space, *self._sizes(space), strict=True))

    def attribute(self, call: Call) -> Attribution:
        """Hide every window of every row."""
        space = shared_space(call.inputs, self.name)
        window, stride = self._sizes(space)
        starts = [_starts(*axis) for axis in zip(space, window, stride, strict=True)]
        count = math.prod(map(len, starts))
        affordable(self, call, count, "use a larger stride or window")
        call.passes.expect(count * len(call), "hiding windows")
        windows = [
            (slice(None), *(slice(start, start + width) for start, width in zip(corner, window, strict=True)))
            for corner in itertools.product(*(axis.tolist() for axis in starts))
        ]
        maps = Maps(call, error=False)
        cover = [boxes(*axis) for axis in zip(starts, window, space, strict=True)]
        plans = (Windows(row, windows) for row in range(len(call)))
        for plan, answers in respond(call, reference(self.fill, call.inputs, call.seeds), plans):
            drops = (maps.outputs[plan.row] - answers).cpu().double().T.reshape(-1, *map(len, starts))
            maps.put(plan.row, _density(drops, cover, [tensor.shape[1] for tensor in call.inputs]))
        return maps.attribution()


def _per_axis(sizes: int | tuple[int, ...] | None, space: tuple[int, ...], spelt: str) -> tuple[int, ...] | None:
    if sizes is None:
        return None
    given = (sizes,) * len(space) if isinstance(sizes, int) else sizes
    if len(given) != len(space):
        raise ShapeError(f"{spelt} has {len(given)} numbers for the spatial axes {space}; give one, or one an axis")
    return given


def _starts(size: int, window: int, stride: int) -> Tensor:
    return torch.arange(math.ceil((size - window) / stride) + 1) * stride


def _density(drops: Tensor, cover: list[Tensor], channels: list[int]) -> tuple[Tensor, ...]:
    """Return the mean drop per element ``(T, C, *S)`` of the windows ``(T, *G)`` over each pixel."""
    ones = torch.ones_like(drops[:1])
    sizes = carry(ones[:, *[slice(1)] * (ones.ndim - 1)].expand(1, *[part.shape[1] for part in cover]),
                  [part.transpose(1, 2) for part in cover])  # fmt: skip
    density = carry(drops / sizes, cover) / carry(ones, cover) / sum(channels)
    return tuple(density[:, None].expand(-1, count, *density.shape[1:]) for count in channels)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class ablation(Method):
    """How much the score falls when one segment (cell, organ, channel) is hidden and all others stay.

    Attributes
    ----------
    segments
        A count of superpixels; a name such as ``"slic(50)"``, ``"watershed(50)"``, ``"grid(6, 6)"``, ``"pixels"``,
        ``"channels"`` or ``"channels(slic(50))"`` (all: `segment`); or integer labels ``(*S)`` or ``(N, *S)``, in which
        every value is a segment, 0 too, unless they come as ``Labels(labels, background=0)``.
    fill
        What stands in for the hidden segment.

    References
    ----------
    Zeiler & Fergus 2014, Visualizing and understanding convolutional networks.
    """

    segments: Segments = 50
    fill: Fill = "zero"

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="Which object, region or channel does the model miss when it alone is hidden?",
        cost="segments forwards",
        reference="Zeiler & Fergus 2014, Visualizing and understanding convolutional networks",
        warning="blind to evidence that two segments hold in common: hiding either alone changes nothing",
        mechanism="perturbation",
    )

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the number of segments."""
        return players(self.segments, inputs)

    def attribute(self, call: Call) -> Attribution:
        """Hide every segment of every row."""
        game = Game.of(call, self.segments, self.fill)
        affordable(self, call, game.most, "use fewer segments")
        maps, effects = Maps(call, error=False), []
        for row, segmentation, _, answers in game.play(lambda players, _: LeaveOneOut(players), game.most):
            effects.append(maps.outputs[row] - answers)
            maps.put(row, segmentation.spread(effects[-1]))
        return maps.attribution(warnings=game.warnings, details=game.details(maps, effects))
