"""Files and phantoms become an :class:`ImageSet`: tensors with named axes, labels, groups and masks."""

from pellucid.images import phantoms
from pellucid.images.flatten import flatten_outside
from pellucid.images.imageset import ImageRecord, ImageSet
from pellucid.images.read import read_images

__all__ = ["ImageRecord", "ImageSet", "flatten_outside", "phantoms", "read_images"]
