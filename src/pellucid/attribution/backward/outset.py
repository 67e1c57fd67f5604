"""Where a backward pass sets out from the outputs' values, as relevance does, instead of from one."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pellucid.models import ReadOut

__all__ = ["from_values"]


class _Start(torch.autograd.Function):
    """Where outputs are read: an attribution starts from their values, as relevance does."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        """Let an output out."""
        ctx.output = output.detach()
        return output.clone()

    @staticmethod
    def backward(ctx: Any, arrived: Tensor) -> Tensor:
        """Multiply what the target asks for by the output's value."""
        started: Tensor = arrived * ctx.output
        return started


def from_values(read: ReadOut) -> ReadOut:
    """Return a target of the same value whose slope by each output is multiplied by that output."""
    return replace(read, read=lambda outputs, rows: read(_Start.apply(outputs), rows))  # type: ignore[no-untyped-call]
