"""Where the class token looks: raw attention, layer by layer and head by head."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.attention.readers import Query, asked_readers, readers
from pellucid.attribution.attention.watching import Layers, layers_of, read_layers
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.tokens import PatchGrid
from pellucid.errors import CannotExplain

__all__ = ["attention_maps"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class attention_maps(Method):
    """Where one layer of a transformer looks: how much the class token takes from each patch.

    The attention that the network multiplied its values by, at the grid of patches; the class token and registers are
    dropped, so that a map adds up to at most 1. It is not attribution, and the same for every target.

    Attributes
    ----------
    layer
        Number of the layer from 0, or from the end below 0.
    head
        Number of a head; ``"mean"`` over all; ``"all"`` gives a channel a head.
    query
        Whose attention: of the ``"class"`` token, which is the first token that is no patch, or the ``"mean"`` of all
        patches'; None takes the tokens beside the patches that the output reads, or else the mean, and says which.
    grid
        Patches along each axis of the image; None finds them where the network shows them, or refuses.

    Raises
    ------
    CannotExplain
        When the network has no attention, no such layer or head, or tokens that are no grid of patches.
    """

    layer: int = -1
    head: Annotated[int, Field(ge=0)] | Literal["mean", "all"] = "mean"
    query: Query | None = None
    grid: PatchGrid = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="attention",
        question="Where does a layer of the transformer look?",
        needs=("attention",),
        sign="positive",
        cost="1 forward",
        reference="Vaswani et al. 2017, NeurIPS; Dosovitskiy et al. 2021, ICLR",
        warning="Attention, not attribution: it says where information may come from, for every target alike, not whether "
        "the output used it.",
        kind="visualisation",
        mechanism="attention",
    )

    def attribute(self, call: Call) -> Attribution:
        """Read the rows of the queries."""
        layers = layers_of(call, self.grid)
        number = self._layer(layers)
        weights, warnings = self._readers(call, layers, number)

        def rows(seen: int, maps: Tensor) -> Tensor:
            return torch.einsum("q,bhqk->bhk", weights.to(maps), maps) if seen == number else maps[:, :0]

        maps = [read_layers(batch, layers, rows)[number] for batch in batches(call)]
        values = layers.tokens.image(self._of_heads(torch.cat(maps)))
        return Attribution((values,), warnings=warnings, details={"layer": number})

    def _layer(self, layers: Layers) -> int:
        if not -len(layers) <= self.layer < len(layers):
            raise CannotExplain(
                f"{self}: the network has {len(layers)} layers of attention, from 0 to {len(layers) - 1}"
            )
        return self.layer % len(layers)

    def _of_heads(self, maps: Tensor) -> Tensor:
        """Return ``(N, 1, T)``, or one channel a head."""
        if self.head == "all":
            return maps
        if self.head == "mean":
            return maps.mean(1, keepdim=True)
        if self.head >= maps.shape[1]:
            raise CannotExplain(f"{self}: layer {self.layer} has {maps.shape[1]} heads, from 0 to {maps.shape[1] - 1}")
        return maps[:, self.head, None]

    def _readers(self, call: Call, layers: Layers, number: int) -> tuple[Tensor, tuple[str, ...]]:
        queries = layers.shapes[number][1]
        if queries == 1:
            return torch.ones(1), (f"layer {number} has one query, and its attention is shown",)
        if queries != layers.tokens.count:
            raise CannotExplain(
                f"{self}: layer {number} has {queries} queries for {layers.tokens.count} tokens, none of which is known to "
                "stand for the output; choose another layer"
            )
        if layers.shapes[-1][1] != queries:
            return asked_readers(layers.tokens, self.query)
        return readers(call, layers, self.query)
