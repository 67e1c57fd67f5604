"""Explaining again what an explanation explained: the same method, target and row seed on other inputs or weights."""

import torch
from torch import Tensor

from pellucid.attribution.method import Call, Method, row_seeds
from pellucid.errors import PellucidError
from pellucid.evaluation.bench import Bench
from pellucid.models import Inputs, Passes, ReadOut, take_rows

__all__ = ["Again", "NO_METHOD", "explain_again"]

NO_METHOD = "a given map cannot be made again: its method is not known here"

Again = tuple[Tensor | None, str]
"""Flat maps ``(B, E)`` float64, NaN in rows that have none, and the last reason for one; None where no row has one."""


def explain_again(
    bench: Bench,
    index: int,
    inputs: Inputs,
    rows: Tensor,
    scores: Tensor,
    *,
    passes: Passes | None = None,
    read: ReadOut | None = None,
) -> Again:
    """Explain `inputs` with the method of explanation `index`, a slab at a time.

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
        ``(B,)`` the target's value at each row.
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
    size = passes.batch_size(inputs)
    parts = []
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        origin = rows[part].to(passes.model.device)
        here = ReadOut(lambda out, which, origin=origin: read(out, origin[which]), read.layer)  # type: ignore[misc]
        own = tuple(seeds[row] for row in rows[part].tolist())
        call = Call(passes, take_rows(inputs, part), here, scores[part].to(inputs[0].dtype), own)
        parts.append(_attribute(explanation.method, call))
    found = next((maps for maps, _ in parts if maps is not None), None)
    reason = next((why for _, why in parts if why), "")
    if found is None:
        return None, reason
    filled = [
        maps if maps is not None else found.new_full((min(size, len(rows) - place * size), found.shape[1]), torch.nan)
        for place, (maps, _) in enumerate(parts)
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
