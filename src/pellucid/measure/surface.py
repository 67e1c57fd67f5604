"""Smooth surfaces over an image: filling holes, masked blur, planes; in any number of dimensions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from pellucid.errors import BadImage

__all__ = ["Array", "Mask", "fill_hole", "fitted_plane", "masked_blur", "plane_terms"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def fill_hole(image: Array, hole: Mask, *, rng: np.random.Generator | None = None) -> Array:
    """Continue an image into a hole as a soap film would: every missing pixel is the mean of its neighbours.

    Parameters
    ----------
    image
        ``(C, *S)``; what it holds inside the hole is ignored.
    hole
        Boolean ``(*S)``.
    rng
        When given, grain like that of the known pixels is laid over the film.

    Returns
    -------
    Array
        ``(C, *S)``, unchanged outside the hole.

    Raises
    ------
    BadImage
        When the hole is the whole image.
    """
    if hole.all():
        raise BadImage("nothing can be filled in: the hole covers the whole image")
    filled = image.copy()
    if hole.any():
        filled[:, hole] = _film(image, hole)
        if rng is not None:
            grain = (image - masked_blur(image, ~hole, 1.5))[:, ~hole]
            filled[:, hole] += grain[:, rng.integers(grain.shape[1], size=int(hole.sum()))]
    return filled


def _film(image: Array, hole: Mask) -> Array:
    """Solve Laplace's equation in the hole; the image's own border reflects."""
    count = int(hole.sum())
    place = np.full(hole.shape, -1)
    place[hole] = np.arange(count)
    neighbours = np.zeros(count)
    known = np.zeros((len(image), count))
    rows: list[NDArray[Any]] = []
    columns: list[NDArray[Any]] = []
    for axis in range(hole.ndim):
        for step in (-1, 1):
            inside, beside = _shifted(hole.shape, axis, step)
            here = hole[inside]
            own, other = place[inside][here], place[beside][here]
            neighbours[own] += 1
            known[:, own] += np.where(other < 0, image[:, *beside][:, here], 0.0)
            rows.append(own[other >= 0])
            columns.append(other[other >= 0])
    at = (np.concatenate(rows), np.concatenate(columns))
    laplace = sparse.diags(neighbours) - sparse.csr_matrix((np.ones(len(at[0])), at), (count, count))
    start = image[:, ~hole].mean(1)
    solved = [
        cg(laplace, b, x0=np.full(count, x), rtol=1e-6, maxiter=20 * count)[0]
        for b, x in zip(known, start, strict=True)
    ]
    return np.stack(solved)


def _shifted(shape: tuple[int, ...], axis: int, step: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the pixels that have a neighbour at `step` along `axis`, and those neighbours."""
    first, last = slice(0, shape[axis] - 1), slice(1, shape[axis])
    inside, beside = [slice(None)] * len(shape), [slice(None)] * len(shape)
    inside[axis], beside[axis] = (first, last) if step > 0 else (last, first)
    return tuple(inside), tuple(beside)


def masked_blur(image: Array, mask: Mask, sigma: float) -> Array:
    """Blur within a mask so that nothing leaks over its edge; zero outside it."""
    weight = ndimage.gaussian_filter(mask.astype(np.float64), sigma, mode="constant")
    blurred = [ndimage.gaussian_filter(channel * mask, sigma, mode="constant") for channel in image]
    return np.where(mask, np.stack(blurred) / np.where(mask, weight, 1.0), 0.0)


def plane_terms(shape: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> Array:
    """Return 1 and each centred coordinate, ``(1 + D, *S)``: the terms of a tilted plane."""
    step = spacing or (1.0,) * len(shape)
    axes = [(np.arange(n) - (n - 1) / 2) * unit for n, unit in zip(shape, step, strict=True)]
    return np.stack([np.ones(shape), *np.meshgrid(*axes, indexing="ij")])


def fitted_plane(values: Array, where: Mask, terms: Array) -> Array:
    """Return the least-squares coefficients ``(C, T)`` of the terms over the pixels of `where`."""
    basis = terms[:, where].T
    return np.asarray(np.linalg.lstsq(basis, values[:, where].T, rcond=None)[0].T)
