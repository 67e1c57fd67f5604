"""Attention maps and their gradients, batch by batch through the one forward: what the methods are made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.attention.products import Arrange
from pellucid.attribution.attention.tap import See, Sheet, Tap
from pellucid.attribution.attention.tokens import found_tokens
from pellucid.attribution.method import METHODS, Call
from pellucid.attribution.packing import rows_of
from pellucid.attribution.tokens import PatchGrid, Tokens
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Forward, Inputs, Model, Rules
from pellucid.models.agreement import check_agreement

__all__ = ["Fuse", "Layers", "Weigh", "accounted", "layers_of", "read_layers", "square_layers", "tapped"]

Fuse = Callable[[int, Tensor], Tensor]
"""From a layer's number and attention ``(B, heads, Q, K)`` to what a method keeps of it, one row a row."""

Weigh = Callable[[Tensor, Tensor], Tensor]
"""From attention and its gradient ``(B, heads, Q, K)`` to what a method keeps, one row a row."""


@dataclass(frozen=True)
class Layers:
    """The attention of a network, as one row showed it.

    Attributes
    ----------
    shapes
        ``(heads, Q, K)`` of each layer, in the order of the forward.
    tokens
        The layout of the keys.
    """

    shapes: tuple[tuple[int, int, int], ...]
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.shapes)


def tapped(see: See, sheets: list[Sheet], taken: int) -> Rules:
    """Return the change of a forward that shows each attention to `see`; of its inputs, the first `taken` are images."""

    def rules(_model: Model, forward: Forward) -> Forward:
        def run(*given: Tensor) -> tuple[Tensor, ...]:
            with Tap(len(given[0]), see) as tap:
                outputs = forward(*given[:taken])
            sheets.append(tap.finish())
            return outputs

        return run

    return rules


def layers_of(call: Call, grid: PatchGrid = None) -> Layers:
    """Return the attention of the network, found on the first row.

    Raises
    ------
    CannotExplain
        When there is none, or its tokens are no grid of patches; the sentence names methods that would do.
    """
    first = rows_of(call, torch.arange(1))
    sheet = _watched(first, lambda _, maps: maps[:, :0])[1][0]
    if not sheet.shapes:
        others = [name for name, known in METHODS.items() if "attention" not in known.taxonomy.needs]
        raise CannotExplain(
            f"attention was asked of {call.passes.model!r}, and no product of a softmax with values was seen in its forward; "
            f"these methods do without: {', '.join(others)}"
        )
    images = [tuple(x.shape[2:]) for x in call.inputs]
    counts = {keys for _, _, keys in sheet.shapes}
    if len(counts) > 1:
        raise CannotExplain(
            f"the layers attend over {sorted(counts)} tokens, and only one sequence of tokens throughout can be laid over "
            "the image; use integrated_gradients, occlusion or kernel_shap"
        )
    return Layers(tuple(sheet.shapes), found_tokens(counts.pop(), sheet.seen, images, grid))


def square_layers(call: Call, method: object, grid: PatchGrid = None) -> Layers:
    """Return the attention of a network all of whose layers are self-attention.

    Raises
    ------
    CannotExplain
        When a layer has other queries than keys.
    """
    layers = layers_of(call, grid)
    for number, (_, queries, keys) in enumerate(layers.shapes):
        if queries != keys:
            raise CannotExplain(
                f"{method} follows tokens through layers of self-attention, and layer {number} has {queries} queries for "
                f"{keys} keys; use attention_maps, integrated_gradients or occlusion"
            )
    return layers


def read_layers(call: Call, layers: Layers, fuse: Fuse) -> list[Tensor]:
    """Return what `fuse` keeps of each layer, for all rows, without gradients.

    Raises
    ------
    GuardError
        When the forward under the tap is not the plain forward, or rows have other layers than the first.
    """
    maps, sheets = _watched(call, fuse)
    for sheet in sheets:
        _same_layers(sheet, layers)
    return maps


