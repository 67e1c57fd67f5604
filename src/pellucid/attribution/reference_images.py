"""References made of other images: the class mean, the nearest image of another class, a sample, an in-painted image.

Each is a tensor of images as they were given, in their own units; `reference_sensitivity` takes them as fills.
"""

from collections.abc import Sequence

import numpy as np
import torch
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.hashing import hash_seed

__all__ = ["background_sample", "class_mean", "inpainted", "nearest_other"]


def _labelled(images: Tensor, labels: Sequence[int]) -> Tensor:
    if len(labels) != len(images):
        raise ShapeError(f"{len(labels)} labels were given for {len(images)} images of shape {tuple(images.shape)}")
    return torch.as_tensor(list(labels))


def class_mean(images: Tensor, labels: Sequence[int], label: int) -> Tensor:
    """Return the mean image ``(1, C, *S)`` of a class: what a typical member looks like.

    Raises
    ------
    ShapeError
        When no image has that label.
    """
    members = images[_labelled(images, labels) == label]
    if not len(members):
        raise ShapeError(f"no image has the label {label}; there are {sorted(set(labels))}")
    return members.mean(0, keepdim=True)


def nearest_other(x: Tensor, own: Sequence[int], images: Tensor, labels: Sequence[int]) -> Tensor:
    """Return for every row of `x` the image of another class that is nearest in Euclidean distance, ``(N, C, *S)``.

    Parameters
    ----------
    x, own
        Images ``(N, C, *S)`` and the class of each.
    images, labels
        Images to choose from, of the same C and S, and the class of each.

    Raises
    ------
    ShapeError
        When the images do not fit, or a row has none of another class.
    """
    if x.shape[1:] != images.shape[1:]:
        raise ShapeError(f"images of shape {tuple(images.shape[1:])} cannot be references for {tuple(x.shape[1:])}")
    mine, theirs = _labelled(x, own), _labelled(images, labels)
    same = mine[:, None] == theirs[None]
    if bool(same.all(1).any()):
        raise ShapeError(f"row {int(same.all(1).nonzero()[0])} has no image of another class to stand against")
    apart = torch.cdist(x.flatten(1).double(), images.flatten(1).double()).masked_fill(same, torch.inf)
    return images[apart.argmin(1)]


def background_sample(images: Tensor, *, seed: int = 0) -> Tensor:
    """Return one of the images, drawn from the seed, ``(1, C, *S)``."""
    stream = torch.Generator().manual_seed(hash_seed(seed, "background sample"))
    return images[torch.randint(len(images), (1,), generator=stream)]


def inpainted(x: Tensor, masks: Tensor) -> Tensor:
    """Return the images with the masked part filled in smoothly from round it (biharmonic), ``(N, C, *S)``.

    Parameters
    ----------
    x
        Images ``(N, C, *S)``, S of two or three axes, or one.
    masks
        ``(N, *S)``, True where the image is to be replaced.

    Raises
    ------
    ShapeError
        When the masks do not fit the images, or cover one whole.
    """
    if masks.shape != (len(x), *x.shape[2:]):
        raise ShapeError(f"masks of shape {tuple(masks.shape)} do not fit images {tuple(x.shape)}; give (N, *S)")
    hidden = masks.bool()
    if bool(hidden.flatten(1).all(1).any()):
        row = int(hidden.flatten(1).all(1).nonzero()[0])
        raise ShapeError(f"the mask of row {row} covers the whole image, so nothing is left to in-paint from")
    filled = [_filled(image, mask) for image, mask in zip(x.double().cpu().numpy(), hidden.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(filled)).to(x)


def _filled(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill one image ``(C, *S)``; a sequence is filled as an image of one row."""
    flat = mask.ndim == 1
    if flat:
        image, mask = image[:, None], mask[None]
    found = np.asarray(inpaint_biharmonic(image, mask, channel_axis=0))
    found = np.where(mask, found, image)
    return found[:, 0] if flat else found
