"""A set of images with named axes: what every reader and phantom returns and every later room takes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.placing import Affine, orientation

__all__ = ["ImageRecord", "ImageSet"]

SPATIAL_AXES = ("X", "YX", "ZYX", "TYX", "TZYX")
READERS = 4


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
        Physical pixel size in micrometres, one number a spatial axis in the order of `axes`, or None if unknown; for T
        the seconds between frames. NaN stands for an axis whose size alone is unknown.
    display_range
        The lowest and highest value that a figure shows.
    source
        Where the image comes from: a file name or a phantom's name.
    crop
        Offset of the image in its source, in pixels, one number a spatial axis, or None.
    affine
        Four rows that take an index along the axes Z, Y, X (as far as there are) followed by 1 to the patient's
        coordinates in millimetres, growing to the right, the front and the head (RAS); None where unknown.
    """

    axes: str
    channels: tuple[str, ...]
    spacing: tuple[float, ...] | None = None
    display_range: tuple[float, float] = (0.0, 1.0)
    source: str = ""
    crop: tuple[int, ...] | None = None
    affine: Affine | None = None

    def __post_init__(self) -> None:
        if self.axes[:1] != "C" or self.axes[1:] not in SPATIAL_AXES:
            raise BadImage(f"axes {self.axes!r} are none of {', '.join('C' + axes for axes in SPATIAL_AXES)}")
        if self.spacing is not None and len(self.spacing) != len(self.spatial):
            raise BadImage(f"spacing {self.spacing} has not one number for each of the axes {self.spatial}")
        if self.affine is not None and [len(row) for row in self.affine] != [len(self.spatial.lstrip("T")) + 1] * 4:
            raise BadImage(
                f"affine {self.affine} is not four rows of a number for each of the axes {self.spatial} and one"
            )

    @property
    def spatial(self) -> str:
        """The axes after the channel, such as ``"YX"``."""
        return self.axes[1:]

    @property
    def orientation(self) -> str | None:
        """Where each of the axes Z, Y, X runs to, such as ``"SPL"``: head, back, left; None where unknown."""
        return None if self.affine is None else orientation(self.affine)


@dataclass(frozen=True, repr=False)
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
    split_column
        The metadata column that names train, val and test, or None.
    group_column
        The metadata column that names the unit (patient, plate, smear) that must stay in one split, or None.
    describe
        Gives the record of one image by id, or None where the set's own says all.
    """

    ids: tuple[str, ...]
    record: ImageRecord
    shape: tuple[int, ...]
    load: Callable[[str], Tensor]
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] | None = None
    metadata: pa.Table = field(default_factory=lambda: pa.table({}))
    masks: Mapping[str, Callable[[str], Tensor | None]] = field(default_factory=dict)
    split_column: str | None = None
    group_column: str | None = None
    describe: Callable[[str], ImageRecord] | None = None

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise BadImage(f"the image id {twice!r} occurs more than once; ids must be unique")
        if self.labels is not None and len(self.labels) != len(self.ids):
            raise BadImage(f"{len(self.labels)} labels were given for {len(self.ids)} images")
        if self.metadata.num_columns and self.metadata.num_rows != len(self.ids):
            raise BadImage(f"metadata has {self.metadata.num_rows} rows for {len(self.ids)} images")
        for name in (self.split_column, self.group_column):
            if name is not None and name not in self.metadata.column_names:
                raise BadImage(f"there is no metadata column {name!r}; this set has {self._columns}")

    @property
    def _columns(self) -> str:
        return ", ".join(self.metadata.column_names) or "none"

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ids)}

    def __repr__(self) -> str:
        told = [f"{len(self)} images", f"axes={self.record.axes!r}", f"shape={self.shape}"]
        told += [f"classes={self.classes}"] if self.classes else []
        told += [f"masks={tuple(self.masks)}"] if self.masks else []
        return f"ImageSet({', '.join(told)})"

    def __len__(self) -> int:
        return len(self.ids)

    def _chosen(self, ids: Sequence[str] | None) -> tuple[str, ...]:
        if ids is None:
            return self.ids
        for name in ids:
            if name not in self._place:
                raise BadImage(f"there is no image {name!r} among the {len(self)} of this set")
        return tuple(ids)

    def _rows(self, ids: Sequence[str] | None) -> list[int]:
        return [self._place[name] for name in self._chosen(ids)]

    def tensor(self, ids: Sequence[str] | None = None) -> Tensor:
        """Return the images of `ids` (all when None) as float32 ``(N, C, *S)``, several files read at a time.

        Raises
        ------
        BadImage
            When an id is unknown or a file cannot be read.
        """
        chosen = self._chosen(ids)
        images = torch.empty(len(chosen), *self.shape)
        with ThreadPoolExecutor(READERS) as pool:
            for row, image in enumerate(pool.map(self.load, chosen)):
                images[row] = image
        return images

    def record_of(self, image: str) -> ImageRecord:
        """Return what is known of one image: its own source, place in the patient and offset; its file is opened.

        Raises
        ------
        BadImage
            When the id is unknown or the file cannot be read.
        """
        (name,) = self._chosen([image])
        return self.record if self.describe is None else self.describe(name)

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
        return tuple(self.labels[row] for row in self._rows(ids))

    def column(self, name: str, ids: Sequence[str] | None = None) -> list[Any]:
        """Return one value of a metadata column for each of `ids`."""
        if name not in self.metadata.column_names:
            raise BadImage(f"there is no metadata column {name!r}; this set has {self._columns}")
        values = self.metadata[name]
        taken: list[Any] = (values if ids is None else values.take(pa.array(self._rows(ids), pa.int64()))).to_pylist()
        return taken

    def select(self, ids: Sequence[str]) -> "ImageSet":
        """Return the set of these images only, in this order."""
        rows = self._rows(ids)
        return replace(
            self,
            ids=tuple(ids),
            labels=None if self.labels is None else tuple(self.labels[row] for row in rows),
            metadata=self.metadata.take(pa.array(rows, pa.int64())) if self.metadata.num_columns else self.metadata,
        )
