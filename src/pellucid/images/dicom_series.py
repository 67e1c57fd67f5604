"""A folder of DICOM files: which are slices of one volume, which are images of their own, which are masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.dicom_geometry import NotParallel, plane_of, stacked
from pellucid.images.dicom_identity import PERSONAL, nameless, safe_name
from pellucid.images.dicom_image import SEGMENTATION, read_file, read_series
from pellucid.images.dicom_pixels import open_dataset
from pellucid.images.levels import chosen_series
from pellucid.images.listing import Listing
from pellucid.images.reader import Wanted, needed

__all__ = ["DicomSource", "gather"]

NEEDED = (
    *PERSONAL, "SOPClassUID", "SeriesNumber", "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "ReferencedSeriesSequence",
)  # fmt: skip


@dataclass(frozen=True)
class DicomSource:
    """Opens an image by its id: one file, or the slices of a volume."""

    files: Mapping[str, tuple[str, ...]]
    wanted: Wanted

    def __call__(self, image: str) -> RawImage:
        """Return the image as stored."""
        paths = [Path(file) for file in self.files[image]]
        return read_series(paths, self.wanted, image) if len(paths) > 1 else read_file(paths[0], self.wanted, image)


@dataclass(frozen=True)
class _File:
    """A file with its header, or None where it cannot be read."""

    place: int
    name: str
    path: str
    header: Any

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def series(self) -> str:
        return "" if self.header is None else str(self.header.get("SeriesInstanceUID", ""))

    @property
    def number(self) -> float:
        number = None if self.header is None else self.header.get("SeriesNumber")
        return math.inf if number is None else float(number)


def gather(root: Path, listing: Listing, wanted: Wanted) -> Listing:
    """Make images of a folder's files: a volume of the parallel slices of a series, else one image a file.

    Reports and directories are left out. Ids are the names of files and folders, or derived ones where these tell who the patient is. Segmentation objects of
    a series that is here become the mask ``segmentation``. Headers are read, pixels are not.

    Raises
    ------
    BadImage
        When a folder holds several series, one of them a volume, and `wanted` chooses none.
    """
    files = [_opened(place, name, path, wanted) for place, (name, path) in enumerate(listing.files.items())]
    images: dict[str, tuple[_File, ...]] = {}
    for folder in dict.fromkeys(file.folder for file in files):
        inside = [one for one in files if one.folder == folder and _is_picture(one) and not _is_segmentation(one)]
        images |= _images(root, folder, inside, wanted)
    if not images:
        raise BadImage(
            f"{_shown(root, files)}: it holds segmentations or reports but no image; give segmentations with masks="
        )
    rows = [group[0].place for group in images.values()]
    return replace(
        listing,
        files={image: _stands_for(group) for image, group in images.items()},
        labels=None if listing.labels is None else tuple(listing.labels[row] for row in rows),
        metadata=listing.metadata.take(pa.array(rows, pa.int64()))
        if listing.metadata.num_columns
        else listing.metadata,
        masks=_masks(files, images),
        source=DicomSource({image: tuple(file.path for file in group) for image, group in images.items()}, wanted),
        shown=_shown(root, files),
    )


def _opened(place: int, name: str, path: str, wanted: Wanted) -> _File:
    pydicom = needed("pydicom", "medical", f"file {place + 1} of the folder")
    try:
        with nameless(name):
            header = open_dataset(
                pydicom, Path(path), name, wanted.limit, stop_before_pixels=True, specific_tags=list(NEEDED)
            )
    except BadImage:
        header = None
    return _File(place, name, path, header if header is not None and "SOPClassUID" in header else None)


def _is_picture(file: _File) -> bool:
    """Leave out reports, plans and directories, which lie beside the pictures of an export; keep what cannot be read."""
    return file.header is None or "Rows" in file.header


def _is_segmentation(file: _File) -> bool:
    return file.header is not None and str(file.header.get("SOPClassUID", "")) == SEGMENTATION


def _images(root: Path, folder: str, files: Sequence[_File], wanted: Wanted) -> dict[str, tuple[_File, ...]]:
    """Return the images of one folder by id."""
    bad = {_id(file): (file,) for file in files if file.header is None}
    groups: dict[str, list[_File]] = {}
    for file in sorted((file for file in files if file.header is not None), key=lambda file: (file.number, file.place)):
        groups.setdefault(file.series or file.name, []).append(file)
    volumes = [tuple(group) for group in groups.values() if _is_volume(group)]
    if volumes and len(groups) > 1:
        told = [_told(group, volume=tuple(group) in volumes) for group in groups.values()]
        shown = safe_name(folder, files[0].header) if folder else _shown(root, files)
        number = chosen_series([_number(group[0]) for group in groups.values()], wanted, shown, told=told)
        groups = dict([list(groups.items())[number]])
    found: dict[str, tuple[_File, ...]] = {}
    for group in groups.values():
        if tuple(group) in volumes:
            found[_volume_id(root, group[0])] = tuple(group)
        else:
            found |= {_id(file): (file,) for file in group}
    return dict(sorted((found | bad).items()))


def _is_volume(files: Sequence[_File]) -> bool:
    """Say whether files are slices of one volume: parallel, at more than one place. A gap is told when it is read."""
    if len(files) < 2 or any(int(file.header.get("NumberOfFrames", 1) or 1) > 1 for file in files):
        return False
    try:
        stacked([plane_of(file.header) for file in files], "")
    except NotParallel:
        return False
    except BadImage:
        return len({str(file.header.get("ImagePositionPatient")) for file in files}) > 1
    return True


def _number(file: _File) -> str:
    return "unnumbered" if math.isinf(file.number) else f"series {file.number:g}"


def _told(files: Sequence[_File], *, volume: bool) -> str:
    header = files[0].header
    what = "a volume of" if volume else "single images in"
    return f"{_number(files[0])}, {what} {len(files)} files of {header.get('Rows')} × {header.get('Columns')}"


def _id(file: _File) -> str:
    """Return the file's name, or one that tells nothing; of an unreadable file only its place is known to be harmless."""
    return f"unreadable_{file.place + 1}" if file.header is None else safe_name(file.name, file.header)


def _volume_id(root: Path, file: _File) -> str:
    return safe_name(file.folder or root.resolve().name, file.header)


def _shown(root: Path, files: Sequence[_File]) -> str:
    known = [file.header for file in files if file.header is not None]
    return safe_name(root.resolve().name, known[0]) if known else root.resolve().name


def _stands_for(group: Sequence[_File]) -> str:
    return group[0].path if len(group) == 1 else str(Path(group[0].path).parent)


def _masks(files: Sequence[_File], images: Mapping[str, tuple[_File, ...]]) -> dict[str, dict[str, str]]:
    """Return the segmentations of the series that are here, by image; a second one of an image is another mask."""
    owner = {group[0].series: image for image, group in images.items()}
    masks: dict[str, dict[str, str]] = {}
    for file in filter(_is_segmentation, files):
        for reference in file.header.get("ReferencedSeriesSequence") or ():
            image = owner.get(str(reference.get("SeriesInstanceUID", "")))
            if image is not None:
                taken = sum(image in mask for mask in masks.values())
                masks.setdefault("segmentation" + (f"_{taken + 1}" if taken else ""), {})[image] = file.path
    return masks
