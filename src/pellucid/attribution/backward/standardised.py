"""LRP through layer, group, instance and RMS normalisation: the spread is a constant, the mean is subtracted linearly.

That is the rule of Ali et al. 2022 (ICML) and Achtibat et al. 2024 (ICML): what is divided by carries no relevance, and
the shift after it absorbs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.operation import Function, Operation, Pullback, bound
from pellucid.attribution.backward.spread import RelevanceState

__all__ = ["NORMS", "running", "standardised"]

_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
}

NORMS: tuple[Function, ...] = (
    functional.layer_norm, functional.group_norm, functional.rms_norm, functional.instance_norm,
    torch.layer_norm, torch.group_norm, torch.rms_norm,
)  # fmt: skip
"""Those whose arguments come in that order."""


def running(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Say whether an instance normalisation uses its running statistics, as a BatchNorm does."""
    return not (args[5] if len(args) > 5 else kwargs.get("use_input_stats", True))


def standardised(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Normalise by statistics of the activations themselves."""
    (entering,) = operation.active
    given = bound(operation, _SETTINGS[operation.name])
    output: Tensor = operation.run(entering)
    view, axes = _groups(operation.name, given, entering)
    centred = operation.name != "rms_norm"
    inverse = _inverse(entering.reshape(view), axes, given.get("eps"), centred=centred)
    weight, bias = (_wide(given.get(part), operation.name, entering) for part in ("weight", "bias"))
    name = operation.name

    def pull(arrived: Tensor) -> tuple[Tensor]:
        if bias is not None:
            state.ledger.take(arrived * bias, name)
        scaled = (arrived if weight is None else arrived * weight).reshape(view) * inverse
        back = scaled - scaled.mean(axes, keepdim=True) if centred else scaled
        return (back.reshape(arrived.shape),)

    return output, pull


def _groups(name: str, given: Mapping[str, Any], entering: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape in which the last axes named are normalised together."""
    if name in {"layer_norm", "rms_norm"}:
        return tuple(entering.shape), tuple(range(-len(given["normalized_shape"]), 0))
    groups = given["num_groups"] if name == "group_norm" else entering.shape[1]
    return (len(entering), groups, -1), (-1,)


def _inverse(values: Tensor, axes: tuple[int, ...], eps: float | None, *, centred: bool) -> Tensor:
    apart = values - values.mean(axes, keepdim=True) if centred else values
    added = eps if eps is not None else 1e-5 if centred else torch.finfo(values.dtype).eps
    return (apart.square().mean(axes, keepdim=True) + added).rsqrt()


def _wide(values: Tensor | None, name: str, like: Tensor) -> Tensor | None:
    """Return a scale or shift so that it fits the activations: one number a place in layer norms, else a channel."""
    if values is None:
        return None
    kept = values.detach()
    return kept if name in {"layer_norm", "rms_norm"} else kept.view(-1, *[1] * (like.ndim - 2))
