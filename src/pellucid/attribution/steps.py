"""The steps between a raw map and a figure or a number, each a value with a name: pool, sign, resize, scale, align.

They change conclusions, so no method applies one by itself; `combine` applies them in order and records them.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.special import ndtri
from scipy.stats import rankdata
from torch import Tensor

from pellucid.attribution.objects import object_sums
from pellucid.attribution.scaling import resized
from pellucid.errors import BadRecipe, CannotExplain, ShapeError
from pellucid.recipes import Recipe, Registry

__all__ = ["STEPS", "Scene", "Step", "align", "keep_sign", "normalise", "pool_channels", "pool_objects", "upsample"]


@dataclass(frozen=True)
class Scene:
    """What a step may look at besides the map: the spatial shape of the images, and labelled objects."""

    shape: tuple[int, ...] | None = None
    labels: Tensor | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Step(Recipe):
    """One named step from a map ``(N, C, *S)`` to another."""

    def settle(self, scene: Scene) -> "Step":  # noqa: ARG002  # most steps need nothing from the scene
        """Return the step as it is recorded: with what it takes from the scene filled in."""
        return self

    @abstractmethod
    def apply(self, values: Tensor, scene: Scene) -> Tensor:
        """Return the map after this step."""


STEPS: Registry[Step] = Registry("step", Step, "pellucid.steps")  # type: ignore[type-abstract]


def _strongest(values: Tensor) -> Tensor:
    return values.gather(1, values.abs().argmax(1, keepdim=True))


_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda values: values.mean(1, keepdim=True),
    "sum": lambda values: values.sum(1, keepdim=True),
    "max": lambda values: values.amax(1, keepdim=True),
    "max_abs": _strongest,
    "l2": lambda values: torch.linalg.vector_norm(values, dim=1, keepdim=True),
}


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pool_channels(Step):
    """One number a pixel from its channels; the channel axis stays, with length 1.

    Attributes
    ----------
    how
        ``"mean"``, ``"sum"`` (keeps Σ values), ``"max"``, ``"max_abs"`` (the strongest, with its sign) or ``"l2"``.
    """

    how: Literal["mean", "max", "max_abs", "sum", "l2"] = "mean"

    def apply(self, values: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Pool over the channel axis."""
        return _POOLS[self.how](values)


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class keep_sign(Step):
    """Which evidence stays: all of it, for, against, or its magnitude.

    Attributes
    ----------
    how
        ``"signed"`` (all), ``"positive"`` (against becomes 0), ``"negative"`` (for becomes 0; stays below 0),
        ``"absolute"``.
    """

    how: Literal["signed", "positive", "absolute", "negative"] = "signed"

    def apply(self, values: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Keep one side."""
        if self.how == "positive":
            return values.clamp(min=0)
        if self.how == "negative":
            return values.clamp(max=0)
        return values.abs() if self.how == "absolute" else values


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class upsample(Step):
    """Bring a coarse map to the images' grid: linear, pixel centres aligned, so nothing overshoots.

    Attributes
    ----------
    shape
        Spatial shape; None takes the images' own, and the record then says it.
    """

    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None

    def settle(self, scene: Scene) -> "upsample":
        """Fill in the images' spatial shape."""
        if self.shape is None and scene.shape is None:
            raise BadRecipe(
                "upsample needs to know the images' shape: give combine(..., x=images) or upsample(shape=...)"
            )
        return self.replace(shape=self.shape or scene.shape)

    def apply(self, values: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Interpolate every spatial axis."""
        shape = self.shape or ()
        if len(shape) != values.ndim - 2:
            raise ShapeError(
                f"{self} has {len(shape)} axes and the map {values.ndim - 2} (shape {tuple(values.shape)})"
            )
        return resized(values, shape)


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pool_objects(Step):
    """One number an object: ``(N, C, K)`` for labels 1 to K; an object that an image lacks is NaN.

    Attributes
    ----------
    how
        ``"sum"`` (what the object adds) or ``"density"`` (its mean: sum / pixels, so that size does not count).
    """

    how: Literal["sum", "density"] = "sum"

    def apply(self, values: Tensor, scene: Scene) -> Tensor:
        """Add up every labelled object; background (label 0) is left out."""
        if scene.labels is None:
            raise BadRecipe(f"{self} needs labelled objects: give combine(..., labels=label_image)")
        sums, pixels = object_sums(values, scene.labels)
        sums, pixels = sums[..., 1:], pixels[:, None, 1:]
        kept = sums if self.how == "sum" else sums / pixels.clamp(min=1)
        return kept.masked_fill(pixels == 0, torch.nan).to(values.dtype)


def _whole(values: Tensor, step: Step) -> None:
    if bool(values.isnan().any()):
        raise ShapeError(f"{step} met NaN, as absent objects have it: let it come before pool_objects")


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class normalise(Step):
    """Divide by one scale, sign kept and nothing clipped: of each map, or of all maps that are given together.

    Attributes
    ----------
    how
        ``"map_max"`` and ``"map_p99"``: largest and 99th percentile of the magnitudes in each map; ``"data_max"`` and
        ``"data_p99"``: over all maps; ``"none"``.

    References
    ----------
    Tětková et al. 2025, the four normalisations of the grain study.
    """

    how: Literal["map_max", "data_max", "map_p99", "data_p99", "none"] = "none"

    def apply(self, values: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Scale every map."""
        if self.how == "none":
            return values
        _whole(values, self)
        over, kind = self.how.split("_")
        sizes = values.abs().double().cpu().numpy().reshape(len(values), -1)
        lines = sizes.reshape(1, -1) if over == "data" else sizes
        scales = lines.max(1) if kind == "max" else np.percentile(lines, 99, axis=1)
        empty = (scales == 0) & (lines.max(1) > 0)
        if empty.any():
            where = "all maps together" if over == "data" else f"map {int(empty.argmax())}"
            raise CannotExplain(f"{self}: the 99th percentile of {where} is zero, so it is no scale; use {over}_max")
        scale = torch.from_numpy(np.where(scales == 0, 1, scales)).to(values)
        return values / scale.view(-1, *[1] * (values.ndim - 1))


def _ranks(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(rankdata(values.cpu().numpy().reshape(len(values), -1), axis=1), dtype=np.float64)


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class align(Step):
    """Give every map the same distribution of values, so that methods of other scales and tails can be averaged.

    Attributes
    ----------
    how
        ``"rank"``: ranks within the map from 0 to 1, ties shared; ``"quantile"``: the normal quantile of the rank;
        ``"zscore"``: less the map's mean, over its standard deviation; ``"none"``. All but the last move zero.
    """

    how: Literal["rank", "quantile", "zscore", "none"] = "rank"

    def apply(self, values: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Replace the values of every map."""
        if self.how == "none":
            return values
        _whole(values, self)
        if self.how == "zscore":
            flat = values.double().flatten(1)
            apart, spread = flat - flat.mean(1, keepdim=True), flat.std(1, keepdim=True, correction=0)
            flat_map = (values.flatten(1) == values.flatten(1)[:, :1]).all(1, keepdim=True)
            return torch.where(flat_map, 0, apart / spread.where(spread > 0, 1)).view(values.shape).to(values)
        ranks = _ranks(values)
        count = ranks.shape[1]
        shares = (ranks - 1) / max(1, count - 1) if self.how == "rank" else ndtri((ranks - 0.5) / count)
        return torch.from_numpy(shares).view(values.shape).to(values)
