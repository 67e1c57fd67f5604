"""Measured biology: phenotypes of objects with units, and edits of images, each with its null."""

from pellucid.measure.cellprofiler import cellprofiler_measures
from pellucid.measure.edit import EDITS, Edit, EditResult
from pellucid.measure.intensity_edits import (
    blur_texture,
    brighten,
    flatten_background,
    flatten_illumination,
    recolour,
)
from pellucid.measure.joined import Joined, per_image, read_measures
from pellucid.measure.measuring import measure_images, phenotypes
from pellucid.measure.object_edits import (
    move_object,
    replace_background,
    resize_object,
    stretch_object,
    swap_background,
)
from pellucid.measure.outlining import SEGMENTATIONS, Segmentation, central, otsu
from pellucid.measure.patch_edits import paste_patch, remove_patch
from pellucid.measure.phenotype import PHENOTYPES, Phenotype, columns
from pellucid.measure.profile import OBJECTS, Profiler
from pellucid.measure.rim_edits import blur_rim, brighten_rim, shift_rim
from pellucid.measure.segmentation import segment
from pellucid.measure.spot_edits import add_spots, remove_spots, scale_spots
from pellucid.measure.words import edit_in_words, in_words

__all__ = [
    "EDITS",
    "OBJECTS",
    "PHENOTYPES",
    "SEGMENTATIONS",
    "Edit",
    "EditResult",
    "Joined",
    "Phenotype",
    "Profiler",
    "Segmentation",
    "add_spots",
    "blur_rim",
    "blur_texture",
    "brighten",
    "brighten_rim",
    "cellprofiler_measures",
    "central",
    "columns",
    "edit_in_words",
    "flatten_background",
    "flatten_illumination",
    "in_words",
    "measure_images",
    "move_object",
    "otsu",
    "paste_patch",
    "per_image",
    "phenotypes",
    "read_measures",
    "recolour",
    "remove_patch",
    "remove_spots",
    "replace_background",
    "resize_object",
    "scale_spots",
    "segment",
    "shift_rim",
    "stretch_object",
    "swap_background",
]
