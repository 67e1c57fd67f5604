"""Class activation maps from gradients: Σ_k w_k · A_k, where w is a function of the activations A and slopes ∂f/∂A.

Every map is signed, before any ReLU, at the layer's own grid. On a layer of tokens, A and the slopes are those of the
patches.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attribution.backward import relu_rules
from pellucid.attribution.cam_layer import checked_maps, chosen_layer, place, same_axes, weighted_sum
from pellucid.attribution.cam_layout import layout_of
from pellucid.attribution.cam_weights import (
    Weigh,
    conserving_slope,
    curved_slope,
    mean_slope,
    own_slope,
    rising_slope,
)
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.scaling import resized
from pellucid.attribution.tokens import PatchGrid

__all__ = ["gradcam", "gradcam_plus_plus", "guided_gradcam", "hirescam", "layercam", "xgradcam"]


def _map(call: Call, at: str, grid: PatchGrid, weigh: Weigh) -> tuple[Tensor, bool]:
    """Return the map, and whether any activation is negative."""
    parts, negative, layout = [], False, None
    for batch in batches(call):
        (found,), (rising,) = batch.gradient(at)
        layout = layout or layout_of(batch, at, tuple(found.shape[1:]), grid)
        activations, slopes = layout.maps(checked_maps(found, at)), layout.maps(rising)
        parts.append(weighted_sum(weigh(activations, slopes), activations))
        negative = negative or bool((activations < 0).any())
    return torch.cat(parts), negative


@dataclass(frozen=True, kw_only=True, repr=False)
class _Weighted(Method):
    """A map of one layer whose weights come from its activations and slopes."""

    at: str | None = None
    grid: PatchGrid = None

    weigh: ClassVar[Weigh]
    """A function of the class, not a method: how activations and slopes become weights."""

    rectified: ClassVar[bool] = False
    """Whether the weights divide by sums of activations, which only a ReLU keeps from cancelling."""

    def attribute(self, call: Call) -> Attribution:
        """Weight the layer's feature maps and add them up."""
        at, warnings = chosen_layer(call, self.at)
        values, negative = _map(call, at, self.grid, type(self).weigh)
        if negative and self.rectified:
            warnings += (f"layer {at!r} has negative activations, and {self.name} supposes a layer after its ReLU",)
        return Attribution((values,), warnings=warnings, details=place(at, values))


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class gradcam(_Weighted):
    """Which regions of the image speak for the output, as coarse as the layer that is looked at.

    Signed, before any ReLU, at the layer's own grid; the published map is ``keep_sign(how="positive")`` of it, and
    `upsample` brings it to the image's size.

    Attributes
    ----------
    at
        Name of the layer; None takes the last one with a feature map, and says which. A layer of tokens ``(N, T, C)`` is
        laid out at the grid of its patches, without the class token and registers before them.
    grid
        Patches along each axis, where the net does not show them by a patch convolution.
    """

    weigh: ClassVar[Weigh] = staticmethod(mean_slope)

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which coarse regions speak for the output, and which against?",
        needs=("gradients", "layers"),
        cost="1 forward, 1 backward",
        reference="Selvaraju et al. 2017, ICCV",
        warning="Its grain is the layer's; gradients averaged over space may point elsewhere than the output does.",
        kind="visualisation",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class gradcam_plus_plus(_Weighted):
    """Which regions hold what the output looks for, with small and repeated objects given their due.

    Weights Σ_S α · max(g, 0), α = g² / (2 g² + g³ Σ_S A): squares and cubes of the slope g stand for the second and
    third derivatives of exp(score) on a piecewise linear network. The factor exp(score) itself, common to a whole map, is
    left out: it overflows, and changes no place against another.

    Attributes
    ----------
    at, grid
        As for `gradcam`.

    Raises
    ------
    CannotExplain
        When negative activations turn the denominator of a weight to zero or below.
    """

    weigh: ClassVar[Weigh] = staticmethod(curved_slope)
    rectified: ClassVar[bool] = True

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which coarse regions hold what the output looks for, small and repeated objects included?",
        needs=("gradients", "layers"),
        cost="1 forward, 1 backward",
        reference="Chattopadhay et al. 2018, WACV",
        warning="Its weights are never negative: nothing can speak against the output; it supposes activations after a ReLU.",
        kind="visualisation",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class hirescam(_Weighted):
    """Which regions of a layer the output was computed from: activation × slope at every place.

    Where only pooling by the mean, flattening and a linear head follow the layer, the map adds up to the logit less the
    head's bias, and every place has exactly its share.

    Attributes
    ----------
    at, grid
        As for `gradcam`.
    """

    weigh: ClassVar[Weigh] = staticmethod(own_slope)

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which places of the layer did the output come from, and which did it come down by?",
        needs=("gradients", "layers"),
        cost="1 forward, 1 backward",
        reference="Draelos and Carin 2020, arXiv:2011.08891",
        warning="It is exact where the head is linear; behind further layers it is their first-order approximation.",
        kind="visualisation",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class layercam(_Weighted):
    """Which places of a layer the output rises with, fine enough to use at early layers as well.

    Each place is weighted by the positive part of its own slope.

    Attributes
    ----------
    at, grid
        As for `gradcam`.
    """

    weigh: ClassVar[Weigh] = staticmethod(rising_slope)

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which places, at this layer's grain, does the output rise with?",
        needs=("gradients", "layers"),
        cost="1 forward, 1 backward",
        reference="Jiang et al. 2021, IEEE TIP 30",
        warning="Falling slopes are dropped: what speaks against the output is not shown; early layers give noisy maps.",
        kind="visualisation",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class xgradcam(_Weighted):
    """Which regions speak for the output, with weights made so that the map adds up to Σ activation × slope.

    Weights Σ_S g A / Σ_S A, the slopes' mean over space weighted by the activation: conservation to first order.

    Attributes
    ----------
    at, grid
        As for `gradcam`.

    Raises
    ------
    CannotExplain
        When a channel's activations cancel over space: its weight would be divided by zero.
    """

    weigh: ClassVar[Weigh] = staticmethod(conserving_slope)
    rectified: ClassVar[bool] = True

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which coarse regions speak for the output, in parts that add up to first order?",
        needs=("gradients", "layers"),
        cost="1 forward, 1 backward",
        reference="Fu et al. 2020, BMVC",
        warning="Within a channel every place is treated alike; it supposes activations after a ReLU, whose sum does not cancel.",
        kind="visualisation",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class guided_gradcam(Method):
    """Fine detail inside the regions that speak for the output: guided backpropagation × the positive part of Grad-CAM.

    Attributes
    ----------
    at
        Name of the layer of the Grad-CAM; None takes the last one with a feature map, and says which.
    grid
        As for `gradcam`.
    """

    at: str | None = None
    grid: PatchGrid = None

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
        at, warnings = chosen_layer(call, self.at)
        coarse = _map(call, at, self.grid, mean_slope)[0].clamp(min=0)
        same_axes(coarse, call, at, self)
        fine = call.passes.gradient(call.inputs, call.read, rules=relu_rules("guided", self.name), known=call.output)[2]
        values = tuple(slopes * resized(coarse, tuple(slopes.shape[2:])) for slopes in fine)
        return Attribution(values, warnings=warnings, details=place(at, coarse))