def _watched(call: Call, fuse: Fuse) -> tuple[list[Tensor], list[Sheet]]:
    kept: list[list[Tensor]] = []
    sheets: list[Sheet] = []

    def see(number: int, weights: Tensor, arrange: Arrange) -> Tensor:
        if number == 0:
            kept[len(sheets) :] = [[]]  # a forward that ran out of memory left its own behind
        kept[-1].append(fuse(number, arrange(weights.detach())))
        return weights

    outputs = call.passes.outputs(call.inputs, call.read.layer, rules=tapped(see, sheets, len(call.inputs)))
    _agree(call, outputs)
    return [torch.cat(parts) for parts in zip(*kept, strict=False)], sheets


def _agree(call: Call, outputs: Tensor) -> None:
    score = call.read(outputs, torch.arange(len(call), device=outputs.device))
    check_agreement(
        score,
        call.output,
        outputs,
        under="the attention tap",
        use="integrated_gradients, occlusion or kernel_shap",
    )


def _same_layers(sheet: Sheet, layers: Layers) -> None:
    if tuple(sheet.shapes) != layers.shapes:
        raise GuardError(
            f"rows attend in different layers, (heads, queries, keys) {sheet.shapes} and {list(layers.shapes)}: explain them "
            "one by one"
        )


class _Account(torch.autograd.Function):
    """Passes attention on; on the way back, books what `weigh` makes of it and its gradient."""

    @staticmethod
    def forward(ctx: Any, weigh: Weigh, arrange: Arrange, weights: Tensor, _account: Tensor) -> Tensor:
        ctx.weigh, ctx.arrange = weigh, arrange
        ctx.save_for_backward(weights)
        return weights.clone()

    @staticmethod
    def backward(ctx: Any, arrived: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        return None, None, arrived, ctx.weigh(ctx.arrange(weights), ctx.arrange(arrived))


def accounted(
    call: Call,
    layers: Layers,
    weigh: Weigh,
    kept: Sequence[tuple[int, ...]],
    *,
    through: Rules | None = None,
    further: Inputs = (),
) -> list[Tensor]:
    """Return what `weigh` keeps of each layer's attention and the target's gradient by it, for all rows.

    The books come back as the gradient of one more input a layer, so that batching and retries need no care.

    Parameters
    ----------
    call
        The call; its output must be the target's plain values.
    layers
        Of its network.
    weigh
        What is kept.
    kept
        Shape of a row of it, layer by layer.
    through
        A change of the forward, which takes the `further` inputs behind the images.
    further
        One row a row.

    Raises
    ------
    GuardError
        When the forward under the tap is not the plain forward, or rows have other layers than the first.
    """
    taken = len(call.inputs) + len(further)
    books = [call.inputs[0].new_zeros(len(call), *shape) for shape in kept]
    rules = _booked(layers, weigh, taken, through)
    slopes = call.passes.gradient((*call.inputs, *further, *books), call.read, rules=rules, known=call.output)[2]
    return list(slopes[taken:])


def _booked(layers: Layers, weigh: Weigh, taken: int, through: Rules | None) -> Rules:
    """Return the change of a forward that books each attention in its own input, behind the first `taken`."""
    sheets: list[Sheet] = []

    def rules(model: Model, forward: Forward) -> Forward:
        changed = forward if through is None else through(model, forward)

        def run(*given: Tensor) -> tuple[Tensor, ...]:
            books = given[taken:]

            def see(number: int, weights: Tensor, arrange: Arrange) -> Tensor:
                if number >= len(books):
                    return weights  # more layers than the first row has: refused below
                booked: Tensor = _Account.apply(weigh, arrange, weights, books[number])  # type: ignore[no-untyped-call]
                return booked

            outputs = tapped(see, sheets, taken)(model, changed)(*given)
            _same_layers(sheets.pop(), layers)
            return outputs

        return run

    return rules
