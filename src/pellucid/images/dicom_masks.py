"""Segmentation objects of DICOM through highdicom: segments as the numbers of a label image."""

from pathlib import Path

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.dicom_geometry import LPS_TO_RAS
from pellucid.images.dicom_identity import nameless
from pellucid.images.dicom_pixels import refuse_inflated
from pellucid.images.placing import Placing
from pellucid.images.reader import Wanted, needed, refuse_too_large

__all__ = ["read_segmentation"]


def read_segmentation(path: Path, wanted: Wanted, name: str) -> RawImage:
    """Read the segments of one object, number by number, on the grid that the object states.

    Raises
    ------
    BadImage
        When segments overlap, are probabilities, or lie on no regular grid.
    """
    pydicom, highdicom = needed("pydicom", "medical", name), needed("highdicom", "medical", name)
    with nameless(name):
        refuse_inflated(pydicom, path, name, wanted.limit)
        found = highdicom.seg.segread(path)
        if str(found.SegmentationType) == "FRACTIONAL":
            raise BadImage(f"{name}: its segments are probabilities; a mask holds whole numbers")
        grid = found.get_volume_geometry()
        if grid is None:
            raise BadImage(f"{name}: its frames lie on no regular grid")
        refuse_too_large(int(np.prod(grid.spatial_shape)), wanted.limit, name)
        try:
            volume = found.get_volume(combine_segments=True)
        except RuntimeError:
            raise BadImage(f"{name}: its segments overlap; a mask holds one number a pixel") from None
        affine = np.vstack([np.asarray(volume.affine)[:3] * LPS_TO_RAS[:, None], [[0, 0, 0, 1]]])
        return RawImage(np.asarray(volume.array), "ZYX", placing=Placing.from_affine(affine, "ZYX"))
