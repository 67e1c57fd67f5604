"""EigenCAM: what a layer's feature maps have most in common, whatever the output."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from pellucid.attribution.cam_layer import checked_maps, chosen_layer, place
from pellucid.attribution.cam_layout import layout_of
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.tokens import PatchGrid

__all__ = ["eigencam", "first_component"]


_SMALL = 64
"""Order of a matrix up to which all of its eigenvectors cost no more than finding the first alone."""

_BASIS = 12
"""Vectors that the iteration holds before it starts again from the best of them."""


def _leading(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalue ``(N,)`` of M Mᵀ and its eigenvector ``(N, n)`` for matrices M ``(N, n, m)``.

    By Lanczos iteration on the products M (Mᵀ v), to machine precision, row by row, from a fixed start; where it does not
    arrive, all eigenvectors are computed.
    """
    if maps.shape[1] <= _SMALL or maps.is_cuda:
        return _all(maps)
    start = np.random.default_rng(0).standard_normal(maps.shape[1])
    values, vectors = zip(*(_iterated(row, start) for row in maps), strict=True)
    return torch.cat(values), torch.cat(vectors)


def _iterated(maps: Tensor, start: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[Tensor, Tensor]:
    if not maps.any():
        return _all(maps[None])
    matrix = maps.numpy()
    gram = LinearOperator((len(start), len(start)), matvec=lambda v: matrix @ (v @ matrix), dtype=matrix.dtype)
    try:
        value, vector = eigsh(gram, 1, which="LA", v0=start, ncv=_BASIS)
    except ArpackError:
        return _all(maps[None])
    return torch.from_numpy(value), torch.from_numpy(vector[:, 0].copy())[None]


def _all(maps: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(maps @ maps.mT)
    return values[:, -1], vectors[..., -1]


def first_component(activations: Tensor, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Return the projection ``(N, 1, *S)`` on the first principal direction, and its share ``(N,)`` of the squares.

    The first eigenvector of the smaller of the two Gram matrices, channels by channels or places by places, is found
    in double precision: the same component as by the singular value decomposition of the whole. Its sign is that of its
    inner product with the channels' mean, so that what is bright in most channels is positive.

    Parameters
    ----------
    activations
        ``(N, C, *S)``.
    centred
        Whether every channel's mean over space is taken off first.
    """
    flat = activations.flatten(2).double()
    if centred:
        varied = flat.amax(2, keepdim=True) > flat.amin(2, keepdim=True)
        flat = (flat - flat.mean(2, keepdim=True)) * varied  # not the rounding of a mean over equals
    channels, places = flat.shape[1:]
    by_channel = channels <= places
    small = flat if by_channel else flat.mT
    squares, first = _leading(small)
    largest = squares[:, None].clamp(min=0)
    found = (first[:, None] @ flat)[:, 0] if by_channel else first * largest.sqrt()
    found = torch.where(_negative(found, flat.mean(1))[:, None], -found, found)
    share = largest[:, 0] / flat.square().sum((1, 2)).clamp(min=torch.finfo(flat.dtype).tiny)
    return found.to(activations.dtype).view(-1, 1, *activations.shape[2:]), share.to(activations.dtype)


def _negative(found: Tensor, mean: Tensor) -> Tensor:
    """Return where the sign is to be turned; maps at right angles to the mean have their largest value positive."""
    along = (found * mean).sum(1)
    peak = found.gather(1, found.abs().argmax(1, keepdim=True))[:, 0]
    size = torch.linalg.vector_norm(found, dim=1) * torch.linalg.vector_norm(mean, dim=1)
    return torch.where(along.abs() > 1e-6 * size, along, peak) < 0


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class eigencam(Method):
    """Which regions stand out in a layer's feature maps, whatever the output: their first principal component.

    ``details["share"]`` is the part of the feature maps' squares that the component holds.

    Attributes
    ----------
    at, grid
        As for `gradcam`.
    centred
        Whether every channel's mean over space is taken off first; the published form does not.
    """

    at: str | None = None
    grid: PatchGrid = None
    centred: bool = False

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="cam",
        question="Which regions stand out in what the layer sees, whatever the output?",
        needs=("layers",),
        cost="1 forward",
        reference="Muhammad and Yeasin 2020, IJCNN",
        warning="It never looks at the output: every class has the same map, also one that the image does not show.",
        kind="visualisation",
        mechanism="decomposition",
    )

    def attribute(self, call: Call) -> Attribution:
        """Project the layer's feature maps on their first principal direction."""
        at, warnings = chosen_layer(call, self.at)
        found, layout = [], None
        for batch in batches(call):
            activations = checked_maps(batch.passes.outputs(batch.inputs, at), at)
            layout = layout or layout_of(batch, at, tuple(activations.shape[1:]), self.grid)
            found.append(first_component(layout.maps(activations), centred=self.centred))
        maps, shares = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Attribution((maps,), warnings=warnings, details={**place(at, maps), "share": shares.cpu()})
