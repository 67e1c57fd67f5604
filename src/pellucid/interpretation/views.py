"""Many images on one page: PCA, t-SNE or UMAP of what a layer, a map or a table says, with how far to trust the picture."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError

__all__ = ["How", "Projection", "linked_views", "project"]

Array = NDArray[np.float64]

How = Literal["pca", "tsne", "umap"]

NEIGHBOURS = 7
"""Nearest images that trustworthiness and continuity look at."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Images as points in a plane.

    Attributes
    ----------
    points
        ``(N, 2)``.
    how
        How they were laid out.
    trustworthiness
        1 when images that are near in the picture are near in truth; about 0.5 when the picture says nothing.
    continuity
        1 when images that are near in truth are near in the picture.
    explained
        Share of the variance along each axis, of PCA; None else.
    """

    points: Array
    how: How
    trustworthiness: float
    continuity: float
    explained: tuple[float, float] | None


def project(features: Tensor | Array, how: How = "pca", *, seed: int = 0) -> Projection:
    """Lay images out in a plane by their features.

    Parameters
    ----------
    features
        ``(N, D)`` or ``(N, ...)``: pixels, a layer, pooled maps, phenotypes.
    how
        ``"pca"`` keeps large distances; ``"tsne"`` and ``"umap"`` (``pip install "pellucid[umap]"``) keep neighbours, and neither the
        distance between clouds nor their size means anything.
    seed
        Of t-SNE and UMAP.

    Raises
    ------
    ShapeError
        When there are fewer than 20 images, or features are not finite.
    CannotExplain
        When UMAP is asked for and not installed.

    References
    ----------
    Venna and Kaski 2001, Neighborhood preservation in nonlinear projection methods; van der Maaten and Hinton 2008.
    """
    values = (
        features.detach().cpu().double().numpy() if isinstance(features, Tensor) else np.asarray(features, dtype=float)
    )
    values = values.reshape(len(values), -1)
    least = 2 * NEIGHBOURS + 6
    if len(values) < least or not np.isfinite(values).all():
        raise ShapeError(f"project takes {least} images or more with finite features, not {values.shape}")
    points, explained = _laid_out(values, how, seed)
    return Projection(
        points=points,
        how=how,
        trustworthiness=float(trustworthiness(values, points, n_neighbors=NEIGHBOURS)),
        continuity=float(trustworthiness(points, values, n_neighbors=NEIGHBOURS)),
        explained=explained,
    )


def _laid_out(values: Array, how: How, seed: int) -> tuple[Array, tuple[float, float] | None]:
    if how == "pca":
        fitted = PCA(2, svd_solver="full").fit(values)
        first, second = map(float, fitted.explained_variance_ratio_)
        return np.asarray(fitted.transform(values)), (first, second)
    if how == "tsne":
        width = min(30.0, (len(values) - 1) / 3)
        return np.asarray(
            TSNE(2, perplexity=width, init="pca", random_state=seed).fit_transform(values), dtype=float
        ), None
    if how == "umap":
        return _umap(values, seed), None
    raise ShapeError(f'project(how={how!r}): it is "pca", "tsne" or "umap"')


def _umap(values: Array, seed: int) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says what else one could install, and that a seed costs it its threads
        try:
            from umap import UMAP  # noqa: PLC0415  # for who has it
        except ImportError:
            raise CannotExplain(
                'project(how="umap") needs umap-learn: pip install "pellucid[umap]", or use "tsne"'
            ) from None
        # from its own spectral start, UMAP 0.5 lays the same images out otherwise each time, whatever the seed
        return np.asarray(UMAP(2, init="pca", n_jobs=1, random_state=seed).fit_transform(values), dtype=float)


def linked_views(
    spaces: Mapping[str, Tensor | Array], ids: Sequence[str], how: How = "pca", *, seed: int = 0
) -> tuple[dict[str, Projection], pa.Table]:
    """Lay the same images out by several descriptions: what lies together in one and apart in another is worth a look.

    Parameters
    ----------
    spaces
        Name to features ``(N, ...)``: ``{"images": x, "layer": features, "explanations": pooled_maps(maps)}``.
    ids
        One text an image.
    how, seed
        See `project`.

    Returns
    -------
    views
        Name to `Projection`.
    table
        One row an image and view: ``image, view, x, y, how, trustworthiness, continuity``.
    """
    views = {name: project(values, how, seed=seed) for name, values in spaces.items()}
    for name, view in views.items():
        if len(view.points) != len(ids):
            raise ShapeError(f"{len(ids)} ids were given, and the view {name!r} has {len(view.points)} images")
    rows: list[dict[str, Any]] = [
        {"image": image, "view": name, "x": float(x), "y": float(y), "how": view.how,
         "trustworthiness": view.trustworthiness, "continuity": view.continuity}
        for name, view in views.items() for image, (x, y) in zip(ids, view.points, strict=True)
    ]  # fmt: skip
    return views, pa.Table.from_pylist(rows)
