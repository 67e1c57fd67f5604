"""The one renderer: perturbed rows are painted on a reused batch, sent through the model, and only scores are kept.

Pieces of several rows share a batch, so that small jobs fill it; memory is bounded by the batch, never by the number
of coalitions, rows or windows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.method import Call
from pellucid.attribution.perturbation.segmenters import Segmentation
from pellucid.models import Inputs

__all__ = ["Canvas", "Coalitions", "Members", "Plan", "Windows", "respond"]


class Canvas:
    """A batch of slots to paint on.

    Attributes
    ----------
    inputs, fills
        The explained rows and what stands in for hidden parts, ``(N, C, *S)`` an input.
    slots
        One tensor ``(slots, C, *S)`` an input.
    """

    def __init__(self, inputs: Inputs, fills: Inputs, size: int) -> None:
        self.inputs, self.fills = inputs, tuple(map(_thin, fills))
        self.slots = tuple(tensor.new_empty(size, *tensor.shape[1:]) for tensor in inputs)
        self._holds: list[int | None] = [None] * size

    def lay(self, place: slice, row: int) -> None:
        """Make slots hold an explained row unperturbed; those that do already are left."""
        if any(held != row for held in self._holds[place]):
            for slots, tensor in zip(self.slots, self.inputs, strict=True):
                slots[place] = tensor[row]
            self._holds[place] = [row] * (place.stop - place.start)

    def forget(self, place: slice) -> None:
        """Say that slots hold no explained row any more."""
        self._holds[place] = [None] * (place.stop - place.start)

    def version(self) -> tuple[int, ...]:
        """Return counters that grow with every write, also by a model that works in place on its input."""
        return tuple(slots._version for slots in self.slots)  # noqa: SLF001  # torch offers no public name


def _thin(fill: Tensor) -> Tensor:
    """Return a fill that is one number a channel as a view of that number: reading it costs no memory traffic."""
    corner = fill[(slice(None), slice(None), *[slice(1)] * (fill.ndim - 2))].expand_as(fill)
    return corner if torch.equal(corner, fill) else fill


class Plan(ABC):
    """The perturbed versions of one row: how many, and how a part of them is painted."""

    row: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def paint(self, canvas: Canvas, place: slice, part: slice) -> None:
        """Paint versions `part` on slots `place`."""

    def wipe(self, canvas: Canvas, place: slice, part: slice) -> None:  # noqa: ARG002  # windows need the part
        """Undo what `paint` did; by default the slots are given up."""
        canvas.forget(place)


class Members(Protocol):
    """A design: coalitions by number."""

    def __len__(self) -> int: ...

    def members(self, part: slice) -> Tensor:
        """Return ``(n, players)``: True keeps a segment; numbers in [0, 1] blend it into the fill."""
        ...


D = TypeVar("D", bound=Members)
P = TypeVar("P", bound=Plan)


@dataclass(frozen=True, eq=False)
class Coalitions(Plan):
    """Rows in which the segments outside a coalition are filled, or blended into the fill where it is soft."""

    row: int
    segmentation: Segmentation
    design: Members

    def __len__(self) -> int:
        return len(self.design)

    def paint(self, canvas: Canvas, place: slice, part: slice) -> None:
        """Keep the coalition's segments and fill the others; blending is exact at 0 and 1, and faster than choosing."""
        kept = self.design.members(part).to(canvas.slots[0].device)
        if self.segmentation.background:
            kept = functional.pad(kept, (0, 1), value=1)
        for slots, x, fill, labels in zip(
            canvas.slots, canvas.inputs, canvas.fills, self.segmentation.labels, strict=True
        ):
            shown = kept.to(x).index_select(1, labels.flatten()).view(len(kept), *labels.shape)
            torch.lerp(fill[self.row], x[self.row], shown, out=slots[place])


@dataclass(frozen=True, eq=False)
class Windows(Plan):
    """Rows in which one window is filled; windows are written by slice and wiped again, the rest is never copied."""

    row: int
    windows: Sequence[tuple[slice, ...]]

    def __len__(self) -> int:
        return len(self.windows)

    def _write(self, canvas: Canvas, sources: Inputs, place: slice, part: slice) -> None:
        for slots, source in zip(canvas.slots, sources, strict=True):
            image = source[self.row]
            for slot, window in zip(slots[place].unbind(), self.windows[part], strict=True):
                slot[window] = image[window]

    def paint(self, canvas: Canvas, place: slice, part: slice) -> None:
        """Fill one window a slot."""
        canvas.lay(place, self.row)
        self._write(canvas, canvas.fills, place, part)

    def wipe(self, canvas: Canvas, place: slice, part: slice) -> None:
        """Put the image back into the windows."""
        self._write(canvas, canvas.inputs, place, part)


@dataclass(frozen=True, eq=False)
class _Piece:
    plan: Plan
    place: slice
    part: slice

    @property
    def last(self) -> bool:
        return bool(self.part.stop == len(self.plan))


def _packed(plans: Iterable[Plan], size: int) -> Iterator[list[_Piece]]:
    """Cut plans into pieces that fill batches of `size` slots."""
    batch: list[_Piece] = []
    used = 0
    for plan in plans:
        done = 0
        while True:
            take = min(len(plan) - done, size - used)
            batch.append(_Piece(plan, slice(used, used + take), slice(done, done + take)))
            done, used = done + take, used + take
            if used == size:
                yield batch
                batch, used = [], 0
            if done == len(plan):
                break
    if batch:
        yield batch


def respond(call: Call, fills: Inputs, plans: Iterable[P]) -> Iterator[tuple[P, Tensor]]:
    """Yield every plan with the target's values ``(len(plan), T)`` of its versions, in order.

    Parameters
    ----------
    call
        Gives the rows, the way through the model and the target. A read-out that returns ``(B, T)`` scores T targets
        in the same forwards.
    fills
        What stands in for hidden parts, one tensor of each input's shape.
    plans
        Drawn lazily: no more are held than share a batch.
    """
    size = call.passes.batch_size(call.inputs)
    canvas = Canvas(call.inputs, fills, size)
    scores: list[Tensor] = []
    for batch in _packed(plans, size):
        answers = _scored(call, canvas, batch)
        for piece in batch:
            scores.append(answers[piece.place])
            if piece.last:
                yield piece.plan, torch.cat(scores)  # type: ignore[misc]  # pieces hold the plans that came in
                scores = []


def _scored(call: Call, canvas: Canvas, batch: list[_Piece]) -> Tensor:
    used = batch[-1].place.stop
    targets = call.output.reshape(len(call), -1).shape[1]
    if not used:
        return call.output.new_zeros(0, targets)
    for piece in batch:
        piece.plan.paint(canvas, piece.place, piece.part)
    rows = torch.tensor([piece.plan.row for piece in batch for _ in range(piece.part.start, piece.part.stop)])
    before = canvas.version()
    scores = call.passes.scores(tuple(slots[:used] for slots in canvas.slots), call.read, rows, spent=True)
    if canvas.version() != before:
        canvas.forget(slice(0, used))
    else:
        for piece in batch:
            piece.plan.wipe(canvas, piece.place, piece.part)
    return scores.reshape(used, targets)
