"""Chefer's relevance: attention weighted by the target's gradient, followed through the layers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.attention.readers import Query, readers
from pellucid.attribution.attention.watching import accounted, square_layers
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.tokens import PatchGrid
from pellucid.errors import CannotExplain

__all__ = ["chefer"]


def _rising(attention: Tensor, slopes: Tensor) -> Tensor:
    """Return the mean over heads of (∇A ⊙ A)⁺, ``(B, Q, K)``."""
    return (slopes * attention).clamp(min=0).mean(1)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class chefer(Method):
    """Which patches the output rises with, along the attention through which they reached it.

    Relevance starts as R = I and each layer of self-attention adds Ā R, Ā the mean over heads of (∇A ⊙ A)⁺; shown is
    the class token's row of R, at the grid of patches. With ``query="mean"`` it is the mean of the patches' rows, in which
    every patch has 1 / patches of its own from I.

    Attributes
    ----------
    query, grid
        As for `attention_maps`.

    Raises
    ------
    CannotExplain
        When the network has no attention, layers that are no self-attention over one sequence of tokens, or a target
        that does not read the class token.
    """

    query: Query | None = None
    grid: PatchGrid = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="attention",
        question="Which patches does this output rise with, through the attention paid to them?",
        needs=("gradients", "attention"),
        sign="positive",
        cost="1 forward, 1 backward",
        reference="Chefer, Gur and Wolf 2021, ICCV",
        warning="Only what speaks for the output is kept; values and MLPs between the attentions are followed by the gradient "
        "alone, and the values have no unit.",
        kind="visualisation",
        mechanism="attention and gradient",
    )

    def attribute(self, call: Call) -> Attribution:
        """Add up relevance, from the output's row down."""
        layers = square_layers(call, self, self.grid)
        weights, warnings = readers(call, layers, self.query)
        kept = [(queries, keys) for _, queries, keys in layers.shapes]
        parts = []
        for batch in batches(call):
            rising = accounted(batch, layers, _rising, kept)
            relevance = weights.to(rising[0]).expand(len(batch), 1, -1)
            _refuse_unread(rising[-1], relevance)
            for layer in reversed(rising):
                relevance = relevance + relevance @ layer
            parts.append(relevance)
        return Attribution((layers.tokens.image(torch.cat(parts)),), warnings=warnings)


def _refuse_unread(last: Tensor, readers: Tensor) -> None:
    """Refuse rows of the last layer on which nothing depends, where something depends on others."""
    read = (readers @ last).amax() > 0
    if bool(last.amax() > 0) and not bool(read):
        asked, other = ("the class token", "mean") if bool((readers == 1).any()) else ("the patches", "class")
        raise CannotExplain(
            f"the target does not read {asked} of the last layer, but other tokens; say query={other!r}"
        )
