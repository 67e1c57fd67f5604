"""Files and phantoms become an :class:`ImageSet`: tensors with named axes, labels, groups and masks."""

from pellucid.images import phantoms
from pellucid.images.axes import RawImage
from pellucid.images.flatten import flatten_outside
from pellucid.images.imageset import ImageRecord, ImageSet
from pellucid.images.read import read_images
from pellucid.images.reader import Reader, Wanted

__all__ = ["ImageRecord", "ImageSet", "RawImage", "Reader", "Wanted", "flatten_outside", "phantoms", "read_images"]
