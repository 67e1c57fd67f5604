"""Explanations in the terms of a guideline: a rule file names regions, and each gets its fair share of the call."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy import ndimage
from torch import Tensor

from pellucid.attribution.explain import explain
from pellucid.attribution.objects import object_sums
from pellucid.attribution.perturbation.segmenters import Labels
from pellucid.attribution.perturbation.shapley import kernel_shap
from pellucid.errors import BadStudy, CannotExplain
from pellucid.hashing import hash_key
from pellucid.images import ImageSet
from pellucid.intervals import mean_interval, or_null
from pellucid.models import Model, Target

__all__ = ["Guideline", "Region", "guideline_overview", "guideline_shares", "read_guideline"]

Mask = NDArray[np.bool_]

_MOST = 10
"""Regions of a guideline, the rest included: all their coalitions are tried."""
_REST = "elsewhere"


class Region(BaseModel):
    """One region of a guideline, as the rule file names it.

    Attributes
    ----------
    name
        In the guideline's terms: nucleus, rim, halo.
    mask
        Name of a mask of the images; the region is what it marks ...
    near
        ... or lies by distance to this mask's outline: positive inwards, in the images' unit of length.
    from_, to
        Bounds of that distance (``from`` and ``to`` in the file); one may be left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    mask: str | None = None
    near: str | None = None
    from_: Annotated[float, Field(alias="from")] = -np.inf
    to: float = np.inf

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.mask is None) == (self.near is None):
            raise ValueError("give mask, or near with from and to")
        if self.near is None and (np.isfinite(self.from_) or np.isfinite(self.to)):
            raise ValueError("from and to go with near")
        if self.from_ >= self.to:
            raise ValueError(f"from ({self.from_:g}) must lie below to ({self.to:g})")
        if self.name == _REST:
            raise ValueError(f"{_REST!r} is the name of what no region claims")
        return self

    @property
    def source(self) -> str:
        """The mask that it is made from."""
        return str(self.mask if self.near is None else self.near)

    def of(self, mask: Mask, spacing: tuple[float, ...] | None) -> Mask:
        """Return the region's pixels."""
        if self.near is None:
            return mask
        step = 0.5 * min(spacing or (1.0,))
        depth = ndimage.distance_transform_edt(mask, sampling=spacing) - ndimage.distance_transform_edt(
            ~mask, sampling=spacing
        )
        depth = depth - np.where(mask, step, -step)
        return np.asarray((depth >= self.from_) & (depth < self.to))


