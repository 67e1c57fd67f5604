"""Tests of methods by pairs whose difference is known: two models on one image, one model on two images.

What a map says is only ever compared with what it says elsewhere, so no mask has to be taken for the truth.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.intervals import Interval, mean_interval, share_interval

__all__ = ["input_dependence", "input_independence", "model_contrast"]


def model_contrast(
    user: Tensor, other: Tensor, region: Tensor, *, groups: Sequence[Hashable] | None = None
) -> Interval:
    """Return how much more attribution a part of the image gets from a model that uses it than from one that does not.

    Parameters
    ----------
    user, other
        ``(N, C, *S)`` maps by one method of the same images, for the model that uses what lies in `region` and the other.
    region
        Boolean ``(N, *S)``.
    groups
        The independent unit of each image.

    Returns
    -------
    Interval
        Mean difference of the region's density of |attribution| over the image's; 0 for a map that does not know the model.

    References
    ----------
    Yang and Kim 2019, model contrast score of BAM.
    """
    return mean_interval((_density(user, region) - _density(other, region)).numpy(), groups=groups)


def input_dependence(present: Tensor, absent: Tensor, region: Tensor) -> Interval:
    """Return the share of images in which an object that the model ignores gets less attribution than what it hides.

    Parameters
    ----------
    present, absent
        ``(N, C, *S)`` maps by one method and one model that ignores the object, of images with the object and without.
    region
        Boolean ``(N, *S)`` where the object lies.

    References
    ----------
    Yang and Kim 2019, input dependence rate of BAM.
    """
    fewer = _density(present, region) < _density(absent, region)
    return share_interval(int(fewer.sum()), len(fewer))


def input_independence(before: Tensor, after: Tensor, patch: Tensor, *, within: float = 0.1) -> Interval:
    """Return the share of images whose map stays the same elsewhere when a patch that changes no output is added.

    Parameters
    ----------
    before, after
        ``(N, C, *S)`` maps by one method and one model, without and with the patch.
    patch
        Boolean ``(N, *S)`` where the patch lies.
    within
        Largest change of the rest of the map, as a share of its size, that counts as the same.

    References
    ----------
    Yang and Kim 2019, input independence rate of BAM.
    """
    rest = ~_fitting(before, patch)
    one, two = (maps.double() * rest for maps in (before, after))
    moved = (two - one).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)
    return share_interval(int((moved <= within).sum()), len(moved))


def _density(maps: Tensor, region: Tensor) -> Tensor:
    """Return |attribution| a pixel in the region over |attribution| a pixel in the image: 1 where it is spread evenly."""
    inside = _fitting(maps, region).expand_as(maps).flatten(1)
    sizes = maps.detach().abs().double().flatten(1)
    return (sizes * inside).sum(1) / inside.sum(1) / sizes.mean(1)


def _fitting(maps: Tensor, region: Tensor) -> Tensor:
    fits = maps.ndim >= 3 and region.shape == (len(maps), *maps.shape[2:]) and region.dtype == torch.bool
    if not fits or not bool(region.flatten(1).any(1).all()):
        raise ShapeError(
            f"maps (N, C, *S) of shape {tuple(maps.shape)} need a boolean region (N, *S) with a pixel in every row, not "
            f"{region.dtype} {tuple(region.shape)}"
        )
    return region[:, None]
