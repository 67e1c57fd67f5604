"""Groups by blocks of a numbered column: neighbours in time or place that must not be told apart."""

import re
from dataclasses import replace

import pyarrow as pa

from pellucid.errors import BadImage
from pellucid.images.listing import Listing

__all__ = ["grouped", "grouping_column"]

_BLOCKS = re.compile(r"(?P<column>.+?)\s*//\s*(?P<size>[1-9]\d*)")


def grouping_column(group: str | None) -> str | None:
    """Return the column that a grouping reads: ``"source_id"`` of ``"source_id // 10"``."""
    blocks = _BLOCKS.fullmatch(group or "")
    return blocks["column"] if blocks else group


def grouped(listing: Listing, group: str | None) -> Listing:
    """Add the column that ``"column // size"`` means: the number of the block that each image's number lies in.

    Raises
    ------
    BadImage
        When the column holds anything but whole numbers.
    """
    blocks = _BLOCKS.fullmatch(group or "")
    if blocks is None or group is None:
        return listing
    column, size = blocks["column"], int(blocks["size"])
    numbers = []
    for name, value in zip(listing.files, listing.metadata[column].to_pylist(), strict=True):
        if not re.fullmatch(r"\d+", str(value)):
            raise BadImage(f"group={group!r} needs whole numbers in {column!r}; image {name} has {value!r}")
        numbers.append(str(int(value) // size))
    return replace(listing, metadata=listing.metadata.append_column(group, pa.array(numbers)))
