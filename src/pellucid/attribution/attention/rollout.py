"""Attention rollout: attention followed through the layers, residual connections counted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pellucid.attribution.attention.readers import Query, readers
from pellucid.attribution.attention.watching import read_layers, square_layers
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.tokens import PatchGrid

__all__ = ["attention_rollout", "with_residual"]

_FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean(1),
    "max": lambda maps: maps.amax(1),
    "min": lambda maps: maps.amin(1),
}


def with_residual(attention: Tensor) -> Tensor:
    """Return 0.5 A + 0.5 I with rows that add up to 1, for attention ``(..., T, T)``."""
    mixed = 0.5 * attention + 0.5 * torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    return mixed / mixed.sum(-1, keepdim=True)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class attention_rollout(Method):
    """From which patches information can have come to the output, if every layer only mixed tokens by its attention.

    The product over layers of 0.5 A + 0.5 I, rows adding up to 1; shown is the class token's row of it, at the grid of
    patches. The same for every target.

    Attributes
    ----------
    heads
        How a layer's heads become one A: their ``"mean"`` as published, ``"max"`` or ``"min"``.
    query, grid
        As for `attention_maps`.

    Raises
    ------
    CannotExplain
        When the network has no attention, or layers that are no self-attention over one sequence of tokens (windows,
        merged patches).
    """

    heads: Literal["mean", "max", "min"] = "mean"
    query: Query | None = None
    grid: PatchGrid = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="attention",
        question="From which patches can information have reached the output through attention and skip connections?",
        needs=("attention",),
        sign="positive",
        cost="1 forward",
        reference="Abnar and Zuidema 2020, ACL",
        warning="Attention, not attribution: it ignores values, projections and MLPs, and is the same for every target.",
        kind="visualisation",
        mechanism="attention",
    )

    def attribute(self, call: Call) -> Attribution:
        """Multiply the layers, from the output's row down."""
        layers = square_layers(call, self, self.grid)
        weights, warnings = readers(call, layers, self.query)
        fuse, parts = _FUSIONS[self.heads], []
        for batch in batches(call):
            reached = weights.to(batch.inputs[0]).expand(len(batch), 1, -1)
            for attention in reversed(read_layers(batch, layers, lambda _, maps: fuse(maps))):
                reached = reached @ with_residual(attention)
            parts.append(reached)
        return Attribution((layers.tokens.image(torch.cat(parts)),), warnings=warnings)
