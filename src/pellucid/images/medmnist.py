"""Archives in the layout of MedMNIST: ``train_images``, ``train_labels``, and the same for val and test."""

import math
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.listing import Listing
from pellucid.images.numpy_files import ARCHIVE_ERRORS, stated_array, stored_array
from pellucid.images.reader import Reader, Wanted, named, refuse_too_large

__all__ = ["MEDMNIST"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ArchiveSource:
    """Takes image ``train/12`` from the array ``train_images``: its row of the file, or of the decompressed array."""

    path: str

    def __call__(self, image: str) -> RawImage:
        """Return the image as stored."""
        split, _, row = image.partition("/")
        stored = stored_array(self.path, f"{split}_images")
        stack = _member(self.path, f"{split}_images") if stored is None else stored
        array = stack[int(row)]
        colour = array.ndim > 2 and array.shape[-1] in (1, 3)
        letters = {1: "X", 2: "YX", 3: "ZYX"}.get(array.ndim - colour)
        if letters is None:
            raise BadImage(f"{self.path}: {split}_images of shape {stack.shape} is no stack of 2-D or 3-D images")
        names = ("red", "green", "blue") if colour and array.shape[-1] == 3 else None
        return RawImage(array, letters + "C" * colour, channels=names)


def _entries(path: Path, wanted: Wanted) -> Listing:
    """Return the images of an archive; ids are ``split/row``, labels the class numbers as text.

    Raises
    ------
    BadImage
        When the file is no such archive, labels do not fit the images, or an image has several labels at once.
    """
    members = _names(path)
    splits = [split for split in SPLITS if f"{split}_images" in members]
    if not splits:
        raise BadImage(
            f"{path}: the archive holds {', '.join(sorted(members)) or 'nothing'}, not train_images and its like"
        )
    labelled = [split for split in splits if f"{split}_labels" in members]
    if labelled and labelled != splits:
        raise BadImage(f"{path}: the archive has labels for {', '.join(labelled)} but images for {', '.join(splits)}")
    counts = {split: _rows(path, f"{split}_images", wanted.limit) for split in splits}
    for split in labelled:
        _stated(path, f"{split}_labels", wanted.limit)
    labels = [label for split in labelled for label in _labels(path, split, counts[split])]
    return Listing(
        files={f"{split}/{row}": str(path) for split in splits for row in range(counts[split])},
        labels=tuple(labels) if labelled else None,
        metadata=pa.table({"split": [split for split in splits for _ in range(counts[split])]}),
        split="split",
        numbered=True,
        source=ArchiveSource(str(path)),
    )


def _labels(path: Path, split: str, count: int) -> list[str]:
    labels = _member(str(path), f"{split}_labels")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise BadImage(
            f"{path}: {split}_labels of shape {labels.shape} give an image several labels at once; "
            "one label an image is needed"
        )
    if labels.size != count or labels.dtype.kind not in "iu":
        raise BadImage(
            f"{path}: {split}_labels of shape {labels.shape} and type {labels.dtype} are not one class number for "
            f"each of the {count} images"
        )
    return [str(label) for label in labels.ravel().tolist()]


def _names(path: Path) -> set[str]:
    with named(path, "the archive is corrupt or missing", *ARCHIVE_ERRORS), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def _stated(path: Path, member: str, limit: int) -> tuple[int, ...]:
    """Read the shape from the array's header, without its pixels; an array is held whole, so the limit counts it whole."""
    with (
        named(path, f"{member} cannot be read", *ARCHIVE_ERRORS),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{member}.npy") as file,
    ):
        shape, _ = stated_array(file)
    refuse_too_large(math.prod(shape), limit, f"{path}: {member}")
    return shape


def _rows(path: Path, member: str, limit: int) -> int:
    shape = _stated(path, member, limit)
    if len(shape) < 2 or min(shape) < 0:
        raise BadImage(f"{path}: {member} of shape {shape} is no stack of images")
    return int(shape[0])


@lru_cache(maxsize=2 * len(SPLITS))
def _member(path: str, name: str) -> Array:
    with named(path, f"{name} cannot be read", *ARCHIVE_ERRORS), np.load(path, allow_pickle=False) as archive:
        array: Array = archive[name]
    return array


MEDMNIST = Reader(
    name="MedMNIST",
    suffixes=(".npz",),
    entries=_entries,
    reads="archives of `train_images`, `train_labels` and the same for val and test: one set with its labels and splits",
    refuses="other archives; several labels an image; pickled objects",
)
