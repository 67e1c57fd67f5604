"""The attention tap: every attention of a forward is seen as an explicit tensor, in modules and functional code alike.

A `TorchFunctionMode` follows what each softmax made until it multiplies values. Fused calls are made from simpler ones
first, so that there is something to see. The model is untouched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pellucid.attribution.attention.products import KEPT, SOFTMAX, Arrange, headed, product
from pellucid.attribution.attention.tokens import Sightings
from pellucid.attribution.backward.functions import functions
from pellucid.attribution.backward.operation import Function, tensors_in
from pellucid.attribution.backward.parts import ATTENTION
from pellucid.errors import CannotExplain

__all__ = ["See", "Sheet", "Tap"]

See = Callable[[int, Tensor, Arrange], Tensor]
"""Is given each attention in order: its number, the operand, and what arranges it as ``(B, heads, Q, K)``; returns the
operand to go on with."""

Sizes = int | tuple[int, ...]

_FUSED = {function: parts for name, parts in ATTENTION.items() for function in functions((name,))}
_JOINS = frozenset(functions(("cat", "concat", "concatenate")))
_UNFOLDS = frozenset({functional.unfold})
_FEATURE_MAPS = frozenset(functions(
    f"{kind}{rank}d" for kind in ("conv", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
    for rank in (1, 2, 3)
))  # fmt: skip


@dataclass
class Sheet:
    """What one forward showed.

    Attributes
    ----------
    shapes
        ``(heads, Q, K)`` of each attention, in order.
    seen
        Of the way from pixels to tokens.
    """

    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    seen: Sightings = field(default_factory=Sightings)


class Tap(TorchFunctionMode):
    """Shows each attention of one forward to `see`; used as a ``with`` block round the call.

    Parameters
    ----------
    rows
        Rows of the batch.
    see
        What is done with each attention.
    """

    def __init__(self, rows: int, see: See) -> None:
        super().__init__()
        self.sheet = Sheet()
        self._rows, self._see = rows, see
        self._origin: dict[int, int] = {}
        self._kept: list[Tensor] = []
        """What softmax made, and what it became: held, so that no identity comes twice."""
        self._softmaxes: list[tuple[int, tuple[int, ...]]] = []
        """Length of the axis that adds up to one, and shape."""
        self._multiplied: set[int] = set()

    def __torch_function__(
        self, function: Function, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Make one call of the forward, and note what it shows."""
        kwargs = kwargs or {}
        if function in _FUSED:
            with self:
                return _FUSED[function](None, *args, **kwargs)
        found = product(function, args, kwargs, lambda operand: id(operand) in self._origin)
        if found is not None and self._over_keys(args[found.place], found.arrange):
            args = (*args[: found.place], self._shown(args[found.place], found.arrange), *args[found.place + 1 :])
        made = function(*args, **kwargs)
        self._follow(function, args, kwargs, made)
        return made

    def _over_keys(self, weights: Tensor, arrange: Arrange) -> bool:
        """Say whether the product is over an axis as long as the softmax's: else it is a gate, not attention."""
        return arrange(weights).shape[-1] == self._softmaxes[self._origin[id(weights)]][0]

    def _shown(self, weights: Tensor, arrange: Arrange) -> Tensor:
        def place(tensor: Tensor) -> Tensor:
            return headed(arrange(tensor), self._rows)

        origin = self._origin[id(weights)]
        if origin in self._multiplied:
            raise CannotExplain(
                f"one softmax of shape {self._softmaxes[origin][1]} multiplies values twice, and which product is the layer's "
                "attention cannot be told; use integrated_gradients, occlusion or kernel_shap"
            )
        self._multiplied.add(origin)
        _, heads, queries, keys = place(weights).shape
        self.sheet.shapes.append((heads, queries, keys))
        return self._see(len(self.sheet.shapes) - 1, weights, place)

    def _follow(self, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: Any) -> None:
        if not isinstance(made, Tensor):
            return
        if function in SOFTMAX:
            if made.ndim > 2:
                self._keep(made, len(self._softmaxes))
                self._softmaxes.append((made.shape[_axis(args, kwargs, -1)], tuple(made.shape)))
        elif function in KEPT:
            origins = [self._origin[id(each)] for each in tensors_in((args, kwargs)) if id(each) in self._origin]
            if origins:
                self._keep(made, origins[0])
        elif not self.sheet.shapes:
            self._note_layout(function, args, kwargs, made)

    def _keep(self, made: Tensor, origin: int) -> None:
        self._origin[id(made)] = origin
        self._kept.append(made)

    def _note_layout(self, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: Tensor) -> None:
        if function in _JOINS and made.ndim == 3 and _axis(args, kwargs, 0) % 3 < 2:
            axis = _axis(args, kwargs, 0)
            self.sheet.seen.joins.append(tuple(piece.shape[axis] for piece in tensors_in(args[:1])))
        elif function in _FEATURE_MAPS and len(made) == self._rows:
            self.sheet.seen.grids.append(tuple(made.shape[2:]))
        elif function in _UNFOLDS:
            self.sheet.seen.grids.append(_unfolded(*args, **kwargs))

    def finish(self) -> Sheet:
        """Return what the forward showed.

        Raises
        ------
        CannotExplain
            When a softmax over tokens went another way than into a product with values.
        """
        lengths = {keys for _, _, keys in self.sheet.shapes}
        for number, (length, shape) in enumerate(self._softmaxes):
            if number not in self._multiplied and length in lengths:
                raise CannotExplain(
                    f"a softmax of shape {shape} over {length} tokens is used otherwise than to multiply values, where the "
                    "attention cannot be followed; use integrated_gradients, occlusion or kernel_shap"
                )
        return self.sheet


def _axis(args: tuple[Any, ...], kwargs: Mapping[str, Any], default: int) -> int:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else default)
    return default if axis is None else int(axis)


def _unfolded(
    image: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> tuple[int, ...]:
    """Return the grid of places from which ``F.unfold`` cuts."""
    size, gap, edge, step = ((each, each) if isinstance(each, int) else each
                             for each in (kernel_size, dilation, padding, stride))  # fmt: skip
    return tuple(
        (length + 2 * edge[axis] - gap[axis] * (size[axis] - 1) - 1) // step[axis] + 1
        for axis, length in enumerate(image.shape[-2:])
    )
