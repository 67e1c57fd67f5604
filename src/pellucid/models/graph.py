"""The autograd graph of a forward: its nodes, and one fault of torch's own that is mended there."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

__all__ = ["lay_out_gradients", "nodes_behind"]

_NORMALISES = "NativeBatchNormBackward0"


def nodes_behind(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """Walk the autograd graph from tensors to its leaves, each node once."""
    waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)


def lay_out_gradients(tensor: Tensor) -> None:
    """Make the gradient arrive in the usual order of memory wherever activations are normalised by their own statistics.

    Torch computes an instance norm of one row as a batch norm over a view whose strides read as channels-last and as
    channels-first alike. A gradient that arrives channels-last (behind a permutation, a channels-last weight, a linear layer over
    channels) is then read in the wrong order, silently: up to torch 2.13 on the CPU the row's gradient is wrong, and right in a
    batch of two.
    """
    for node in nodes_behind((tensor,)):
        if node.name() == _NORMALISES and node._saved_training:  # noqa: SLF001
            node.register_prehook(_contiguous)


def _contiguous(arrived: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if gradient is None else gradient.contiguous() for gradient in arrived)
