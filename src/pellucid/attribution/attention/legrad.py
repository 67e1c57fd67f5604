"""LeGrad: how the output formed so far, at each block, rises with that block's attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.attention.blocks import block_names, ending_early
from pellucid.attribution.attention.watching import Layers, accounted, square_layers
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import LazyCall, batches, owned
from pellucid.attribution.tokens import PatchGrid
from pellucid.models import repeat_rows

__all__ = ["legrad"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class legrad(Method):
    """Which patches the output rises with when a block pays them more attention, over all blocks.

    For each block, the tokens behind it go straight to what follows the last block (final norm, pooling, head), which gives
    a target value of its own; its gradient by that block's attention, negative parts dropped, is averaged over heads and
    queries. Shown is the mean over blocks, at the grid of patches, before the published scaling to [0, 1].

    Attributes
    ----------
    grid
        As for `attention_maps`.

    Raises
    ------
    CannotExplain
        When the network has no attention, layers that are no self-attention over one sequence of tokens, or no modules
        that hand all tokens from block to block.
    """

    grid: PatchGrid = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="attention",
        question="Which patches does this output rise with when the blocks pay them more attention?",
        needs=("gradients", "layers", "attention"),
        sign="positive",
        cost="2 forwards and 1 backward a block",
        reference="Bousselham et al. 2024, arXiv:2404.03214 (ICCV 2025)",
        warning="It reads early blocks through the last one's head, which was never trained on them; only what speaks for the "
        "output is kept, and the values have no unit.",
        kind="visualisation",
        mechanism="attention and gradient",
    )

    def attribute(self, call: Call) -> Attribution:
        """Average the blocks' rising slopes."""
        layers = square_layers(call, self, self.grid)
        names = block_names(call, layers)
        values = torch.cat([_mean_of_blocks(batch, layers, names) for batch in batches(call)])
        return Attribution((layers.tokens.image(values[:, None]),), warnings=layers.tokens.remarks)


def _rising(_attention: Tensor, slopes: Tensor) -> Tensor:
    """Return the mean over heads and queries of (∇A)⁺, ``(B, K)``."""
    return slopes.clamp(min=0).mean((1, 2))


def _mean_of_blocks(batch: Call, layers: Layers, names: Sequence[str]) -> Tensor:
    """Return ``(B, T)``: every row goes once for each block, behind which it leaves."""
    blocks = len(names)
    owner = torch.arange(len(batch)).repeat_interleave(blocks)
    behind = torch.arange(blocks).repeat(len(batch))[:, None].to(batch.inputs[0])
    inputs, read = repeat_rows(batch.inputs, blocks), owned(batch.read, owner)
    early = ending_early(names, len(inputs))

    def plainly() -> Tensor:
        outputs = batch.passes.outputs((*inputs, behind), read.layer, rules=early)
        return read(outputs, torch.arange(len(owner), device=outputs.device))

    each = LazyCall(batch.passes, inputs, read, (), plainly)
    rising = accounted(each, layers, _rising, [(layers.tokens.count,)] * blocks, through=early, further=(behind,))
    return torch.stack([book[number::blocks] for number, book in enumerate(rising)]).mean(0)
