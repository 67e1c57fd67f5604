"""Files and phantoms become an :class:`ImageSet`: tensors with named axes, labels, groups and masks."""

from pellucid.images.imageset import ImageRecord, ImageSet

__all__ = ["ImageRecord", "ImageSet"]
