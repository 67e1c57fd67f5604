"""What a TIFF must not be: cut, larger than it says, part of a stack that another file stands for, of other colours."""

import math
from pathlib import Path
from typing import Any

import tifffile

from pellucid.errors import BadImage
from pellucid.images.ome import OmeImage
from pellucid.images.reader import Wanted, refuse_too_large

__all__ = ["refuse_colours", "refuse_large_segments", "refuse_later_part", "refuse_missing_planes", "refuse_truncated"]


def refuse_later_part(image: OmeImage | None, path: Path) -> None:
    """Refuse all but the first file of a stack kept in several: in a folder it would be there as often as it has files."""
    if image is not None and len(image.files) > 1 and path.name in image.files[1:]:
        raise BadImage(
            f"{path}: it is one of the {len(image.files)} files of one stack, which {image.files[0]} stands for; "
            "leave the others out"
        )


def refuse_truncated(pages: list[Any], path: Path) -> None:
    """Refuse a file that ends before its pixels do."""
    for page in pages:
        size = page.parent.filehandle.size
        segments = zip(page.dataoffsets, page.databytecounts, strict=True)
        if any(start + count > size for start, count in segments):
            raise BadImage(f"{path}: the TIFF is incomplete: its pixels end after the end of the file")


def refuse_large_segments(pages: list[Any], wanted: Wanted, path: Path) -> None:
    """Bound what one strip or tile decompresses to, which the size of the image does not."""
    for page in pages:
        refuse_too_large(math.prod(page.chunks), wanted.limit, path)


def refuse_missing_planes(file: tifffile.TiffFile, whole: Any, image: OmeImage | None, path: Path) -> None:
    """Compare with the size that the metadata states: tifffile reads a cut stack as a shorter one."""
    stated, held = None, math.prod(whole.shape)
    if image is not None:
        stated = image.size or None
    elif file.is_imagej:
        stated = int((file.imagej_metadata or {}).get("images", 1)) * math.prod(whole.keyframe.shape)
    elif file.shaped_metadata:
        stated = math.prod(file.shaped_metadata[0].get("shape", whole.shape))
    if stated is not None and stated != held:
        raise BadImage(
            f"{path}: the TIFF is incomplete: its metadata states {stated} values, but {held} of shape "
            f"{tuple(whole.shape)} are there"
        )


def refuse_colours(file: tifffile.TiffFile, page: Any, path: Path) -> None:
    """Refuse what is neither grey nor red, green and blue, or keeps white as 0."""
    kind = tifffile.PHOTOMETRIC(page.photometric)
    readable = {tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR}
    if file.is_imagej:
        readable.add(tifffile.PHOTOMETRIC.PALETTE)  # ImageJ's look-up table is for display only
    if file.is_shaped and page.bitspersample == 1:
        readable.add(kind)  # tifffile declares so every array of truth values and keeps 1 for true
    elif kind == tifffile.PHOTOMETRIC.MINISWHITE:
        raise BadImage(f"{path}: the TIFF stores white as 0; invert it and save it with black as 0")
    if kind not in readable:
        raise BadImage(f"{path}: the TIFF's colours are {kind.name}, neither grey nor RGB; save it as one of these")
