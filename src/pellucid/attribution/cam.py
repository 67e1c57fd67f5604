"""Class activation maps: which places of a layer's feature maps speak for the output, at that layer's own grid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.attribution.backward import relu_rules
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.scaling import resized
from pellucid.errors import CannotExplain
from pellucid.models import take_rows

__all__ = ["gradcam", "guided_gradcam", "last_spatial_layer"]


def last_spatial_layer(call: Call) -> str:
    """Return the layer whose output is the last feature map of the forward, found on the first row.

    A feature map has the images' number of axes and more than one place along each spatial axis. A layer that is
    called more than once, or whose output is the model's own, does not count.

    Raises
    ------
    CannotExplain
        When there is none.
    """
    module = call.passes.model.module
    if module is None:
        raise CannotExplain("class activation maps need layers; a plain callable has none: wrap an nn.Module")
    ranks = {x.ndim for x in call.inputs}
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.append((name, output))

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in module.named_modules()]
    try:
        call.passes.outputs(take_rows(call.inputs, slice(0, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    calls = [name for name, _ in seen]
    final = next((output for name, output in reversed(seen) if not name), None)
    maps = [name for name, output in seen
            if name and calls.count(name) == 1 and output is not final
            and output.ndim in ranks and min(output.shape[2:], default=1) > 1]  # fmt: skip
    if not maps:
        raise CannotExplain("no layer of the model gives a feature map (N, C, *S) with more than one place; say at=")
    return maps[-1]


def _cam(call: Call, at: str) -> Tensor:
    """Return Σ_k (mean over space of ∂f/∂A_k) · A_k, signed, ``(N, 1, *S)`` of the layer."""
    parts = []
    for batch in batches(call):
        _, (activations,), (slopes,) = batch.passes.gradient(batch.inputs, batch.read, at=at)
        if activations.ndim < 3:
            shape = tuple(activations.shape)
            raise CannotExplain(f"layer {at!r} gives {shape}; a class activation map needs feature maps (N, C, *S)")
        weights = slopes.flatten(2).mean(2).view(*slopes.shape[:2], *[1] * (slopes.ndim - 2))
        parts.append((weights * activations).sum(1, keepdim=True))
    return torch.cat(parts)


def _chosen(call: Call, at: str | None) -> tuple[str, tuple[str, ...]]:
    if at is not None:
        return at, ()
    found = last_spatial_layer(call)
    return found, (f"at={found!r} was chosen: the last layer with a feature map",)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class gradcam(Method):
    """Which regions of the image speak for the output, as coarse as the layer that is looked at.

    Signed, before any ReLU, at the layer's own grid; the published map is ``keep_sign(how="positive")`` of it, and
    `upsample` brings it to the image's size.

    Attributes
    ----------
    at
        Name of the layer; None takes the last one with a feature map, and says which.
    """

    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which coarse regions speak for the output, and which against?",
        needs=("gradients", "layers"),
        cost="1 forward, 1 backward",
        reference="Selvaraju et al. 2017, ICCV",
        warning="Its grain is the layer's; gradients averaged over space may point elsewhere than the output does.",
        kind="visualisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Weight the layer's feature maps by their mean gradients."""
        at, warnings = _chosen(call, self.at)
        return Attribution((_cam(call, at),), warnings=warnings, details={"at": at})


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class guided_gradcam(Method):
    """Fine detail inside the regions that speak for the output: guided backpropagation × the positive part of Grad-CAM.

    Attributes
    ----------
    at
        Name of the layer of the Grad-CAM; None takes the last one with a feature map, and says which.
    """

    at: str | None = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which fine structures lie in the regions that speak for the output?",
        needs=("gradients", "layers"),
        cost="2 forwards, 2 backwards",
        reference="Selvaraju et al. 2017, ICCV; Springenberg et al. 2015, ICLR workshop",
        warning="Guided backpropagation hardly depends on the class or on the later weights: its detail is edges.",
        kind="visualisation",
    )

    def attribute(self, call: Call) -> Attribution:
        """Multiply the two maps; the CAM is linearly upsampled to each input."""
        at, warnings = _chosen(call, self.at)
        coarse = _cam(call, at).clamp(min=0)
        for place, x in enumerate(call.inputs):
            if x.ndim != coarse.ndim:
                shapes = f"{tuple(coarse.shape)} and input {place} {tuple(x.shape)}"
                raise CannotExplain(f"{self}: layer {at!r} has a map of shape {shapes}: their axes do not match")
        fine = call.passes.gradient(call.inputs, call.read, rules=relu_rules("guided"), known=call.output)[2]
        values = tuple(slopes * resized(coarse, tuple(slopes.shape[2:])) for slopes in fine)
        return Attribution(values, warnings=warnings, details={"at": at})
