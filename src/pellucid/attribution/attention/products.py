"""Where a call multiplies values by attention: a product over the axis that a softmax made to add up to one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pellucid.attribution.backward.functions import functions
from pellucid.errors import CannotExplain

__all__ = ["KEPT", "SOFTMAX", "Arrange", "Product", "headed", "product"]

SOFTMAX = frozenset(functions(("softmax",)))

KEPT = frozenset((*functions((
    "dropout", "alpha_dropout", "view", "view_as", "reshape", "flatten", "unflatten", "transpose", "swapaxes", "permute",
    "movedim", "contiguous", "clone", "to", "type", "type_as", "float", "half", "bfloat16", "double", "unsqueeze", "squeeze",
    "expand", "mul", "multiply", "masked_fill", "nan_to_num", "div", "true_divide", "truediv",
)), Tensor.mT.__get__, Tensor.__getitem__))  # type: ignore[attr-defined]  # fmt: skip
"""Calls after which attention is still attention: moved, scaled or masked."""

_MATMULS = frozenset(functions(("matmul", "bmm")))
_EINSUMS = frozenset(functions(("einsum",)))

Arrange = Callable[[Tensor], Tensor]
"""From the operand of a product to attention ``(..., Q, K)``: how much query q takes of key k."""


@dataclass(frozen=True)
class Product:
    """A product of attention and values.

    Attributes
    ----------
    place
        Which of the two operands the attention is.
    arrange
        From that operand to attention ``(..., Q, K)``.
    """

    place: int
    arrange: Arrange


def _as_it_is(weights: Tensor) -> Tensor:
    return weights


def _turned(weights: Tensor) -> Tensor:
    return weights.transpose(-1, -2)


def product(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], known: Callable[[Any], bool]
) -> Product | None:
    """Return where a call multiplies values by attention, or None where it does not.

    Parameters
    ----------
    function, args, kwargs
        The call.
    known
        Says of an operand whether it is attention.
    """
    if kwargs or function not in _MATMULS | _EINSUMS:
        return None
    operands = args[1:] if function in _EINSUMS else args
    if len(operands) != 2 or not all(isinstance(each, Tensor) and each.ndim > 2 for each in operands):
        return None
    place = next((place for place in (0, 1) if known(operands[place])), None)
    if place is None:
        return None
    if function in _EINSUMS:
        arrange = _named(args[0], place, operands)
        return arrange and Product(1 + place, arrange)
    if getattr(function, "__name__", "") == "__rmatmul__":
        return Product(place, _as_it_is if place else _turned)
    return Product(place, _turned if place else _as_it_is)


def _named(equation: str, place: int, operands: tuple[Tensor, ...]) -> Arrange | None:
    """Return the arrangement that an einsum's letters say: batch and heads are in all three terms."""
    if "->" not in equation:
        return None
    terms, made = equation.replace(" ", "").split("->")
    named = [_spread(term, operand.ndim) for term, operand in zip(terms.split(","), operands, strict=True)]
    own, other = named[place], named[1 - place]
    shared = [letter for letter in own if letter.isdigit() or (letter in other and letter in made)]
    keys = [letter for letter in own if letter in other and letter not in made and not letter.isdigit()]
    queries = [letter for letter in own if letter not in other and letter in made]
    if len(keys) != 1 or len(queries) != 1 or len(shared) + 2 != len(own):
        return None
    order = [own.index(letter) for letter in (*shared, *queries, *keys)]
    return lambda weights: weights.permute(order)


def _spread(term: str, axes: int) -> str:
    """Write an ellipsis as digits, one an axis."""
    hidden = axes - len(term.replace("...", ""))
    return term.replace("...", "".join(str(axis) for axis in range(hidden)))


def headed(weights: Tensor, rows: int) -> Tensor:
    """Return attention ``(..., Q, K)`` as ``(B, heads, Q, K)``.

    Raises
    ------
    CannotExplain
        When rows and heads cannot be told apart, as in windows.
    """
    shape = tuple(weights.shape)
    if weights.ndim == 4 and shape[0] == rows:
        return weights
    if weights.ndim == 3 and shape[0] % rows == 0:
        return weights.reshape(rows, -1, *shape[1:])
    raise CannotExplain(
        f"the network attends inside windows or along axes (attention of shape {shape} for {rows} rows): no token sees the "
        "whole image, and no map over all tokens exists; use integrated_gradients, occlusion or kernel_shap"
    )
