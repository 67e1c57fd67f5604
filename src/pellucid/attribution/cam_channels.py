"""Class activation maps from forwards alone: every channel of a layer is asked for what it does to the output."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.cam_layer import checked_maps, chosen_layer, place, same_axes, weighted_sum
from pellucid.attribution.cam_layout import Layout, layout_of
from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.scaling import resized
from pellucid.attribution.tokens import PatchGrid
from pellucid.errors import CannotExplain

__all__ = ["ablationcam", "scorecam"]

Ask = Callable[[Tensor, Tensor], Tensor]
"""From rows and channels ``(B,)`` to the target's values ``(B,)`` when those channels are put to the test."""

_ROUNDING = 1e-6
"""Range of a channel, relative to its size, below which it is constant but for rounding."""


def _answers(call: Call, asked: Tensor, ask: Ask) -> Tensor:
    """Return the answers ``(N, C)`` of the channels that are `asked`, batch by batch, and 0 for the others."""
    answers = call.output.new_zeros(asked.shape)
    call.passes.expect(int(asked.sum()), "asking channels")
    for rows, channels in _pairs(call, asked):
        answers[rows, channels] = ask(rows, channels).to(answers)
    return answers


def _pairs(call: Call, asked: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    pairs, start = asked.nonzero(), 0
    while start < len(pairs):
        part = pairs[start : start + call.passes.batch_size(call.inputs)]
        yield part[:, 0], part[:, 1]
        start += len(part)


def _unit(maps: Tensor) -> Tensor:
    """Return every map scaled to 0–1; one that is constant is 0."""
    axes = tuple(range(1, maps.ndim))
    low = maps.amin(axes, keepdim=True)
    span = maps.amax(axes, keepdim=True) - low
    return (maps - low) / torch.where(span > 0, span, 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class _Asked(Method):
    """A map of one layer whose weights come from forwards, one a channel."""

    at: str | None = None
    grid: PatchGrid = None

    @abstractmethod
    def _weights(self, call: Call, at: str, activations: Tensor, layout: Layout) -> Tensor:
        """Return one weight ``(N, C)`` a channel of the layer's output, which the layout turns into maps."""

    def attribute(self, call: Call) -> Attribution:
        """Weight the layer's feature maps by what their channels do, and add them up."""
        at, warnings = chosen_layer(call, self.at)
        maps, layout = [], None
        for batch in batches(call):
            activations = checked_maps(batch.passes.outputs(batch.inputs, at), at)
            layout = layout or layout_of(batch, at, tuple(activations.shape[1:]), self.grid)
            maps.append(weighted_sum(self._weights(batch, at, activations, layout), layout.maps(activations)))
        values = torch.cat(maps)
        return Attribution((values,), warnings=warnings, details=place(at, values))


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class scorecam(_Asked):
    """Which regions keep the output up when the rest of the image is hidden, without any gradient.

    Each channel, upsampled and scaled to 0–1, is laid over the image as a soft mask; its weight is the softmax over the
    channels of the target's values. A channel that is constant over space masks nothing and takes no part.

    Attributes
    ----------
    at, grid
        As for `gradcam`.
    fill
        What stands in for hidden pixels.
    """

    fill: Fill = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which coarse regions keep the output up when the rest is hidden?",
        needs=("layers",),
        cost="1 + channels forwards",
        reference="Wang et al. 2020, CVPR workshops",
        warning="The softmax depends on the score's scale: large logits leave one channel, probabilities weigh all alike.",
        kind="visualisation",
        mechanism="perturbation",
    )

    def _weights(self, call: Call, at: str, activations: Tensor, layout: Layout) -> Tensor:
        activations = layout.maps(activations)
        same_axes(activations, call, at, self)
        low, high = activations.flatten(2).aminmax(dim=2)
        varied = high - low > _ROUNDING * torch.maximum(high.abs(), low.abs())
        fills = reference(self.fill, call.inputs, call.seeds)

        def seen(rows: Tensor, channels: Tensor) -> Tensor:
            maps = activations[rows, channels][:, None]
            images = rows[:1] if bool((rows == rows[0]).all()) else rows  # one image is not copied for every channel
            shown = tuple(
                torch.lerp(fill[images], x[images], _unit(resized(maps, tuple(x.shape[2:]))).to(x))
                for x, fill in zip(call.inputs, fills, strict=True)
            )
            return call.passes.scores(shown, call.read, rows, spent=True)

        answers = _answers(call, varied, seen).masked_fill(~varied, -torch.inf)
        return answers.softmax(1).masked_fill(~varied, 0).to(activations)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class ablationcam(_Asked):
    """Which regions the output falls without: each channel of a layer is weighted by the drop when it is silenced.

    The weight is (f − f without the channel) / |f|: the published ratio, with the magnitude below, so that what speaks
    for an output stays positive where that output is negative. A channel that is zero already is not asked.

    Attributes
    ----------
    at, grid
        As for `gradcam`.

    Raises
    ------
    CannotExplain
        When the target's value is zero: no drop is relative to it.
    """

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which coarse regions does the output fall without, and which does it rise without?",
        needs=("layers",),
        cost="1 + channels forwards",
        reference="Ramaswamy and Desai 2020, WACV",
        warning="Channels are silenced one at a time: two that stand in for each other both read near zero.",
        kind="visualisation",
        mechanism="perturbation",
    )

    def _weights(self, call: Call, at: str, activations: Tensor, layout: Layout) -> Tensor:
        live = layout.maps(activations).flatten(2).any(2)

        def without(rows: Tensor, channels: Tensor) -> Tensor:
            placed = layout.silenced(activations[rows], channels)
            given = tuple(x[rows] for x in call.inputs)
            return call.passes.scores(given, call.read, rows, placed={at: placed})

        whole = call.output[:, None]
        drops = torch.where(live, whole - _answers(call, live, without), 0)
        if bool(((whole == 0) & (drops != 0)).any()):
            raise CannotExplain(f"{self}: the target's value is 0 in some row, and a drop cannot be relative to it")
        return (drops / torch.where(whole == 0, 1, whole.abs())).to(activations)
