"""Images without a background: everything outside an object's mask in one colour, the same for all images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageSet

__all__ = ["flatten_outside"]


@dataclass(frozen=True)
class _Flat:
    """Reads an image and paints what lies outside its mask."""

    load: Callable[[str], Tensor]
    mask: Callable[[str], Tensor | None]
    name: str
    colour: Tensor

    def __call__(self, image: str) -> Tensor:
        """Return float32 ``(C, *S)``."""
        mask = self.mask(image)
        if mask is None or not bool((mask > 0).any()):
            raise BadImage(f"{image}: it has no mask {self.name!r} to flatten around; leave it out or draw one")
        pixels = self.load(image)
        return torch.where(mask > 0, pixels, self.colour.to(pixels))


def flatten_outside(images: ImageSet, mask: str, *, colour: tuple[float, ...] = ()) -> ImageSet:
    """Return the same images with everything outside the mask replaced by one colour.

    A background that betrays the class is gone then, for training as for explaining; the object's place, size, outline
    and own colour remain and can betray as much.

    Parameters
    ----------
    images
        Any set with masks.
    mask
        Name of the mask that outlines the object.
    colour
        One value a channel, in the images' own units; default: the middle of the display range. It is the same for
        every image: the mean of each image's own would carry on what is to be taken away.

    Raises
    ------
    BadImage
        When there is no such mask or the colour has not one value a channel; on reading, when an image has no mask.
    """
    if mask not in images.masks:
        raise BadImage(f"there is no mask {mask!r} to flatten around; this set has {', '.join(images.masks) or 'none'}")
    middle = sum(images.record.display_range) / 2
    values = colour or (middle,) * images.shape[0]
    if len(values) != images.shape[0]:
        raise BadImage(f"the colour has {len(values)} values and the images {images.shape[0]} channels")
    paint = torch.tensor(values).view(-1, *[1] * (len(images.shape) - 1))
    return replace(images, load=_Flat(images.load, images.masks[mask], mask, paint))
