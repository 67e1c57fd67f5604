"""Which images each step of a training sees, and which way round."""

import torch
from torch import Tensor

from pellucid.counterfactual.parts import in_parts

__all__ = ["drawn", "mirrored"]


def drawn(count: int, size: int, steps: int, random: torch.Generator) -> list[Tensor]:
    """Return the rows of each step, `size` of `count`: every image once before any comes twice."""
    orders = [torch.randperm(count, generator=random) for _ in range(-(-steps * size // count))]
    return in_parts(torch.cat(orders)[: steps * size], size)


def mirrored(x: Tensor, random: torch.Generator) -> Tensor:
    """Return images ``(N, C, *S)``, each mirrored along every spatial axis with an even chance."""
    for axis in range(2, x.ndim):
        turned = torch.rand(len(x), generator=random).to(x) < 0.5
        x = torch.where(turned.view(-1, *[1] * (x.ndim - 1)), x.flip(axis), x)
    return x
