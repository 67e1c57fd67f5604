"""Which tokens stand for the output: those that it reads."""

import torch
from torch import Tensor

from pellucid.attribution.attention.tokens import Query
from pellucid.attribution.attention.watching import Layers, accounted
from pellucid.attribution.method import Call
from pellucid.attribution.packing import LazyCall, rows_of
from pellucid.errors import CannotExplain

__all__ = ["readers"]


def readers(call: Call, layers: Layers, query: Query | None) -> tuple[Tensor, tuple[str, ...]]:
    """Return how much each token ``(T,)`` of the last layer counts as the output's, and what the reader must know.

    Unless `query` says it: the extra tokens that the target depends on, or else the mean of the patches. That is tried
    on an image of noise, so that it does not depend on any row.

    Raises
    ------
    CannotExplain
        When the class token is asked for and there is none.
    """
    tokens = layers.tokens
    if query is not None or not tokens.extra:
        return tokens.readers(query)
    try:
        read = _read(call, layers)
    except CannotExplain:  # a model without gradients
        return tokens.readers(None)
    extra = [place for place in tokens.extra if read[place]]
    if not extra and not read.any():
        return tokens.readers(None)
    if not extra:
        weights, remarks = tokens.readers("mean")
        return weights, (*remarks, "the output reads no class token, and the patches' own rows are averaged")
    weights = torch.zeros(tokens.count)
    weights[extra] = 1 / len(extra)
    said = f"the output reads token {' and '.join(map(str, extra))}, whose rows are shown"
    besides = "; it reads the patches too, whose own rows are left out" if read[tokens.patches].any() else ""
    return weights, (*tokens.remarks, said + besides)


def _magnitude(_attention: Tensor, slopes: Tensor) -> Tensor:
    """Return ``(B, Q)``: how much the target depends on each query's attention."""
    return slopes.abs().sum((1, 3))


def _read(call: Call, layers: Layers) -> Tensor:
    """Return ``(T,)`` whether the target depends on what each token takes from the others in the last layer."""
    stream = torch.Generator().manual_seed(0)
    noise = tuple(torch.rand(x[:1].shape, generator=stream).to(x) for x in call.inputs)
    first = rows_of(call, torch.arange(1))
    tried = LazyCall(call.passes, noise, first.read, first.seeds, lambda: call.passes.scores(noise, first.read))
    kept = [(queries,) for _, queries, _ in layers.shapes]
    return accounted(tried, layers, _magnitude, kept)[-1][0].ne(0).cpu()
