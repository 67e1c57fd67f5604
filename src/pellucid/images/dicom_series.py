"""A folder of DICOM files: which are slices of one volume, which are images of their own, which are masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.dicom_geometry import NotParallel, stacked
from pellucid.images.dicom_header import DicomFile, Header, opened_header
from pellucid.images.dicom_image import read_file, read_series
from pellucid.images.levels import chosen_series
from pellucid.images.listing import Listing
from pellucid.images.reader import Wanted

__all__ = ["DicomSource", "gather"]

Pair = tuple[DicomFile, Header]


@dataclass(frozen=True)
class DicomSource:
    """Opens an image by its id: one file, or the slices of a volume."""

    files: Mapping[str, tuple[str, ...]]
    wanted: Wanted

    def __call__(self, image: str) -> RawImage:
        """Return the image as stored."""
        paths = [Path(file) for file in self.files[image]]
        return read_series(paths, self.wanted, image) if len(paths) > 1 else read_file(paths[0], self.wanted, image)


def gather(root: Path, listing: Listing, wanted: Wanted) -> Listing:
    """Make images of a folder's files: a volume of the parallel slices of a series, else one image a file.

    Reports and directories are left out. Ids are the names of files and folders, or derived ones where these tell who
    the patient is. Segmentation objects of a series that is here become the mask ``segmentation``. Headers are read,
    pixels are not.

    Raises
    ------
    BadImage
        When a folder holds several series, one of them a volume, and `wanted` chooses none.
    """
    files = [opened_header(place, name, path, wanted.limit) for place, (name, path) in enumerate(listing.files.items())]
    shown = next((file.safe(root.resolve().name) for file in files if file.header is not None), "dicom")
    images: dict[str, tuple[DicomFile, ...]] = {}
    for folder in dict.fromkeys(file.folder for file in files):
        images |= _images(root, [file for file in files if file.folder == folder], wanted)
    if not images:
        raise BadImage(f"{shown}: it holds segmentations or reports but no image; give segmentations with masks=")
    rows = [group[0].place for group in images.values()]
    table = listing.metadata
    return replace(
        listing,
        files={image: _stands_for(group) for image, group in images.items()},
        labels=None if listing.labels is None else tuple(listing.labels[row] for row in rows),
        metadata=table.take(pa.array(rows, pa.int64())) if table.num_columns else table,
        masks=_masks(files, images),
        source=DicomSource({image: tuple(file.path for file in group) for image, group in images.items()}, wanted),
        shown=shown,
    )


def _images(root: Path, files: Sequence[DicomFile], wanted: Wanted) -> dict[str, tuple[DicomFile, ...]]:
    """Return the images of one folder by id."""
    known = [(file, file.header) for file in files if file.header is not None and file.header.kind == "picture"]
    groups: dict[str, list[Pair]] = {}
    for file, header in sorted(known, key=lambda pair: (pair[1].number, pair[0].place)):
        groups.setdefault(header.series or file.name, []).append((file, header))
    volumes = {series for series, group in groups.items() if _is_volume(group)}
    if volumes and len(groups) > 1:
        told = [_told(group, volume=series in volumes) for series, group in groups.items()]
        first = known[0][0]
        number = chosen_series(
            [_number(group) for group in groups.values()], wanted, first.safe(_folder(root, first)), told=told
        )
        groups = dict([list(groups.items())[number]])
    found: dict[str, tuple[DicomFile, ...]] = {file.id: (file,) for file in files if file.header is None}
    for series, group in groups.items():
        members = tuple(file for file, _ in group)
        if series in volumes:
            found[members[0].safe(_folder(root, members[0]))] = members
        else:
            found |= {file.id: (file,) for file in members}
    return dict(sorted(found.items()))


def _folder(root: Path, file: DicomFile) -> str:
    return file.folder or root.resolve().name


def _is_volume(group: Sequence[Pair]) -> bool:
    """Say whether files are slices of one volume: parallel, at more than one place. A gap is told when it is read."""
    if len(group) < 2 or any(header.frames > 1 for _, header in group):
        return False
    planes = [header.plane for _, header in group]
    try:
        stacked(planes, "")
    except NotParallel:
        return False
    except BadImage:
        origins = np.stack([plane.origin for plane in planes if plane.origin is not None])
        return bool(np.ptp(origins, axis=0).max() > 0)
    return True


def _number(group: Sequence[Pair]) -> str:
    number = group[0][1].number
    return "unnumbered" if math.isinf(number) else f"series {number:g}"


def _told(group: Sequence[Pair], *, volume: bool) -> str:
    rows, columns = group[0][1].shape
    return (
        f"{_number(group)}, {'a volume of' if volume else 'single images in'} {len(group)} files of {rows} × {columns}"
    )


def _stands_for(group: Sequence[DicomFile]) -> str:
    return group[0].path if len(group) == 1 else str(Path(group[0].path).parent)


def _masks(files: Sequence[DicomFile], images: Mapping[str, tuple[DicomFile, ...]]) -> dict[str, dict[str, str]]:
    """Return the segmentations of the series that are here, by image; a second one of an image is another mask."""
    owner = {group[0].header.series: image for image, group in images.items() if group[0].header is not None}
    masks: dict[str, dict[str, str]] = {}
    for file in files:
        if file.header is None or file.header.kind != "segmentation":
            continue
        for image in (owner[series] for series in file.header.references if series in owner):
            taken = sum(image in mask for mask in masks.values())
            masks.setdefault("segmentation" + (f"_{taken + 1}" if taken else ""), {})[image] = file.path
    return masks
