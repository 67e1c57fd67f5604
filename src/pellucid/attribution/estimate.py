"""What an explanation will cost, before it is made: passes, time and memory, told in a line."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich import get_console
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.attribution.method import Method
from pellucid.attribution.packing import rows_of
from pellucid.attribution.request import Request
from pellucid.models import Inputs, Model, Passes, repeat_rows, take_rows

__all__ = ["Estimate", "announce", "duration", "estimate", "pace"]

_LONG = 0.5
"""Seconds that one row may take before a full batch is tried too."""

_UNITS = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86400.0))
_BELOW_ALL = 1.0


def duration(seconds: float) -> str:
    """Return a time as people say it: ``"about 4 min"``."""
    if seconds < _BELOW_ALL:
        return "less than 1 s"
    unit, size = [pair for pair in _UNITS if seconds >= 1.5 * pair[1] or pair == _UNITS[0]][-1]
    return f"about {round(seconds / size):,} {unit}"


@dataclass(frozen=True)
class Estimate:
    """What an explanation is going to cost.

    Attributes
    ----------
    forwards, backwards
        Rows that will go through the model, at most where a stopping rule or a tolerance decides.
    seconds
        Wall time, from probes of this model on this machine.
    memory
        Bytes on the device beyond the model's weights: the images and maps, one batch, and the widest step of the
        network on it (every step, where the method differentiates).
    """

    forwards: int
    backwards: int
    seconds: float
    memory: int

    def __str__(self) -> str:
        passes = f"{self.forwards:,} forwards" + (f" and {self.backwards:,} backwards" if self.backwards else "")
        return f"{passes}, {duration(self.seconds)}, {self.memory / 1e6:,.0f} MB"


class _Steps(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Watches how many bytes the steps of a network read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.widest = 0
        self.all = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        written = _bytes((out,) if isinstance(out, Tensor) else out)
        self.widest = max(self.widest, written + _bytes(args))
        self.all += written
        return out


def _bytes(things: Any) -> int:
    held = things if isinstance(things, Iterable) and not isinstance(things, Tensor) else ()
    return sum(thing.nbytes for thing in held if isinstance(thing, Tensor))


def pace(passes: Passes, inputs: Inputs) -> float:
    """Return the seconds that one forward takes, from one row and, where that is quick, from a full batch of it."""
    first = take_rows(inputs, slice(0, 1))
    passes.outputs(first)  # the first pass sets things up
    alone = _timed(passes, first)
    size = passes.batch_size(inputs)
    return alone if alone > _LONG or size == 1 else _timed(passes, repeat_rows(first, size)) / size


def _timed(passes: Passes, inputs: Inputs) -> float:
    began = time.perf_counter()
    float(passes.outputs(inputs).flatten()[0])  # waits for the device
    return time.perf_counter() - began


def estimate(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    method: str | Method = "integrated_gradients",
    target: Any = None,
    *,
    batch_size: int | None = None,
) -> Estimate:
    """Say what `explain` would cost here, from a probe: ``"9,216 forwards, about 4 min, 85 MB"``.

    Methods that know their forwards beforehand (all that hide parts of the image) are timed on one batch; any other
    explains the first row and is taken times the rows.

    Parameters
    ----------
    model, x, method, target, batch_size
        As for `explain`.

    Raises
    ------
    BadRecipe, BadTarget, ShapeError, CannotExplain
        As `explain` would.
    """
    request = Request.of(model, x, method, None, 0)
    with Passes(request.model, batch_size=batch_size) as passes:
        planned = request.method.planned_forwards(request.inputs)
        return _tried(request, passes, target) if planned is None else _planned(request, passes, planned)


def announce(request: Request, passes: Passes) -> None:
    """Print what a request will cost, where its method knows its forwards."""
    planned = request.method.planned_forwards(request.inputs)
    if planned is not None:
        get_console().print(f"{request.method}: {_planned(request, passes, planned)}", highlight=False, markup=False)


def _planned(request: Request, passes: Passes, planned: int) -> Estimate:
    """Return the cost of a method that takes `planned` forwards a row."""
    inputs = request.inputs
    with _Steps() as steps:
        passes.outputs(take_rows(inputs, slice(0, 1)))
    forwards = len(inputs[0]) * (1 + planned)
    seconds = forwards * pace(passes, inputs)
    return Estimate(forwards, 0, seconds, _memory(inputs, steps.widest, min(passes.batch_size(inputs), forwards)))


def _tried(request: Request, passes: Passes, target: Any) -> Estimate:
    inputs, rows = request.inputs, len(request.inputs[0])
    outputs = passes.outputs(inputs)
    read = request.method.target(target, request.model, outputs).freeze(request.model, outputs)
    first = rows_of(request.call(passes, outputs, read), torch.tensor([0]))
    before, began = passes.forwards, time.perf_counter()
    with _Steps() as steps:
        request.method.attribute(first)
    seconds, forwards = time.perf_counter() - began, passes.forwards - before
    size = min(passes.batch_size(inputs), rows * max(1, forwards, passes.backwards))
    once = max(steps.widest, steps.all // max(1, passes.backwards) if passes.backwards else 0)
    return Estimate(rows * (1 + forwards), rows * passes.backwards, rows * seconds, _memory(inputs, once, size))


def _memory(inputs: Inputs, step: int, size: int) -> int:
    """Return the bytes of images and maps, of a batch and its copy, and of the network's steps on it."""
    images = sum(tensor.nbytes for tensor in inputs)
    return 2 * images + size * (2 * images // len(inputs[0]) + step)
