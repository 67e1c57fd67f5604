"""What must not leave a DICOM file: who the patient is, and the identifiers that lead back to them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid.errors import BadImage
from pellucid.hashing import hash_key
from pellucid.images.quiet import quiet

__all__ = ["DICOM_DAMAGE", "PERSONAL", "nameless", "safe_name"]

PERSONAL = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate", "PatientAddress",
    "PatientTelephoneNumbers", "AccessionNumber", "StudyID", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "InstitutionName", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip
SHORTEST = 3
DICOM_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What pydicom and highdicom raise on damaged or unusual files."""


@contextmanager
def nameless(name: str) -> Iterator[None]:
    """Turn whatever happens inside into one sentence that quotes nothing of the file: libraries quote its values.

    Raises
    ------
    BadImage
        With the kind of the failure only.
    """
    try:
        with quiet("pydicom", "highdicom", "highdicom.seg.sop", "highdicom.image", "highdicom.base"):
            yield
    except BadImage:
        raise
    except DICOM_DAMAGE as error:
        raise BadImage(
            f"{name}: the DICOM file is corrupt, incomplete or packed in a way that cannot be read ({type(error).__name__})"
        ) from None


def safe_name(name: str, header: Any) -> str:
    """Return a file's name below its folder, with the parts replaced that tell what the header holds of the patient.

    Exported files and their folders are often named after the patient or by a unique identifier. What takes their place
    is a digest in which the image's own identifier is mixed, so that nobody without the file can go back.
    """
    told = _personal(header)
    secret = str(header.get("SeriesInstanceUID", ""))
    return "/".join(_derived(part, secret) if _tells(part, told) else part for part in name.split("/"))


def _derived(part: str, secret: str) -> str:
    return f"dicom_{hash_key(secret, part).hex()[:12]}"


def _personal(header: Any) -> set[str]:
    """Return the values, and the words of the names, that a file's name must not hold."""
    values = {str(header.get(keyword, "") or "").lower() for keyword in PERSONAL}
    words = {word for value in values if not re.fullmatch(r"[\d.]+", value) for word in re.split(r"[\W_]+", value)}
    return {value for value in values | words if len(value) >= SHORTEST}


def _tells(part: str, told: set[str]) -> bool:
    plain = part.lower()
    return any(value in plain for value in told) or bool(re.fullmatch(r"\d+(\.\d+){4,}", Path(plain).stem))
