"""Programs that were saved for a fixed number of images at once, called with any number."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["FixedBatch", "in_batches"]


def in_batches(call: Callable[..., Tensor], inputs: tuple[Tensor, ...], size: int) -> Tensor:
    """Call with exactly `size` rows at a time; a last batch that is short is filled up with its last row, which is dropped."""
    parts = []
    for start in range(0, len(inputs[0]), size):
        given = tuple(tensor[start : start + size] for tensor in inputs)
        rows = len(given[0])
        if rows < size:
            given = tuple(torch.cat([part, part[-1:].expand(size - rows, *part.shape[1:])]) for part in given)
        parts.append(call(*given)[:rows])
    return torch.cat(parts)


class FixedBatch(nn.Module):
    """A network that takes exactly `size` rows."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return outputs for any number of rows."""
        return in_batches(self.network, inputs, self.size)
