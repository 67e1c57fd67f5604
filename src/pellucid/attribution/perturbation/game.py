"""What the recipes over segments share: the players of every row, their coalitions' answers, and the maps they give."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pellucid.attribution.estimate import duration, pace
from pellucid.attribution.fills import FillValue, reference
from pellucid.attribution.method import Attribution, Call, Method
from pellucid.attribution.perturbation.grids import Grid, cells_along
from pellucid.attribution.perturbation.render import Coalitions, Members, respond
from pellucid.attribution.perturbation.segmenters import Labels, Segmentation, segment, shared_space
from pellucid.attribution.several import ByTarget
from pellucid.errors import CannotExplain
from pellucid.models import Inputs

__all__ = ["CELLS", "ROUNDING", "Game", "Maps", "affordable", "padded", "solvable", "unmoved"]

CELLS = 64
"""About how many cells a grid has by default."""

FORWARDS = 100_000
"""Forwards a row above which a request is refused."""

ROUNDING = 1e-12
"""Share of the answers' squares below which their variance is float32 rounding."""

PLAYERS = 5000
"""Segments of a row above which a regression is refused."""


def affordable(method: Method, call: Call, forwards: int, advice: str) -> None:
    """Refuse a request that would cost more than `FORWARDS` forwards a row.

    Raises
    ------
    CannotExplain
        With the forwards, the time that they would take here, and `advice`.
    """
    if forwards > FORWARDS:
        raise CannotExplain(
            f"{method} would take about {forwards:,} forwards an image, {_time(call, forwards)}, and at most "
            f"{FORWARDS:,} are allowed; {advice}"
        )


def solvable(method: Method, call: Call, players: int, forwards: int) -> None:
    """Refuse a regression, cubic in the segments, that would never end.

    Raises
    ------
    CannotExplain
        With the forwards and the time that they would take here.
    """
    if players > PLAYERS:
        raise CannotExplain(
            f"{method} would fit {players:,} segments from about {forwards:,} forwards an image, {_time(call, forwards)}; "
            f"its regression takes at most {PLAYERS:,} segments: use segments=50, or occlusion"
        )


def _time(call: Call, forwards: int) -> str:
    images = f"{len(call)} images" if len(call) > 1 else "1 image"
    return f"{duration(len(call) * forwards * pace(call.passes, call.inputs))} for {images}"


class Maps:
    """Maps of a call under construction, for every target that its read-out scores."""

    def __init__(self, call: Call, *, error: bool) -> None:
        self.call = call
        self.outputs = call.output.reshape(len(call), -1)
        self.values = self._blank()
        self.error = self._blank() if error else None

    def _blank(self) -> Inputs:
        targets = self.outputs.shape[1]
        return tuple(tensor.new_zeros(len(tensor), targets, *tensor.shape[1:]) for tensor in self.call.inputs)

    def put(self, row: int, values: Inputs, error: Inputs | None = None) -> None:
        """Keep the maps ``(T, C, *S)`` of a row."""
        for kept, value in zip(self.values, values, strict=True):
            kept[row] = value
        for kept, value in zip(self.error or (), error or (), strict=True):
            kept[row] = value

    def single(self, tensor: Tensor) -> Tensor:
        """Drop the axis of targets where the call has one target."""
        return tensor[:, 0] if self.call.output.ndim == 1 else tensor

    def detail(self, tensor: Tensor) -> Tensor | ByTarget:
        """Return numbers ``(N, T, ...)`` as a detail of the result."""
        return tensor[:, 0] if self.call.output.ndim == 1 else ByTarget(tensor.unbind(1))

    def doubts(self, doubtful: Tensor, told: Callable[[int], str]) -> tuple[Any, ...]:
        """Return the warning, if any, about `doubtful` ``(N, T)`` images; `told` makes one of their number."""
        texts = tuple(told(count) if count else "" for count in doubtful.sum(0).tolist())
        if self.call.output.ndim == 1:
            return tuple(filter(None, texts))
        return (ByTarget(texts),)

    def attribution(self, **more: object) -> Attribution:
        """Return the maps as a method's result."""
        values = tuple(self.single(tensor) for tensor in self.values)
        error = tuple(self.single(tensor) for tensor in self.error) if self.error is not None else None
        return Attribution(values, error=error, **more)  # type: ignore[arg-type]  # named like the fields


