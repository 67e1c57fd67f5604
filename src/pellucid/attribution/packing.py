"""Rows × repeats in full batches: how sampled and path methods stay fast on one image and small on many."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pellucid.attribution.method import Call
from pellucid.models import Inputs, Passes, ReadOut, take_rows

__all__ = ["LazyCall", "Pack", "SharedCall", "batches", "owned", "packs", "rows_of"]


@dataclass(frozen=True)
class Pack:
    """One batch: to which row each member belongs, and which of that row's repeats it is."""

    owner: Tensor
    turn: Tensor

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Yield every row of the batch with the run of its members."""
        rows, lengths = torch.unique_consecutive(self.owner, return_counts=True)
        stop = 0
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            yield row, slice(stop, stop + length)
            stop += length


def packs(passes: Passes, inputs: Inputs, repeats: int, rows: Sequence[int] | None = None) -> Iterator[Pack]:
    """Yield `repeats` members a row in batches of the model's size, row after row."""
    chosen = torch.arange(len(inputs[0])) if rows is None else torch.tensor(list(rows))
    total, start = len(chosen) * repeats, 0
    passes.expect(total)
    while start < total:
        members = torch.arange(start, min(total, start + passes.batch_size(inputs)))
        yield Pack(chosen[members // repeats], members % repeats)
        start += len(members)


def batches(call: Call) -> Iterator[Call]:
    """Yield the call in batches of the model's size, for methods whose intermediate tensors are large."""
    if len(call) <= call.passes.batch_size(call.inputs):
        call.passes.expect(len(call))
        yield call
        return
    for pack in packs(call.passes, call.inputs, 1):
        yield rows_of(call, pack.owner)


def owned(read: ReadOut, owner: Tensor) -> ReadOut:
    """Return the target for a batch whose row i belongs to explained row ``owner[i]``."""
    return replace(read, read=lambda outputs, rows: read(outputs, owner.to(rows.device)[rows]))


class LazyCall(Call):
    """A call whose target values are computed when a method first asks for them: most never do."""

    def __init__(
        self, passes: Passes, inputs: Inputs, read: ReadOut, seeds: tuple[int, ...], output: Callable[[], Tensor]
    ) -> None:
        settings = {"passes": passes, "inputs": inputs, "read": read, "seeds": seeds, "_output": output}
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    @cached_property
    def output(self) -> Tensor:
        """``(N,)`` the target's value."""
        found: Tensor = vars(self)["_output"]()
        return found


class SharedCall(LazyCall):
    """A call that several methods are given: what one has asked for, the others have."""

    def gradient(self, at: str | None = None) -> tuple[Inputs, Inputs]:
        """Return the plain gradient, made once; each asker has a copy of its own, so that none can change another's."""
        kept = vars(self).setdefault("_gradients", {})
        if at not in kept:
            kept[at] = super().gradient(at)
        points, slopes = kept[at]
        return tuple(point.clone() for point in points), tuple(slope.clone() for slope in slopes)


def rows_of(call: Call, owner: Tensor) -> Call:
    """Return the call for some of its rows."""
    return LazyCall(
        passes=call.passes,
        inputs=take_rows(call.inputs, owner),
        read=owned(call.read, owner),
        seeds=tuple(call.seeds[row] for row in owner.tolist()),
        output=lambda: call.output[owner],
    )
