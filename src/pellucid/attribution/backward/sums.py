"""LRP through sums: of activations, which need no rule unless only positive terms count, and those made of products."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.bends import shifted, slope
from pellucid.attribution.backward.operands import one
from pellucid.attribution.backward.operation import Operation, Pullback, apply_rule
from pellucid.attribution.backward.rows import in_rows
from pellucid.attribution.backward.shares import stabiliser
from pellucid.attribution.backward.spread import STABILISER, RelevanceState

__all__ = ["addcmul", "added", "addmm", "lerp"]


def added(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tell a shift by a constant from a sum of activations."""
    rule = shifted if one(args, kwargs) else _positive_terms
    return apply_rule(in_rows(rule), state, function, args, kwargs)


def _positive_terms(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Share a sum's relevance among its positive terms: z⁺ with weights one."""
    output: Tensor = operation.run(*operation.active)
    blank = tuple(torch.zeros_like(term) for term in operation.active)
    terms = [operation.run(*blank[:place], term, *blank[place + 1 :]) for place, term in enumerate(operation.active)]
    whole = sum((term.clamp(min=0) for term in terms), torch.zeros_like(output))
    added = stabiliser(whole, STABILISER)
    portion, masks = output / (whole + added), [term > 0 for term in terms]
    back, name = slope(operation), operation.name

    def pull(arrived: Tensor) -> tuple[Tensor | None, ...]:
        state.ledger.take(arrived * portion * added, name)
        return tuple(back(arrived * portion * mask)[place] for place, mask in enumerate(masks))

    return output, pull


def addmm(_state: RelevanceState, bias: Tensor, *factors: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return a matrix product and what is added to it."""
    return torch.add(torch.matmul(*factors) * alpha, bias * beta)


def addcmul(_state: RelevanceState, whole: Tensor, first: Tensor, second: Tensor, *, value: float = 1) -> Tensor:
    """Return a sum with a product of two."""
    return torch.add(whole, torch.mul(first, second) * value)


def lerp(_state: RelevanceState, start: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Return what lies between two."""
    return torch.add(start, torch.mul(torch.sub(end, start), weight))
