"""Measured biology: phenotypes of objects with units, and edits of images, each with its null."""

from pellucid.measure.edit import EDITS, Edit, EditResult
from pellucid.measure.intensity_edits import blur_texture, brighten, flatten_background, recolour
from pellucid.measure.measuring import measure_images, phenotypes
from pellucid.measure.object_edits import resize_object, swap_background
from pellucid.measure.outlining import SEGMENTATIONS, Segmentation, otsu
from pellucid.measure.patch_edits import paste_patch, remove_patch
from pellucid.measure.phenotype import PHENOTYPES, Phenotype, columns
from pellucid.measure.profile import OBJECTS, Profiler
from pellucid.measure.segmentation import segment

__all__ = [
    "EDITS",
    "OBJECTS",
    "PHENOTYPES",
    "SEGMENTATIONS",
    "Edit",
    "EditResult",
    "Phenotype",
    "Profiler",
    "Segmentation",
    "blur_texture",
    "brighten",
    "columns",
    "flatten_background",
    "measure_images",
    "otsu",
    "paste_patch",
    "phenotypes",
    "recolour",
    "remove_patch",
    "resize_object",
    "segment",
    "swap_background",
]
