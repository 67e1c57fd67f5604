"""DICOM: the reader of single files and of folders that hold the slices of one volume."""

from pathlib import Path

from pellucid.images.axes import RawImage
from pellucid.images.dicom_header import opened_header
from pellucid.images.dicom_image import read_file, read_series
from pellucid.images.dicom_masks import read_segmentation
from pellucid.images.dicom_series import gather
from pellucid.images.reader import Reader, Wanted

__all__ = ["DICOM"]


def _read(path: Path, wanted: Wanted) -> RawImage:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
        return read_series(files, wanted, _shown(files[0], path.name, wanted.limit))
    read = read_segmentation if wanted.mask else read_file
    return read(path, wanted, _shown(path, path.name, wanted.limit))


def _shown(file: Path, name: str, limit: int) -> str:
    """Return what errors call a file or folder: its name where that does not tell who the patient is."""
    return opened_header(0, file.name, str(file), limit).safe(name)


def _is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


DICOM = Reader(
    name="DICOM",
    suffixes=(".dcm", ".dicom"),
    read=_read,
    gather=gather,
    magic=_is_dicom,
    takes=frozenset({"series"}),
    extra="medical",
    reads="grey values in the modality's unit (look-up table, slope and intercept), RGB, YBR and palettes; parallel slices of a series as "
    "one volume sorted by position; frames by position, offset or time; segmentation objects as masks",
    refuses="slices that are missing, unevenly spaced, doubled or sheared; frames that do not say what they follow; several series "
    "in one folder unless `series=` chooses one; overlapping or fractional segments; files without picture",
)
