"""Expressive gradients: integrated gradients at the image and at inner layers, laid over one another."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.cam_layer import checked_maps, spatial_layers
from pellucid.attribution.cam_layout import layout_of
from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.path import integrated_gradients
from pellucid.errors import ShapeError
from pellucid.models import Inputs

__all__ = ["expressive_gradients", "laid_over"]

_MOST = 3
"""Layers that are taken where none is named: the deepest resolutions of the network."""


def laid_over(coarse: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a coarse map ``(N, C, *S)`` on a finer grid: linear in shape, and every map keeps its sum.

    Each cell's value is shared among the pixels as linear interpolation weighs them.
    """
    for axis, length in enumerate(shape, start=2):
        size = coarse.shape[axis]
        if size > length:
            raise ShapeError(
                f"a map of {tuple(coarse.shape[2:])} places cannot be laid over {shape} pixels: it is finer"
            )
        weights = functional.interpolate(torch.eye(size, dtype=coarse.dtype)[:, None], length, mode="linear")[:, 0]
        weights = (weights / weights.sum(1, keepdim=True)).to(coarse.device)
        coarse = torch.tensordot(coarse.movedim(axis, -1), weights, 1).movedim(-1, axis)
    return coarse


def _deepest(call: Call) -> tuple[str, ...]:
    """Return the last layer of each resolution below the image's, at most `_MOST`; else the last feature map."""
    found: dict[tuple[int, ...], str] = {}
    for name, shape in spatial_layers(call):
        found.pop(shape, None)
        found[shape] = name
    image = tuple(call.inputs[0].shape[2:])
    coarser = [name for shape, name in found.items() if shape != image and all(map(int.__le__, shape, image))]
    return tuple(coarser[-_MOST:]) or tuple(found.values())[-1:]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class expressive_gradients(Method):
    """Which parts of the image, at several grains at once, make the output differ from the reference.

    Integrated gradients at the image say it pixel by pixel and leave a lesion speckled; at a layer they say it feature by
    feature, at that layer's grain. The fusion is their mean with equal weights: values at each layer are added up over
    channels, laid over the image so that their sum is kept, and spread evenly over its channels. Every term adds up to
    the same f(x) − f(b) wherever all of the network passes through its layer, and so does their mean. With ``at=()`` it
    is `integrated_gradients` exactly.

    Attributes
    ----------
    at
        Names of the layers beside the image; None takes the last one of each of the (at most three) deepest resolutions,
        and says which.
    steps, baseline
        As for `integrated_gradients`, at every layer.

    Raises
    ------
    CannotExplain
        When a layer gives no feature map with the images' axes.
    ShapeError
        When a layer is finer than the image, or several inputs do not share their space.
    """

    at: tuple[str, ...] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    baseline: Fill = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="path",
        question="Which regions, from fine texture to whole structures, add to the output against the reference image?",
        needs=("gradients", "layers"),
        complete="tolerance",
        cost="(1 + layers) × integrated gradients",
        reference="Yang et al. 2019, PLoS ONE 14, e0215076; the fusion, which the source leaves open, is the mean",
        warning="Coarse layers smear across a structure's edge: it covers lesions better and outlines them worse.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Average the integrated gradients of the image and of every layer."""
        at = _deepest(call) if self.at is None else self.at
        finest = self._integrated(call, None)
        parts = [finest, *(self._layer(call, name) for name in at)]
        values = tuple(torch.stack(maps).mean(0) for maps in zip(*(part.values for part in parts), strict=True))
        before = torch.stack([part.reference_output for part in parts if part.reference_output is not None]).mean(0)
        warnings = tuple(dict.fromkeys(warning for part in parts for warning in part.warnings))
        if self.at is None:
            warnings += (f"at={at!r} was chosen: the last layer of each of the deepest resolutions",)
        details = {"at": at, "baseline": finest.details["baseline"]}
        return Attribution(values, reference_output=before, warnings=warnings, details=details)

    def _integrated(self, call: Call, at: str | None) -> Attribution:
        return integrated_gradients(steps=self.steps, baseline=self.baseline, at=at).attribute(call)

    def _layer(self, call: Call, at: str) -> Attribution:
        found = self._integrated(call, at)
        (maps,) = found.values
        layout = layout_of(call, at, tuple(maps.shape[1:]), None)
        summed = layout.maps(checked_maps(maps, at)).sum(1, keepdim=True)
        return Attribution(
            self._over(summed, call.inputs), reference_output=found.reference_output, warnings=found.warnings
        )

    def _over(self, summed: Tensor, inputs: Inputs) -> Inputs:
        """Lay a layer's map over the inputs, an even share for each of their channels."""
        spaces = {tuple(x.shape[2:]) for x in inputs}
        if len(spaces) > 1:
            raise ShapeError(f"{self} lays layers over inputs of one space, and these have {sorted(spaces)}; say at=()")
        whole = laid_over(summed, spaces.pop()) / sum(x.shape[1] for x in inputs)
        return tuple(whole.expand_as(x) for x in inputs)
