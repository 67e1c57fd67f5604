"""Which tokens stand for the output: those that it reads."""

import math
from typing import Literal

import torch
from torch import Tensor

from pellucid.attribution.attention.watching import Layers, accounted
from pellucid.attribution.method import Call
from pellucid.attribution.packing import LazyCall, rows_of
from pellucid.attribution.tokens import Tokens
from pellucid.errors import CannotExplain

__all__ = ["Query", "asked_readers", "readers"]

Query = Literal["class", "mean"]
"""Which tokens stand for the output: the class token, or all patches alike."""


def asked_readers(tokens: Tokens, query: Query | None) -> tuple[Tensor, tuple[str, ...]]:
    """Return how much each token ``(T,)`` counts as the output's, adding up to 1, and what was chosen unasked.

    Raises
    ------
    CannotExplain
        When the class token is asked for and there is none.
    """
    weights = torch.zeros(tokens.count)
    if query == "class" and not tokens.extra:
        raise CannotExplain(
            f"query='class' asks for a class token, and all {tokens.count} tokens are patches; say query='mean'"
        )
    chosen = query or ("class" if tokens.extra else "mean")
    if chosen == "class":
        weights[tokens.extra[0]] = 1
    else:
        weights[tokens.patches] = 1 / math.prod(tokens.grid)
    said = (f"token {tokens.extra[0]} was taken for the class token" if chosen == "class"
            else "there is no class token, and the patches' own rows are averaged")  # fmt: skip
    return weights, (*tokens.remarks, *(() if query else (said,)))


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
        return asked_readers(tokens, query)
    try:
        read = _read(call, layers)
    except CannotExplain:  # a model without gradients
        return asked_readers(tokens, None)
    extra = [place for place in tokens.extra if read[place]]
    if not extra and not read.any():
        return asked_readers(tokens, None)
    if not extra:
        weights, remarks = asked_readers(tokens, "mean")
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
