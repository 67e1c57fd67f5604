"""What the layers of a model say of images: one row of features an image, and the slope of an output along them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.attribution.cam_layout import Layout, layout_of
from pellucid.attribution.method import Call
from pellucid.errors import CannotExplain, ShapeError
from pellucid.images import ImageSet
from pellucid.models import Forward, Model, Passes, ReadOut, Rules, Target
from pellucid.models.tapping import tapping

__all__ = ["Pictures", "Pool", "layer_features", "layer_maps", "layer_slopes"]

Pool = Literal["mean", "token", "places"]
"""``"mean"`` over all places or patches of the layer, its first ``"token"``, or all ``"places"`` side by side."""

_BLOCK = 64


@dataclass(frozen=True)
class Pictures:
    """The images that a question is asked of: a tensor, or ids of a set that are read a block at a time.

    Attributes
    ----------
    source
        ``(N, C, *S)``, or a set.
    ids
        Which images of the set, all when None; names of the rows of a tensor.
    """

    source: Tensor | ImageSet
    ids: tuple[str, ...]

    @classmethod
    def of(cls, images: "Tensor | ImageSet | Pictures", ids: Sequence[str] | None = None) -> "Pictures":
        """Take images as a user gives them; the rows of a tensor without names are named ``row 0``, ``row 1``, ..."""
        if isinstance(images, Pictures):
            return images if ids is None else cls(images.source, tuple(ids))
        if isinstance(images, ImageSet):
            return cls(images, images.ids if ids is None else tuple(ids))
        names = tuple(f"row {row}" for row in range(len(images))) if ids is None else tuple(ids)
        if len(names) != len(images):
            raise ShapeError(f"{len(names)} ids were given for {len(images)} images of shape {tuple(images.shape)}")
        return cls(images, names)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return some images ``(n, C, *S)`` in their own units."""
        if isinstance(self.source, Tensor):
            return self.source[start:stop]
        return self.source.tensor(self.ids[start:stop])

    def blocks(self) -> Iterator[Tensor]:
        """Yield all images, a block at a time."""
        if not self.ids:
            raise ShapeError("there are no images to ask the model about")
        for start in range(0, len(self), _BLOCK):
            yield self.rows(start, min(start + _BLOCK, len(self)))


def _layout(passes: Passes, layer: str, shape: tuple[int, ...], first: Tensor) -> Layout:
    read = ReadOut(lambda out, _rows: out.flatten(1)[:, 0])
    return layout_of(Call(passes, (first,), read, first.new_zeros(1), (0,)), layer, shape, None)


@dataclass(frozen=True)
class _Pooling:
    """How a layer's output becomes one row of numbers, and what that does to slopes."""

    pool: Pool
    layout: Layout | None

    @classmethod
    def of(cls, passes: Passes, layer: str, pool: Pool, out: Tensor, first: Tensor) -> "_Pooling":
        """Choose it from the layer's output of one image."""
        if pool == "places" or out.ndim == 2:
            return cls(pool, None)
        if pool == "token":
            if out.ndim != 3:
                shape = ("N", *out.shape[1:])
                raise CannotExplain(f"layer {layer!r} gives {shape}, which has no tokens (N, T, C); use pool='mean'")
            return cls(pool, None)
        return cls(pool, _layout(passes, layer, tuple(out.shape[1:]), first))

    def values(self, out: Tensor) -> Tensor:
        """Return features ``(N, D)``."""
        if self.pool == "token" and out.ndim == 3:
            return out[:, 0]
        return out.flatten(1) if self.layout is None else self.layout.maps(out).flatten(2).mean(2)

    def slopes(self, gradient: Tensor) -> Tensor:
        """Return how the output rises when a feature does: a mean rises when all of its places rise together."""
        if self.layout is None:
            return self.values(gradient)
        return self.layout.maps(gradient).flatten(2).sum(2)


def _watch(layers: Sequence[str], kept: dict[str, Tensor]) -> Rules:
    """Return rules that note the layers' outputs of each batch and change nothing."""

    def rules(model: Model, _forward: Forward) -> Forward:
        forward = tapping(model, tuple(layers), {})

        def run(*given: Tensor) -> tuple[Tensor, ...]:
            output, *outs = forward(*given)
            kept.update(zip(layers, outs, strict=True))
            return (output,)

        return run

    return rules


