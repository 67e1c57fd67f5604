"""A set of images with named axes: what every reader and phantom returns and every later room takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import BadImage

__all__ = ["ImageRecord", "ImageSet"]

SPATIAL_AXES = ("X", "YX", "ZYX", "TYX", "TZYX")


@dataclass(frozen=True)
class ImageRecord:
    """What is known of the pixels of one image, or of all images of a set.

    Attributes
    ----------
    axes
        One letter an axis, channel first: ``"CYX"``, ``"CZYX"``, ``"CX"``.
    channels
        One name a channel.
    spacing
        Physical pixel size in micrometres, one number a spatial axis in the order of `axes`, or None if unknown.
    display_range
        The lowest and highest value that a figure shows.
    source
        Where the image comes from: a file name or a phantom's name.
    crop
        Offset of the image in its source, in pixels, one number a spatial axis, or None.
    """

    axes: str
    channels: tuple[str, ...]
    spacing: tuple[float, ...] | None = None
    display_range: tuple[float, float] = (0.0, 1.0)
    source: str = ""
    crop: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.axes[:1] != "C" or self.axes[1:] not in SPATIAL_AXES:
            raise BadImage(f"axes {self.axes!r} are none of {', '.join('C' + axes for axes in SPATIAL_AXES)}")
        if self.spacing is not None and len(self.spacing) != len(self.spatial):
            raise BadImage(f"spacing {self.spacing} has not one number for each of the axes {self.spatial}")

    @property
    def spatial(self) -> str:
        """The axes after the channel, such as ``"YX"``."""
        return self.axes[1:]


@dataclass(frozen=True)
class ImageSet:
    """Images by id, with labels, metadata columns and masks; pixels and masks are read when asked for.

    Attributes
    ----------
    ids
        One unique text an image.
    record
        What holds for all images.
    shape
        ``(C, *S)``: every image of a set has the same.
    load
        Reads one image by id: float32 ``(C, *S)``; raises `BadImage` on a file that cannot be used.
    classes
        Class names; the position of a name is its label.
    labels
        One class number an image, or None where there are no labels.
    metadata
        One row an image, in the order of `ids`: split, group and every other column of the manifest.
    masks
        Mask name to reader by id: integer ``(*S)``, 0 is background; None from a reader means "this image has none".
        Several names are several annotators or several kinds.
    """

    ids: tuple[str, ...]
    record: ImageRecord
    shape: tuple[int, ...]
    load: Callable[[str], Tensor] = field(repr=False)
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] | None = None
    metadata: pa.Table = field(default_factory=lambda: pa.table({}), repr=False)
    masks: Mapping[str, Callable[[str], Tensor | None]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name in self.ids if self.ids.count(name) > 1)
            raise BadImage(f"the image id {twice!r} occurs more than once; ids must be unique")
        if self.labels is not None and len(self.labels) != len(self.ids):
            raise BadImage(f"{len(self.labels)} labels were given for {len(self.ids)} images")
        if self.metadata.num_columns and self.metadata.num_rows != len(self.ids):
            raise BadImage(f"metadata has {self.metadata.num_rows} rows for {len(self.ids)} images")

    def __len__(self) -> int:
        return len(self.ids)

    def _chosen(self, ids: Sequence[str] | None) -> tuple[str, ...]:
        if ids is None:
            return self.ids
        known = set(self.ids)
        for name in ids:
            if name not in known:
                raise BadImage(f"there is no image {name!r} among the {len(self)} of this set")
        return tuple(ids)

    def tensor(self, ids: Sequence[str] | None = None) -> Tensor:
        """Return the images of `ids` (all when None) as float32 ``(N, C, *S)``.

        Raises
        ------
        BadImage
            When an id is unknown or a file cannot be read.
        """
        chosen = self._chosen(ids)
        return torch.stack([self.load(name) for name in chosen]) if chosen else torch.empty(0, *self.shape)

    def mask(self, name: str, ids: Sequence[str] | None = None) -> list[Tensor | None]:
        """Return one integer mask ``(*S)`` an image, None for an image that has none of that name."""
        if name not in self.masks:
            have = ", ".join(self.masks) or "none"
            raise BadImage(f"there is no mask {name!r}; this set has {have}")
        return [self.masks[name](image) for image in self._chosen(ids)]

    def label(self, ids: Sequence[str] | None = None) -> tuple[int, ...]:
        """Return the class number of each of `ids`."""
        if self.labels is None:
            raise BadImage("these images have no labels; give labels= or class folders")
        number = dict(zip(self.ids, self.labels, strict=True))
        return tuple(number[name] for name in self._chosen(ids))

    def column(self, name: str, ids: Sequence[str] | None = None) -> list[Any]:
        """Return one value of a metadata column for each of `ids`."""
        if name not in self.metadata.column_names:
            have = ", ".join(self.metadata.column_names) or "none"
            raise BadImage(f"there is no metadata column {name!r}; this set has {have}")
        value = dict(zip(self.ids, self.metadata[name].to_pylist(), strict=True))
        return [value[image] for image in self._chosen(ids)]

    def select(self, ids: Sequence[str]) -> "ImageSet":
        """Return the set of these images only, in this order."""
        chosen = self._chosen(ids)
        place = {name: index for index, name in enumerate(self.ids)}
        rows = np.array([place[name] for name in chosen], dtype=np.int64)
        return replace(
            self,
            ids=chosen,
            labels=None if self.labels is None else tuple(self.labels[row] for row in rows),
            metadata=self.metadata.take(pa.array(rows)) if self.metadata.num_columns else self.metadata,
        )
