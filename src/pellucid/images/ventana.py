"""What Ventana's BIF slides state in their own XML: the pixel size, and whether tiles overlap and would have to be stitched."""

import re
from pathlib import Path
from typing import Any

from pellucid.errors import BadImage

__all__ = ["ventana_step"]

_XMP = 700
_STEP = re.compile(rb"""<iScan\b[^>]*\bScanRes\s*=\s*["']([0-9.]+)["']""")
_JOINT = re.compile(rb"<TileJointInfo\b[^>]*>")
_OVERLAP = re.compile(rb"""\bOverlap[XY]\s*=\s*["']-?0*[1-9]""")
_JOINED = re.compile(rb"""\bFlagJoined\s*=\s*["']0["']""")


def ventana_step(pages: Any, path: Path) -> float | None:
    """Return the size of the finest pixels in micrometres, None where none is stated.

    Parameters
    ----------
    pages
        Pages of the open TIFF.
    path
        For the sentence of a refusal.

    Raises
    ------
    BadImage
        When neighbouring tiles overlap: unstitched, structures at their joints would lie a few pixels from where they are.
    """
    told = b"".join(_bytes(page.tags[_XMP].value) for page in pages if _XMP in page.tags)
    joints = [joint for joint in _JOINT.findall(told) if not _JOINED.search(joint)]
    overlapping = sum(bool(_OVERLAP.search(joint)) for joint in joints)
    if overlapping:
        raise BadImage(
            f"{path}: {overlapping} of {len(joints)} joints of its tiles overlap and are not stitched here; export it as OME-TIFF or SVS "
            "with the scanner's software"
        )
    found = _STEP.search(told)
    return float(found[1]) if found and float(found[1]) > 0 else None


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