def unmoved(answers: Tensor) -> Tensor:
    """Return which targets ``(T,)`` of answers ``(n, T)`` do not change beyond rounding."""
    return answers.var(0, correction=0) <= ROUNDING * answers.square().mean(0)


def padded(maps: Maps, rows: list[Tensor]) -> Tensor | ByTarget:
    """Return one number a segment, ``(N, players)`` a target; rows with fewer segments end in NaN."""
    columns = pad_sequence([row.cpu() for row in rows], batch_first=True, padding_value=torch.nan)
    return maps.detail(columns.float().movedim(2, 1))


def _show(segmentation: Segmentation, row: int, inputs: Inputs, fills: Inputs) -> None:
    """Make the fill of elements that belong to no segment the image itself: they are never hidden."""
    for fill, x, labels in zip(fills, inputs, segmentation.labels, strict=True):
        fill[row] = torch.where(labels == segmentation.players, x[row], fill[row])


@dataclass(frozen=True, eq=False)
class Game:
    """Rows whose segments are players: absent players are filled."""

    call: Call
    fills: Inputs
    segmentations: list[Segmentation]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, call: Call, segments: int | str | Labels, fill: FillValue) -> "Game":
        """Segment and fill every row."""
        segmentations, warnings = segment(segments, call.inputs)
        fills = reference(fill, call.inputs, call.seeds)
        if any(own.background for own in segmentations):
            fills = tuple(fill.clone() for fill in fills)  # a fill that is an image is the setting itself
        for row, own in enumerate(segmentations):
            if own.background:
                _show(own, row, call.inputs, fills)
        return cls(call, fills, segmentations, warnings)

    @classmethod
    def on_grid(cls, call: Call, method: Method, grid: Grid, fill: FillValue) -> "Game":
        """Take the cells of a regular grid, about `CELLS` by default, as the players of every row."""
        cells = cells_along(str(method), grid, shared_space(call.inputs, method.name), CELLS)
        return cls.of(call, f"grid({', '.join(map(str, cells))})", fill)

    @property
    def most(self) -> int:
        """The largest number of players of a row."""
        return max(segmentation.players for segmentation in self.segmentations)

    def empty(self) -> Tensor:
        """Return ``(N, T)`` f(fill)."""
        shown = tuple(fill.clone() for fill in self.fills)  # a model may write into its input
        return self.call.passes.scores(shown, self.call.read).reshape(len(self.call), -1)

    def play(
        self, design: Callable[[int, torch.Generator], Members], forwards: int
    ) -> Iterator[tuple[int, Segmentation, Members, Tensor]]:
        """Yield row, segmentation, design and answers ``(n, T)``; `design` makes one from players and a generator."""
        self.call.passes.expect(forwards * len(self.call), "hiding segments")
        plans = (
            Coalitions(row, segmentation, design(segmentation.players, generator))
            for row, (segmentation, generator) in enumerate(
                zip(self.segmentations, self.call.generators(), strict=True)
            )
        )
        for plan, answers in respond(self.call, self.fills, plans):
            yield plan.row, plan.segmentation, plan.design, answers

    def details(self, maps: Maps, effects: list[Tensor]) -> dict[str, Any]:
        """Return ``"segments"``, labels that broadcast over each image, and ``"effects"``, one number a segment.

        Rows with fewer segments end in NaN; background that is no segment is −1. ``"labels"`` holds the value of each
        segment in the label image that was given, −1 past a row's last.
        """
        labels = [own.labels[0].masked_fill(own.labels[0] == own.players, -1) for own in self.segmentations]
        details = {"segments": torch.stack(labels).cpu(), "effects": padded(maps, effects)}
        values = [own.values for own in self.segmentations if own.values is not None]
        if values:
            details["labels"] = pad_sequence(values, batch_first=True, padding_value=-1)
        return details

    def moved(self, maps: Maps, still: list[Tensor]) -> tuple[Any, ...]:
        """Return the warnings, with one where the score of a row does not change with any mask."""
        told = "the score does not change with any mask in {} of {} images; the map is 0 there"
        return (*self.warnings, *maps.doubts(torch.stack(still), lambda count: told.format(count, len(still))))
