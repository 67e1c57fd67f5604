"""Rows in parts that memory bears: what a generator or a move does to all of them."""

from torch import Tensor, cat

from pellucid.counterfactual.generator import FittedGenerator

__all__ = ["encoded", "in_parts", "rebuilt"]

_AT_ONCE = 64


def in_parts(rows: Tensor, size: int = _AT_ONCE) -> list[Tensor]:
    """Return the rows in parts of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def encoded(fitted: FittedGenerator, images: Tensor) -> Tensor:
    """Return the latents ``(N, D)`` of images."""
    return cat([fitted.encode(part) for part in in_parts(images)])


def rebuilt(fitted: FittedGenerator, images: Tensor) -> Tensor:
    """Return the reconstructions of images."""
    return cat([fitted.decode(fitted.encode(part)) for part in in_parts(images)])