def _checked(values: Tensor, layer: str) -> Tensor:
    if not bool(values.isfinite().all()):
        raise CannotExplain(f"layer {layer!r} gives NaN or infinity for some image; choose another layer")
    return values.double().cpu()


def layer_features(
    model: Model | Any,
    images: Tensor | ImageSet | Pictures,
    layers: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    pool: Pool = "mean",
    batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Describe each image by what it excites in each layer: one forward for all layers.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module``.
    images, ids
        ``(N, C, *S)``, or a set and which of its images; all when None.
    layers
        Dotted names, such as ``"stages.2"``.
    pool
        ``"mean"`` over all places of a feature map or patches of a transformer (its class token is left out), ``"token"``
        for the first token alone, or ``"places"`` for every number of the layer.
    batch_size, progress
        As for `pellucid.explain`.

    Returns
    -------
    dict
        Layer to ``(N, D)``, float64.

    Raises
    ------
    CannotExplain
        When the model has no such layer, or how its numbers lie over the image cannot be told.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    with Passes(own, batch_size=batch_size, progress=progress) as passes:
        passes.expect(len(pictures), "reading layers")
        found: dict[str, list[Tensor]] = {name: [] for name in layers}
        poolings: dict[str, _Pooling] = {}
        for block in pictures.blocks():
            (inputs,) = own.prepare(block)
            size = passes.batch_size((inputs,))
            for start in range(0, len(inputs), size):
                part, kept = inputs[start : start + size], dict[str, Tensor]()
                halved = len(passes.warnings)  # of a batch that memory made the passes halve only the last half is kept
                passes.outputs((part,), rules=_watch(layers, kept))
                whole = len(passes.warnings) == halved
                for name in layers:
                    out = kept[name] if whole else passes.outputs((part,), name)
                    if name not in poolings:
                        poolings[name] = _Pooling.of(passes, name, pool, out[:1], part[:1])
                    found[name].append(_checked(poolings[name].values(out), name))
    return {name: torch.cat(parts) for name, parts in found.items()}


def layer_maps(
    model: Model | Any,
    images: Tensor | ImageSet | Pictures,
    layer: str,
    *,
    ids: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Return a layer's feature maps ``(N, C, *grid)`` in place, float32; the patches of a transformer as such maps.

    Raises
    ------
    CannotExplain
        When the layer gives no feature map.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    parts: list[Tensor] = []
    layout: Layout | None = None
    with Passes(own, batch_size=batch_size) as passes:
        for block in pictures.blocks():
            (inputs,) = own.prepare(block)
            out = passes.outputs((inputs,), layer)
            layout = layout or _layout(passes, layer, tuple(out.shape[1:]), inputs[:1])
            _checked(out, layer)
            parts.append(layout.maps(out).float().cpu())
    return torch.cat(parts)


def layer_slopes(
    model: Model | Any,
    images: Tensor | ImageSet | Pictures,
    layers: Sequence[str],
    target: Target,
    *,
    ids: Sequence[str] | None = None,
    pool: Pool = "mean",
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """Return how fast the target rises along each feature of `layer_features`: one backward a layer.

    The derivative along a direction v of the features is the product with v. Of a mean over places it is that of
    moving all places alike, so that it does not depend on how many there are.

    Returns
    -------
    dict
        Layer to ``(N, D)``, float64.

    Raises
    ------
    CannotExplain
        When the target does not depend on the layer through differentiable steps.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    poolings: dict[str, _Pooling] = {}
    with Passes(own, batch_size=batch_size) as passes:
        for block in pictures.blocks():
            (inputs,) = own.prepare(block)
            read = target.freeze(own, passes.outputs((inputs,)))
            for name in layers:
                (slopes,) = passes.gradient((inputs,), read, at=name)[2]
                if name not in poolings:
                    poolings[name] = _Pooling.of(passes, name, pool, slopes[:1], inputs[:1])
                found[name].append(_checked(poolings[name].slopes(slopes), name))
    return {name: torch.cat(parts) for name, parts in found.items()}
