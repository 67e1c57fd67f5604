"""Relevance of a call: one way from a composite to maps and books, at the pixels or at a layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.attribution.backward import Books, Composite, RowsMoved, relevance_rules
from pellucid.attribution.method import Call
from pellucid.errors import CannotExplain
from pellucid.models import Inputs

__all__ = ["Relevance", "relevance"]

_UNBOOKED = 1e-2
"""Part of a row's relevance that may be missing for rounding."""


@dataclass(frozen=True)
class Relevance:
    """What a composite hands back.

    Attributes
    ----------
    values
        One tensor an input, or one of the layer's shape.
    taken
        ``(N,)`` what was absorbed on the way.
    started
        ``(N,)`` what the target put into the outputs.
    details
        ``(N,)`` what each kind of operation absorbed, by a name for the reader.
    warnings
        Sentences for the reader.
    """

    values: Inputs
    taken: Tensor
    started: Tensor
    details: Mapping[str, Tensor]
    warnings: tuple[str, ...] = ()


def relevance(call: Call, composite: Composite, at: str | None = None) -> Relevance:
    """Hand relevance back from the target to the inputs, or to the output of the layer `at`.

    Raises
    ------
    CannotExplain
        When the target is itself a unit of a layer and `at` names a layer too.
    GuardError
        When the network holds an operation without a rule; the sentence names it.
    """
    if at is not None and call.read.layer is not None:
        raise CannotExplain(f"at={at!r} shares out the model's output, and the target is of layer {call.read.layer!r}")
    books = Books(len(call), call.output.device)
    warnings: tuple[str, ...] = ()
    try:
        values = _pass(call, composite, books, at, torch.arange(len(call)))
    except RowsMoved as moved:
        alone = [_pass(call, composite, books, at, torch.tensor([row])) for row in range(len(call))]
        values = tuple(torch.cat(parts) for parts in zip(*alone, strict=True))
        warnings = (f"rows were explained one at a time: {moved}",)
    warnings += _unbooked(values, books, at)
    details = {f"absorbed by {name}": taken.float().cpu() for name, taken in sorted(books.taken.items())}
    return Relevance(values, books.absorbed.to(call.output), books.started.to(call.output), details, warnings)


def _unbooked(values: Inputs, books: Books, at: str | None) -> tuple[str, ...]:
    """Say whether relevance went where no account is kept: a map that lacks a part must not look whole."""
    kept = sum((part.double().flatten(1).sum(1) for part in values), books.absorbed)
    lost = (kept - books.started).abs() > _UNBOOKED * (books.started.abs() + books.absorbed.abs())
    if not bool(lost.any()):
        return ()
    rows = f"{int(lost.sum())} of {len(lost)} rows"
    if at is not None:
        return (
            f"in {rows} relevance passes the layer {at!r} by, as along a skip, and is in no unit of it: see the gap",
        )
    return (f"in {rows} an operation of the network took relevance that no rule books: see the gap",)


def _pass(call: Call, composite: Composite, books: Books, at: str | None, rows: Tensor) -> Inputs:
    given = tuple(tensor[rows] for tensor in call.inputs)
    numbers = rows.to(call.inputs[0])[:, None]
    _, points, found = call.passes.gradient(
        (*given, numbers), call.read, rows, rules=relevance_rules(composite, books, at), known=call.output[rows], at=at
    )
    return found[:-1] if at is None else (points[0] * found[0],)
