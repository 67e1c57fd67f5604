"""The header that DICOM objects of an export refer to: geometry and identifiers of the source, never who it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pellucid.errors import BadStudy
from pellucid.show.exports.content import Content

__all__ = ["Sources", "sources_of"]

_KEPT = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "Rows", "Columns",
    "ImagerPixelSpacing",
)  # fmt: skip
"""What overlays need. Everything else, names, dates and numbers of the visit included, stays where it is."""

_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""What the standard wants to be there, and may be empty."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT = "1.2.840.10008.1.2.1"
_MICROMETRES = 1000.0


@dataclass(frozen=True)
class Sources:
    """One header a plane, in the order of the planes.

    Attributes
    ----------
    headers
        Without identity and pixels.
    real
        Whether they stand for DICOM files that exist.
    """

    headers: tuple[Any, ...]
    real: bool

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.headers[0].Rows), int(self.headers[0].Columns)


def sources_of(content: Content, image: str, shape: Sequence[int]) -> Sources:
    """Return the headers of one image's planes ``(Z, Y, X)``: of the DICOM files it was read from, else new ones.

    Raises
    ------
    BadStudy
        When the files have another number of planes than the image.
    """
    files = _files(content.source(image))
    if not files:
        return Sources(_made(content, shape), real=False)
    pydicom: Any = import_module("pydicom")
    read = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    if len(read) != shape[0]:
        raise BadStudy(
            f"{image}: {len(read)} DICOM files for an image of {shape[0]} planes; export it to nifti or ome-zarr"
        )
    return Sources(tuple(_without_identity(header) for header in sorted(read, key=_place)), real=True)


def _files(source: Path | None) -> list[Path]:
    if source is None:
        return []
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return [path for path in paths if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _place(header: Any) -> float:
    """Return how far a plane lies along the normal of the series."""
    position, turn = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if position is None or turn is None:
        return float(header.get("InstanceNumber") or 0)
    row, column = [float(part) for part in turn[:3]], [float(part) for part in turn[3:]]
    normal = [
        row[(axis + 1) % 3] * column[(axis + 2) % 3] - row[(axis + 2) % 3] * column[(axis + 1) % 3] for axis in range(3)
    ]
    return sum(float(part) * along for part, along in zip(position, normal, strict=True))


def _empty() -> Any:
    header = import_module("pydicom.dataset").Dataset()
    header.file_meta = import_module("pydicom.dataset").FileMetaDataset()
    header.file_meta.TransferSyntaxUID = _EXPLICIT
    for name in _EMPTY:
        setattr(header, name, "")
    return header


def _without_identity(source: Any) -> Any:
    header = _empty()
    for name in _KEPT:
        if name in source:
            setattr(header, name, source[name].value)
    _complete(header, int(source.get("InstanceNumber") or 1) - 1)
    return header


def _complete(header: Any, plane: int) -> None:
    """Give a header that has no place in space one, so that planes can be told apart."""
    uid = import_module("highdicom").UID
    told = {"FrameOfReferenceUID": uid(), "ImagePositionPatient": [0.0, 0.0, float(plane)],
            "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "SliceThickness": 1.0,
            "PixelSpacing": header.get("ImagerPixelSpacing", [1.0, 1.0])}  # fmt: skip
    for name, value in told.items():
        if header.get(name) is None:
            setattr(header, name, value)


def _made(content: Content, shape: Sequence[int]) -> tuple[Any, ...]:
    uid = import_module("highdicom").UID
    study, series, frame = uid(), uid(), uid()
    steps = [1.0 if step != step else step / _MICROMETRES for step in _steps(content)]  # NaN differs from itself
    headers = []
    for plane in range(shape[0]):
        header = _empty()
        told = {
            "SOPClassUID": _SECONDARY_CAPTURE, "SOPInstanceUID": uid(), "StudyInstanceUID": study, "SeriesInstanceUID": series,
            "FrameOfReferenceUID": frame, "Modality": "OT", "InstanceNumber": plane + 1, "Rows": shape[1], "Columns": shape[2],
            "PixelSpacing": steps[-2:], "SliceThickness": steps[0], "ImagePositionPatient": [0.0, 0.0, plane * steps[0]],
            "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        }  # fmt: skip
        for name, value in told.items():
            setattr(header, name, value)
        headers.append(header)
    return tuple(headers)


def _steps(content: Content) -> tuple[float, float, float]:
    """Return the pixel size along Z, Y and X in micrometres; NaN where it is unknown."""
    sizes = dict(zip(content.record.spatial, content.record.spacing or (), strict=False))
    depth, height, width = (sizes.get(letter, float("nan")) for letter in "ZYX")
    return depth, height, width
