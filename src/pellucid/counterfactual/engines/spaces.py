"""Images as rows of features: in which sense two of them are alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Passes

__all__ = ["Space", "embedding_space", "phenotype_space", "pixel_space"]


@dataclass(frozen=True)
class Space:
    """Features of images; their distance is the root mean square difference over the features that both have.

    Attributes
    ----------
    name
        ``"pixels"``, ``"embedding"``, ``"phenotypes"`` or what the user calls it.
    features
        ``(N, F)`` float64, one row an image; NaN where a feature is not defined.
    unit
        What a distance of 1 is.
    """

    name: str
    features: NDArray[np.float64]
    unit: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not self.features.size:
            raise ShapeError(f"the space {self.name!r} has features of shape {self.features.shape}; give (N, F)")
        if np.isinf(self.features).any():
            raise ShapeError(f"the space {self.name!r} holds infinity; mark what is not defined by NaN")

    def distances(self, row: int) -> NDArray[np.float64]:
        """Return the distances ``(N,)`` from one image to every image; infinite where no feature is shared."""
        squares = (self.features - self.features[row]) ** 2
        known = ~np.isnan(squares)
        shared = known.sum(1)
        total = np.where(known, squares, 0.0).sum(1)
        mean: NDArray[np.float64] = np.divide(total, shared, out=np.full(len(total), np.inf), where=shared > 0)
        return np.sqrt(mean)


def _standardised(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the columns that vary, each in standard deviations of the images that have it."""
    known = ~np.isnan(features)
    usable = features[:, known.sum(0) > 1]
    spread = np.nanstd(usable, axis=0)
    varying = spread > 1e-12 * np.nanmax(np.abs(usable), axis=0, initial=0.0)
    kept: NDArray[np.float64] = usable[:, varying] / spread[varying]
    return kept


def pixel_space(images: Tensor) -> Space:
    """Return images ``(N, C, *S)`` as their own pixels: alike is what overlaps."""
    return Space("pixels", images.detach().cpu().double().flatten(1).numpy(), "intensity, as the images have it")


def embedding_space(passes: Passes, images: Tensor, layer: str | None = None) -> Space:
    """Return images as what the model makes of them in a layer: alike is what the model hardly tells apart.

    Parameters
    ----------
    passes
        The way through the model.
    images
        ``(N, C, *S)`` in their own units.
    layer
        Default: the model's embedding. Spatial axes are averaged over.

    Raises
    ------
    CannotExplain
        When neither a layer nor an embedding is known.
    """
    name = layer or passes.model.embedding
    if name is None:
        raise CannotExplain("the model names no embedding; give layer= or Model(..., embedding=...)")
    found = passes.outputs(passes.model.prepare(images), name).cpu().double()
    rows = found.flatten(2).mean(2) if found.ndim > 2 else found
    return Space("embedding", _standardised(rows.numpy()), "standard deviation over these images")


def phenotype_space(table: pa.Table, ids: Sequence[str]) -> Space:
    """Return images as their measured phenotypes, such as `measure_images` gives: alike is what measures alike.

    Parameters
    ----------
    table
        ``image`` and numeric columns, one row an object; several objects of an image are averaged.
    ids
        The images, in the order of the rows wanted; one without an object has no feature.
    """
    wanted = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    if "image" not in table.column_names or not wanted:
        raise ShapeError(
            f"phenotypes need a column 'image' and numbers; this table has {', '.join(table.column_names)}"
        )
    means = table.group_by("image").aggregate([(name, "mean") for name in wanted]).to_pylist()
    by_image: dict[str, dict[str, Any]] = {row["image"]: row for row in means}
    rows = [[_number(by_image.get(image, {}).get(f"{name}_mean")) for name in wanted] for image in ids]
    return Space("phenotypes", _standardised(np.array(rows, dtype=float)), "standard deviation over these images")


def _number(value: float | None) -> float:
    return np.nan if value is None else value
