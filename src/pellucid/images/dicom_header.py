"""What a folder's listing needs to know of a DICOM file, taken from its header at once and free of anybody's name."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import BadImage
from pellucid.images.dicom_geometry import Plane, plane_of
from pellucid.images.dicom_identity import PERSONAL, nameless, personal, safe_name
from pellucid.images.dicom_image import SEGMENTATION
from pellucid.images.dicom_pixels import open_dataset
from pellucid.images.reader import needed

__all__ = ["DicomFile", "Header", "opened_header"]

NEEDED = (
    *PERSONAL, "SOPClassUID", "SeriesNumber", "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "ReferencedSeriesSequence",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Header:
    """Plain values of a header.

    Attributes
    ----------
    kind
        ``"picture"``, ``"segmentation"``, or ``"other"`` for reports, plans and directories.
    series
        Identifier of the series; never told.
    number
        Number of the series, infinite where there is none.
    shape
        Rows and columns.
    frames
        Number of frames.
    plane
        Where it lies.
    told
        Words that a name must not hold.
    references
        Identifiers of the series that a segmentation outlines.
    """

    kind: str
    series: str
    number: float
    shape: tuple[int, int]
    frames: int
    plane: Plane
    told: frozenset[str]
    references: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class DicomFile:
    """A file of a listing: its place, its name below the folder, its path, and its header where that can be read."""

    place: int
    name: str
    path: str
    header: Header | None

    @property
    def folder(self) -> str:
        """Its folder below the listing's, or ""."""
        return self.name.rpartition("/")[0]

    def safe(self, name: str) -> str:
        """Return a name of this file or its folders without what tells who the patient is."""
        return "dicom" if self.header is None else safe_name(name, self.header.told, self.header.series)

    @property
    def id(self) -> str:
        """Its own safe name; of an unreadable file only its place is known to be harmless."""
        return f"unreadable_{self.place + 1}" if self.header is None else self.safe(self.name)


def opened_header(place: int, name: str, path: str, limit: int) -> DicomFile:
    """Read what is needed of a file's header."""
    pydicom = needed("pydicom", "medical", f"file {place + 1} of the folder")
    try:
        with nameless(name):
            how = {"stop_before_pixels": True, "specific_tags": list(NEEDED)}
            return DicomFile(place, name, path, _header(open_dataset(pydicom, Path(path), name, limit, **how)))
    except BadImage:
        return DicomFile(place, name, path, None)


def _header(stated: Any) -> Header | None:
    kind = str(stated.get("SOPClassUID", "") or "")
    if not kind:
        return None
    number = stated.get("SeriesNumber")
    picture = "segmentation" if kind == SEGMENTATION else "picture" if "Rows" in stated else "other"
    return Header(
        kind=picture,
        series=str(stated.get("SeriesInstanceUID", "") or ""),
        number=math.inf if number is None else float(number),
        shape=(int(stated.get("Rows", 0) or 0), int(stated.get("Columns", 0) or 0)),
        frames=int(stated.get("NumberOfFrames", 1) or 1),
        plane=plane_of(stated),
        told=personal(stated),
        references=tuple(str(one.get("SeriesInstanceUID", "")) for one in stated.get("ReferencedSeriesSequence") or ()),
    )
