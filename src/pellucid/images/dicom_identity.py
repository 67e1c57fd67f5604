"""What must not leave a DICOM file: who the patient is, and the identifiers that lead back to them."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid.errors import BadImage
from pellucid.hashing import hash_key
from pellucid.images.quiet import quiet
from pellucid.images.reader import DAMAGE, needed

__all__ = ["PERSONAL", "nameless", "personal", "safe_name"]

PERSONAL = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate", "PatientAddress",
    "PatientTelephoneNumbers", "AccessionNumber", "StudyID", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "InstitutionName", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip
SHORTEST = 3


@contextmanager
def nameless(name: str) -> Iterator[None]:
    """Turn whatever happens inside into one sentence that quotes nothing of the file: libraries quote its values.

    Raises
    ------
    BadImage
        With the kind of the failure only.
    """
    own = needed("pydicom.errors", "medical", name).BytesLengthException
    try:
        with quiet("pydicom", "highdicom", "highdicom.seg.sop", "highdicom.image", "highdicom.base"):
            yield
    except BadImage:
        raise
    except (*DAMAGE, own) as error:
        raise BadImage(
            f"{name}: the DICOM file is corrupt, incomplete or packed in a way that cannot be read ({type(error).__name__})"
        ) from None


def personal(header: Any) -> frozenset[str]:
    """Return the values of a header, and the words in its names, that a file's name must not hold; lower case."""
    values = {str(header.get(keyword, "") or "").lower() for keyword in PERSONAL}
    words = {word for value in values if not re.fullmatch(r"[\d.]+", value) for word in re.split(r"[\W_]+", value)}
    return frozenset(value for value in values | words if len(value) >= SHORTEST)


def safe_name(name: str, told: Collection[str], secret: str) -> str:
    """Return a file's name below its folder, with the parts replaced that tell who the patient is.

    Exported files and their folders are often named after the patient or by a unique identifier. What takes their place
    is a digest in which a secret is mixed, so that nobody without the file can go back.

    Parameters
    ----------
    name
        The name, with slashes.
    told
        What the header tells of the patient, from `personal`.
    secret
        An identifier that only the file holds.
    """
    return "/".join(
        f"dicom_{hash_key(secret, part).hex()[:12]}" if _tells(part, told) else part for part in name.split("/")
    )


def _tells(part: str, told: Collection[str]) -> bool:
    plain = part.lower()
    return any(value in plain for value in told) or bool(re.fullmatch(r"\d+(\.\d+){4,}", Path(plain).stem))
