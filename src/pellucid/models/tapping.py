"""One call of a network, with the outputs of named layers beside its own."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from pellucid.errors import CannotExplain, ShapeError
from pellucid.models.model import Model

__all__ = ["Forward", "Rules", "tapping", "unread"]

Forward = Callable[..., tuple[Tensor, ...]]
"""One call of the network: from its inputs to its output, followed by the layers that were tapped."""

Rules = Callable[[Model, Forward], Forward]
"""A change of the backward pass: returns a forward of the same values whose graph propagates something else."""


def tapping(model: Model, taps: tuple[str, ...], placed: Mapping[str, Tensor]) -> Forward:
    """Return the network's call with the layers named in `taps` read, or, where `placed` holds values, replaced.

    Raises, when called, CannotExplain where a layer is not called exactly once or returns no tensor, and ShapeError where
    the output has not one row a row.
    """

    def forward(*given: Tensor) -> tuple[Tensor, ...]:
        tapped: dict[str, Tensor] = {}
        hooks = [model.layer(name).register_forward_hook(_keep(tapped, name, placed.get(name))) for name in taps]
        try:
            output = model.network(*given)
        finally:
            for hook in hooks:
                hook.remove()
        for name in taps:
            if name not in tapped:
                raise CannotExplain(f"layer {name!r} was never called in the model's forward")
        return (_checked(output, len(given[0])), *(tapped[name] for name in taps))

    return forward


def unread(forward: Forward) -> Forward:
    """Return the same call with the network's own output cut from the graph."""

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        output, *layers = forward(*given)
        return (output.detach(), *layers)

    return run


def _keep(tapped: dict[str, Tensor], name: str, placed: Tensor | None) -> Callable[[nn.Module, Any, Any], Tensor]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise CannotExplain(f"layer {name!r} returns {type(output).__name__}, not one tensor; choose another layer")
        if name in tapped:
            raise CannotExplain(f"layer {name!r} is called more than once in a forward; choose a layer called once")
        if placed is not None and placed.shape != output.shape:
            shapes = f"{tuple(placed.shape)} were given for {tuple(output.shape)}"
            raise ShapeError(f"the values to place at layer {name!r} do not fit: {shapes}")
        tapped[name] = output.clone() if placed is None else placed  # not the layer's input, as of an Identity
        return tapped[name].clone()  # what follows may write in place (ReLU, +=): the layer's own output is kept

    return hook


def _logits(output: object) -> Tensor:
    """Return what a library's output object, such as that of transformers, names its logits."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ShapeError(
            f"the model returned {type(output).__name__}; wrap it in a function that returns one tensor (N, K) or "
            "(N, K, *S)"
        )
    return logits


def _checked(output: object, rows: int) -> Tensor:
    if not isinstance(output, Tensor):
        output = _logits(output)
    if output.ndim == 1:
        output = output[:, None]
    if len(output) != rows:
        raise ShapeError(
            f"the model returned shape {tuple(output.shape)} for {rows} rows; it must keep the row axis first"
        )
    return output
