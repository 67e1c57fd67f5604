"""Slopes of maxima between two points: the difference goes to the position that makes the larger maximum."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.operation import Operation, Pullback, tensors_in
from pellucid.attribution.backward.slopes import at_point, ratio, thinned
from pellucid.errors import GuardError

__all__ = ["largest", "pooled"]


def _sent(image: Tensor, baseline: Tensor, tops: tuple[Tensor, Tensor], places: tuple[Tensor, Tensor]) -> Any:
    """Return where differences of maxima go along the last axis, and how much of it a unit's difference makes."""
    (above, below), (here, there) = tops, places
    place = torch.where(above >= below, here, there)
    share = ratio(above - below, (image - baseline).gather(-1, place), 1.0)

    def pull(arrived: Tensor) -> Tensor:
        return torch.zeros_like(image).scatter_add(-1, place, arrived * share)

    return pull


def pooled(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Any, Pullback]:
    """Slope a max-pool of any rank and spelling."""
    (entering,) = operation.active
    output, here, asked = _pooled(operation, entering)
    below, there, _ = _pooled(operation, before[0])
    rank = int(operation.name.split("max_pool")[1][0])
    image, baseline, *both = (part.flatten(-rank) for part in (entering, before[0], output, below, here, there))
    pull, shape = _sent(image, baseline, (both[0].clone(), both[1]), (both[2], both[3])), entering.shape
    return (output, here) if asked else output, lambda arrived: (pull(arrived.flatten(-rank)).view(shape),)


def _pooled(operation: Operation, entering: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return maxima, their positions, and whether the model asked for positions."""
    name = operation.name.removesuffix("_with_indices")
    given = {key: value for key, value in operation.kwargs.items() if key not in {"return_indices", "input"}}
    last = {"max_pool": 6, "adaptive_max_pool": 2}[name[:-2]]
    asked = operation.name != name or operation.function is torch.adaptive_max_pool1d
    asked = asked or bool(operation.kwargs.get("return_indices")) or any(operation.args[last:])
    output, places = getattr(functional, f"{name}_with_indices")(entering, *operation.args[1:last], **given)
    return output, places, asked


def largest(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Any, Pullback]:
    """Slope ``torch.max`` along an axis, or of two tensors."""
    if sum(1 for _ in tensors_in((operation.args, operation.kwargs))) > 1:
        return _larger(operation, before)
    if len(operation.args) < 2 and "dim" not in operation.kwargs:
        raise GuardError("the maximum over all axes mixes the rows; take it with amax, without the row axis")
    dim = operation.kwargs.get("dim", operation.args[1] if len(operation.args) > 1 else None)
    output, (entering,) = operation.run(*operation.active), operation.active
    image, baseline = entering.movedim(dim, -1), before[0].movedim(dim, -1)
    (above, here), (below, there) = (values.max(-1, keepdim=True) for values in (image, baseline))
    pull = _sent(image, baseline, (above, below), (here, there))
    shape = above.shape
    return tuple(output), lambda arrived: (pull(_column(arrived, dim, entering.ndim, shape)).movedim(-1, dim),)


def _column(arrived: Tensor, dim: int, axes: int, shape: torch.Size) -> Tensor:
    return arrived.movedim(dim, -1) if arrived.ndim == axes else arrived.reshape(shape)


def _larger(operation: Operation, before: tuple[Tensor, ...]) -> tuple[Tensor, Pullback]:
    """Take max(a, b) for b + relu(a − b)."""
    output: Tensor = operation.run(*operation.active)
    a, b = tensors_in((operation.args, operation.kwargs))
    (now, over), (was, beyond) = (at_point(operation, (a, b), point) for point in (operation.active, before))
    more, was_more = now - over, was - beyond
    share = ratio(more.relu() - was_more.relu(), more - was_more, (more > 0).to(more))
    parts = {id(a): share, id(b): 1 - share} if a is not b else {id(a): torch.ones_like(share)}
    sent = [(parts[id(source)], source.shape) for source in operation.sources]
    return output, lambda arrived: tuple(thinned(arrived * part, shape) for part, shape in sent)
