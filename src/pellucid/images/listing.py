"""What makes up a set of images: files by id, labels, metadata and masks, before any pixel is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from pellucid.images.reader import Source

__all__ = ["Listing", "list_file"]


@dataclass(frozen=True)
class Listing:
    """What there is to read, in the order of the set.

    Attributes
    ----------
    files
        Image id to file.
    labels
        One class name an image, or None.
    metadata
        One row an image.
    masks
        Mask name to image id to file; an image without a mask is left out.
    split
        The metadata column that names train, val and test, where the layout itself states one.
    numbered
        Whether the labels are the positions of classes rather than their names.
    source
        Opens an image by its id where that takes more than the file's name.
    shown
        What to call the set where its path must not be told, or "".
    """

    files: Mapping[str, str]
    labels: tuple[str, ...] | None = None
    metadata: pa.Table = field(default_factory=lambda: pa.table({}))
    masks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    split: str | None = None
    numbered: bool = False
    source: Source | None = None
    shown: str = ""


def list_file(path: Path) -> Listing:
    """Return the listing of one image."""
    return Listing({path.name: str(path)})
