"""DICOM: the reader of single files and of folders that hold the slices of one volume."""

from pathlib import Path

from pellucid.images.axes import RawImage
from pellucid.images.dicom_image import read_file, read_series
from pellucid.images.dicom_masks import read_segmentation
from pellucid.images.dicom_series import gather
from pellucid.images.reader import Reader, Wanted

__all__ = ["DICOM"]


def _read(path: Path, wanted: Wanted) -> RawImage:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
        return read_series(files, wanted, str(path))
    if wanted.mask:
        return read_segmentation(path, wanted, str(path))
    return read_file(path, wanted, str(path))


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
