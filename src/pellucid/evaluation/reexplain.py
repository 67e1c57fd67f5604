"""Explaining again what an explanation explained: same method, target and row seed, other inputs or weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.attribution.method import Call, Method, row_seeds
from pellucid.attribution.packing import LazyCall, batches, owned
from pellucid.errors import PellucidError
from pellucid.evaluation.bench import Bench
from pellucid.models import Inputs, Passes, ReadOut

__all__ = ["NO_METHOD", "Again", "explain_again"]

NO_METHOD = "a given map cannot be made again: its method is not known here"

Again = tuple[Tensor | None, str]
"""Flat maps ``(B, E)`` float64, NaN in rows that have none, and a reason for those; None where no row has one."""


def explain_again(
    bench: Bench,
    index: int,
    inputs: Inputs,
    rows: Tensor,
    scores: Callable[[], Tensor],
    *,
    passes: Passes | None = None,
    read: ReadOut | None = None,
) -> Again:
    """Explain `inputs` with the method of explanation `index`, a batch at a time.

    Parameters
    ----------
    bench
        The explanations.
    index
        Which one.
    inputs
        Rows in model space.
    rows
        ``(B,)`` the explained image that each row derives from: its target and random stream are used.
    scores
        Gives the target's value ``(B,)`` at each row, for methods that ask.
    passes
        The way through another model than the bench's.
    read
        Another target.
    """
    explanation = bench.explanations[index]
    if not isinstance(explanation.method, Method):
        return None, NO_METHOD
    passes, read = passes or bench.passes, read or bench.read_of(index)
    seeds = row_seeds(explanation.seed, explanation.ids, len(bench))
    own = LazyCall(
        passes,
        inputs,
        owned(read, rows),
        tuple(seeds[row] for row in rows.tolist()),
        lambda: scores().to(inputs[0].dtype),
    )
    parts = [(len(call), _attribute(explanation.method, call)) for call in batches(own)]
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