@dataclass(frozen=True)
class Guideline:
    """Regions in the order of their claim: a pixel belongs to the first that claims it, else to ``elsewhere``."""

    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        names = [region.name for region in self.regions]
        if not names or len(set(names)) != len(names) or len(names) >= _MOST:
            raise BadStudy(
                f"a guideline has 1 to {_MOST - 1} regions of different names, not {', '.join(names) or 'none'}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the regions, and of the rest."""
        return (*(region.name for region in self.regions), _REST)

    def labels(self, images: ImageSet, image: str) -> Tensor:
        """Return the number of the region of each pixel ``(*S)``, in the order of `names`.

        Raises
        ------
        CannotExplain
            When the image has not a mask that the guideline names.
        """
        found = torch.full(images.shape[1:], len(self.regions), dtype=torch.int64)
        for place, region in reversed(list(enumerate(self.regions))):
            mask = images.mask(region.source, [image])[0]
            if mask is None:
                raise CannotExplain(
                    f"{image} has no mask {region.source!r}, which the region {region.name!r} is made from"
                )
            found[torch.from_numpy(region.of(mask.numpy() > 0, images.record.spacing))] = place
        return found


def read_guideline(path: str | Path) -> Guideline:
    """Read a rule file: TOML with one table ``[[region]]`` a region.

    ``name = "rim"``, then ``mask = "nucleus"`` (what a mask marks) or ``near = "object"`` with ``from = 0.0`` and
    ``to = 1.5``: by distance to the outline, positive inwards, in micrometres where the pixel size is known.

    Raises
    ------
    BadStudy
        When the file cannot be read or a region is no region.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        regions = tuple(Region.model_validate(table) for table in values.get("region", []))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadStudy(f"the guideline {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "a region"
        raise BadStudy(
            f"the guideline {path}: {where} does not fit; {first['msg'].removeprefix('Value error, ')}"
        ) from None
    return Guideline(regions)


def guideline_shares(
    model: Model | Callable[..., Any],
    images: ImageSet,
    ids: Sequence[str],
    guideline: Guideline,
    *,
    target: int | Target | None = None,
    fill: str = "blur",
    group: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> pa.Table:
    """Share out each image's score over the guideline's regions by their Shapley values: all coalitions are tried.

    Parameters
    ----------
    model, images, ids
        What is explained; images without the masks that the guideline needs are refused.
    guideline
        Of `read_guideline`.
    target
        As for `pellucid.explain`; None is the predicted class.
    fill
        What stands in for a region that is hidden.
    group
        Metadata column of the independent unit.
    seed, batch_size
        As everywhere.

    Returns
    -------
    pyarrow.Table
        One row an image and region: image, group, class (that is explained), region, area (share of the image), value (of the
        score; the values of an image add up to its score less that of the image that is nothing but fill).

    References
    ----------
    Zhu & Ogino 2019, Guideline-based additive explanation for computer-aided diagnosis of lung nodules.
    """
    units = list(ids) if group is None else [str(unit) for unit in images.column(group, ids)]
    rows = []
    for name, unit in zip(ids, units, strict=True):
        labels = guideline.labels(images, name)
        present, compact = torch.unique(labels, return_inverse=True)
        sums, called = _shapley(model, images.tensor([name]), compact, target, fill, seed, name, batch_size)
        for place, region in enumerate(guideline.names):
            own = present == place
            area = float((labels == place).double().mean())
            value = float(sums[own.nonzero()[0, 0]]) if bool(own.any()) else 0.0
            subject = _subject(called, images.classes)
            rows.append(
                {"image": name, "group": unit, "class": subject, "region": region, "area": area, "value": value}
            )
    return pa.Table.from_pylist(rows)


def _shapley(
    model: Model | Callable[..., Any], x: Tensor, labels: Tensor, target: int | Target | None, fill: str, seed: int, name: str,
    batch_size: int | None,
) -> tuple[Tensor, Target]:  # fmt: skip
    count = int(labels.max()) + 1
    if count < 2:
        raise CannotExplain(f"{name}: the guideline puts the whole image into one region; give regions that part it")
    method = kernel_shap(segments=Labels(labels), samples=max(2, 2**count - 2), fill=fill)
    found = explain(model, x, method, target, ids=[name], seed=seed, batch_size=batch_size)
    assert isinstance(found.values, Tensor)  # noqa: S101  # one input
    return object_sums(found.values, labels)[0].sum(1)[0], found.target


def _subject(target: Target, classes: Sequence[str]) -> str:
    """Return the name of the class that is explained, or the target's text."""
    index = getattr(target, "index", None)
    own = index[0] if isinstance(index, tuple | list) and len(index) == 1 else index
    if isinstance(own, int) and own < len(classes):
        return classes[own]
    return own if isinstance(own, str) else str(target)


def guideline_overview(shares: pa.Table, *, seed: int = 0) -> pa.Table:
    """Say over all images what each region adds: the mean value by explained class with its interval over groups.

    Returns
    -------
    pyarrow.Table
        One row a class and region: class, region, value with low and high, area (mean share of the image), n, groups.
    """
    rows = []
    told = shares.to_pylist()
    for called, region in sorted({(row["class"], row["region"]) for row in told}, key=lambda pair: hash_key(*pair)):
        own = [row for row in told if (row["class"], row["region"]) == (called, region)]
        found = mean_interval([row["value"] for row in own], groups=[row["group"] for row in own], seed=seed)
        rows.append(
            {"class": called, "region": region, "value": found.value, "low": or_null(found.low), "high": or_null(found.high),
             "area": float(np.mean([row["area"] for row in own])), "n": found.n, "groups": found.groups}
        )  # fmt: skip
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (str(row["class"]), -float(str(row["value"])))))
