"""Which layers to ask where nobody says: one at every depth of the network."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pellucid.attribution.cam_layer import spatial_layers
from pellucid.attribution.method import Call
from pellucid.models import Model, Passes, ReadOut

__all__ = ["layers_over_depth"]

MOST = 5


def layers_over_depth(model: Model | Callable[..., Any], x: Tensor) -> tuple[str, ...]:
    """Return a few layers from the input to the output: the last that gives each size of feature map.

    Of a network whose maps all have one size, such as a transformer's, layers at even distances.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module``.
    x
        One image ``(1, C, *S)`` in its own units.

    Raises
    ------
    CannotExplain
        When no layer gives a feature map.
    """
    own = Model.of(model)
    inputs = tuple(tensor[:1] for tensor in own.prepare(x))
    with Passes(own) as passes:
        read = ReadOut(lambda out, _rows: out.flatten(1)[:, 0])
        found = spatial_layers(Call(passes, inputs, read, inputs[0].new_zeros(1), (0,)))
    found = [(name, grid) for name, grid in found if not _holds_several(name, grid, found)]
    last = {grid: name for name, grid in found}
    names = [name for name, grid in found if last[grid] == name]
    if len(names) < 3:
        names = [name for name, _ in found]
    count = min(MOST, len(names))
    return tuple(names[round(place * (len(names) - 1) / max(count - 1, 1))] for place in range(count))


def _holds_several(name: str, grid: tuple[int, ...], found: list[tuple[str, tuple[int, ...]]]) -> bool:
    """Return whether a layer is the body that layers of other sizes lie in."""
    return any(other.startswith(f"{name}.") and size != grid for other, size in found)
