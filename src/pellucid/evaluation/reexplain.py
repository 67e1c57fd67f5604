"""Explaining again what explanations explained: same method, target and row seed, other inputs or weights."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from pellucid.attribution.method import Call, Method, row_seeds
from pellucid.attribution.packing import SharedCall, batches, owned
from pellucid.errors import PellucidError
from pellucid.evaluation.bench import Bench
from pellucid.models import Inputs, Passes, ReadOut

__all__ = ["NO_METHOD", "Again", "explain_again"]

NO_METHOD = "a given map cannot be made again: its method is not known here"

Again = tuple[Tensor | None, str]
"""Flat maps ``(B, E)`` float64, NaN in rows that have none, and a reason for those; None where no row has one."""


def explain_again(
    bench: Bench,
    indices: Sequence[int],
    inputs: Inputs,
    rows: Tensor,
    scores: Callable[[int], Tensor],
    *,
    passes: Passes | None = None,
    read: ReadOut | None = None,
) -> Iterator[Again]:
    """Explain `inputs` with the methods of some explanations, one after the other.

    Methods of the same target share what they ask of the model: plain gradients are computed once.

    Parameters
    ----------
    bench
        The explanations.
    indices
        Which ones.
    inputs
        Rows in model space.
    rows
        ``(B,)`` the explained image that each row derives from: its target and random stream are used.
    scores
        Gives the value ``(B,)`` of the target of an explanation at each row, for methods that ask.
    passes
        The way through another model than the bench's.
    read
        Another target.

    Yields
    ------
    Again
        One an index, in their order.
    """
    passes, shared = passes or bench.passes, dict[tuple[int, tuple[int, ...]], list[Call]]()
    for index in indices:
        explanation = bench.explanations[index]
        if not isinstance(explanation.method, Method):
            yield None, NO_METHOD
            continue
        every, asked = row_seeds(explanation.seed, explanation.ids, len(bench)), read or bench.read_of(index)
        seeds = tuple(every[row] for row in rows.tolist())
        if (id(asked), seeds) not in shared:
            output = partial(_values, scores, index, inputs[0].dtype)
            own = SharedCall(passes, inputs, owned(asked, rows), seeds, output)
            shared[id(asked), seeds] = list(batches(own))
        yield _attributed(explanation.method, shared[id(asked), seeds])


def _values(scores: Callable[[int], Tensor], index: int, dtype: torch.dtype) -> Tensor:
    return scores(index).to(dtype)


def _attributed(method: Method, calls: Sequence[Call]) -> Again:
    """Return one method's maps of all batches."""
    parts = [(len(call), _attribute(method, call)) for call in calls]
    reason = next((why for _, (_, why) in parts if why), "")
    known = [maps for _, (maps, _) in parts if maps is not None]
    if not known:
        return None, reason
    filled = [
        known[0].new_full((length, known[0].shape[1]), torch.nan) if maps is None else maps
        for length, (maps, _) in parts
    ]
    return torch.cat(filled), reason


def _attribute(method: Method, call: Call) -> Again:
    try:
        values = method.attribute(call).values
    except PellucidError as error:
        return None, f"{method} refused a changed image or model: {error}"
    maps = torch.cat([tensor.detach().double().flatten(1) for tensor in values], 1)
    finite = maps.isfinite().all(1, keepdim=True)
    reason = "" if bool(finite.all()) else f"{method} gave NaN or infinity on a changed image or model"
    return torch.where(finite, maps, torch.nan), reason
