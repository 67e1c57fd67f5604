"""Fills and baselines: what replaces a hidden part of an image, and what "absent" means to a path method.

Every fill is an image of the input's shape in model space, made of one row: row i never depends on row j.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.content import Content
from pellucid.errors import BadRecipe, ShapeError
from pellucid.models import Inputs

__all__ = [
    "BLUR",
    "FILLS",
    "LOCAL",
    "Fill",
    "FillValue",
    "Image",
    "NamedFill",
    "as_image",
    "gaussian_blur",
    "known",
    "meaning",
    "reference",
]

BLUR = 0.1
"""Sigma of ``"blur"`` as a fraction of the shortest spatial axis."""

LOCAL = 0.5
"""Width of the window of ``"local_mean"`` as a fraction of the shortest spatial axis."""


@dataclass(frozen=True)
class NamedFill:
    """A fill that has a name: its meaning, and how it is made of ``(N, C, *S)`` and one generator a row."""

    meaning: str
    make: Callable[[Tensor, Sequence[torch.Generator]], Tensor]
    spatial: bool = True


def _rest(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _shortest(x: Tensor) -> int:
    return min(x.shape[2:])


def _smooth(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every spatial axis with `kernel`, renormalised at the rim so that constants stay."""
    reach = len(kernel) // 2
    kernel = kernel.to(x).view(1, 1, -1)
    for axis in _rest(x):
        lines = x.movedim(axis, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        weight = functional.conv1d(torch.ones_like(flat[:1]), kernel, padding=reach)
        x = (functional.conv1d(flat, kernel, padding=reach) / weight).reshape(lines.shape).movedim(-1, axis)
    return x


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur ``(N, C, *S)`` along every spatial axis with a Gaussian of `sigma` pixels, cut at four sigma."""
    if sigma <= 0:
        return x.clone()
    reach = math.ceil(4 * sigma)
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return _smooth(x, torch.exp(-0.5 * (places / sigma) ** 2))


def _blur(x: Tensor, _streams: Sequence[torch.Generator]) -> Tensor:
    return gaussian_blur(x, BLUR * _shortest(x))


def _local_mean(x: Tensor, _streams: Sequence[torch.Generator]) -> Tensor:
    return _smooth(x, torch.ones(2 * max(1, int(LOCAL * _shortest(x) / 2)) + 1))


def _mean(x: Tensor, _streams: Sequence[torch.Generator]) -> Tensor:
    return x.mean(_rest(x), keepdim=True).expand_as(x)


def _noise(x: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
    drawn = torch.stack([torch.randn(x.shape[1:], generator=stream) for stream in streams]).to(x)
    spread = x.std(_rest(x), keepdim=True, correction=0)
    return x.mean(_rest(x), keepdim=True) + spread * drawn


def _edge_mean(x: Tensor, _streams: Sequence[torch.Generator]) -> Tensor:
    inside = tuple(slice(1, -1) for _ in x.shape[2:])
    rim = torch.ones(x.shape[2:], dtype=torch.bool, device=x.device)
    rim[inside] = False
    return x[:, :, rim].mean(-1).view(*x.shape[:2], *[1] * (x.ndim - 2)).expand_as(x)


FILLS: Mapping[str, NamedFill] = MappingProxyType(
    {
        "zero": NamedFill(
            "zero in model space (the data mean after normalisation, black without)",
            lambda x, _streams: torch.zeros_like(x),
            spatial=False,
        ),
        "mean": NamedFill("the image's own mean of each channel", _mean),
        "blur": NamedFill(f"the image blurred by a Gaussian, sigma {BLUR} of the shortest axis", _blur),
        "local_mean": NamedFill(f"the mean of a window of {LOCAL} of the shortest axis round each pixel", _local_mean),
        "noise": NamedFill("Gaussian noise with the image's own mean and spread of each channel", _noise),
        "minimum": NamedFill(
            "the image's smallest value of each channel",
            lambda x, _streams: x.amin(_rest(x), keepdim=True).expand_as(x),
        ),
        "maximum": NamedFill(
            "the image's largest value of each channel",
            lambda x, _streams: x.amax(_rest(x), keepdim=True).expand_as(x),
        ),
        "edge_mean": NamedFill("the mean of the image's rim of one pixel, a sample of the background", _edge_mean),
    }
)
"""Fills by name; a number, or one number a channel, is a fill too."""


class Image(Content):
    """One image as a fill: the same for every row.

    Parameters
    ----------
    tensor
        ``(C, *S)`` or ``(1, C, *S)`` in model space, finite.
    """

    noun = "image"

    def __init__(self, tensor: Tensor) -> None:
        if not tensor.is_floating_point() or tensor.ndim < 2 or not bool(tensor.isfinite().all()):
            raise BadRecipe(
                f"an image as a fill is a finite floating-point tensor (C, *S) in model space, not {tuple(tensor.shape)} of "
                f"{tensor.dtype}"
            )
        super().__init__(tensor)

    def rows(self, x: Tensor) -> Tensor:
        """Return the image once for every row of `x` ``(N, C, *S)``."""
        image = self.tensor if self.tensor.ndim == x.ndim else self.tensor[None]
        if image.shape != (1, *x.shape[1:]):
            raise ShapeError(
                f"a fill image of shape {tuple(self.tensor.shape)} does not fit images {tuple(x.shape)}: give "
                f"{tuple(x.shape[1:])}; for several inputs, name a fill"
            )
        return image.to(x).expand_as(x)


FillValue = str | float | tuple[float, ...] | Image
"""What a fill can be: a name, a number, one number a channel, or an image."""


def known(fill: FillValue) -> FillValue:
    """Return a fill as it is.

    Raises
    ------
    BadRecipe
        When there is no fill of that name, or a number is not finite.
    """
    if isinstance(fill, str):
        if fill not in FILLS:
            raise BadRecipe(
                f"there is no fill {fill!r}; there are {', '.join(FILLS)}, a number, or one number a channel"
            )
    elif not isinstance(fill, Image) and not all(
        math.isfinite(value) for value in (fill if isinstance(fill, tuple) else (fill,))
    ):
        raise BadRecipe(f"a fill of {fill} is not finite")
    return fill


def as_image(value: object) -> object:
    """Take a tensor ``(C, *S)`` as an `Image`; anything else as it is."""
    if isinstance(value, str) and value.startswith("image("):
        raise BadRecipe(f"fill {value!r}: an image cannot be read back from its digest; pass the tensor (C, *S) itself")
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    return Image(value) if isinstance(value, Tensor) else value


Fill = Annotated[FillValue, BeforeValidator(as_image), AfterValidator(known)]
"""Annotation of a recipe's ``fill`` or ``baseline``: an unknown name is refused as it is written; a tensor is an image."""


def meaning(fill: FillValue) -> str:
    """Return what a fill is in words, as a result names it: ``"blur: the image blurred by ..."``."""
    if isinstance(fill, Image):
        return f"a given image, sha256 {fill.digest[:16]}"
    return f"{fill}: {FILLS[fill].meaning}" if isinstance(fill, str) else f"{fill} in model space"


def _constant(values: float | tuple[float, ...], x: Tensor) -> Tensor:
    if not isinstance(values, tuple):
        return torch.full_like(x, values)
    if len(values) != x.shape[1]:
        raise ShapeError(
            f"fill {values} has {len(values)} numbers and the images {x.shape[1]} channels ({tuple(x.shape)})"
        )
    return x.new_tensor(values).view(1, -1, *[1] * (x.ndim - 2)).expand_as(x)


def reference(fill: FillValue, inputs: Inputs, seeds: Sequence[int]) -> Inputs:
    """Return what takes the place of hidden parts: one tensor of each input's shape, in model space.

    Parameters
    ----------
    fill
        A name of `FILLS`, a number, one number a channel, or an `Image`.
    inputs
        One tensor ``(N, C, *S)`` an input, S = 1 to 3 or more spatial axes.
    seeds
        One a row; only ``"noise"`` draws from them.

    Raises
    ------
    BadRecipe
        When there is no fill of that name.
    ShapeError
        When a fill per channel does not fit, or a spatial fill is asked for an input without spatial axes.
    """
    known(fill)
    if isinstance(fill, Image):
        return tuple(fill.rows(x).contiguous() for x in inputs)
    if not isinstance(fill, str):
        return tuple(_constant(fill, x).contiguous() for x in inputs)
    named = FILLS[fill]
    for place, x in enumerate(inputs):
        if named.spatial and x.ndim < 3:
            raise ShapeError(f"fill {fill!r} needs spatial axes; input {place} has shape {tuple(x.shape)}: use 'zero'")
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    return tuple(named.make(x, streams).contiguous() for x in inputs)
