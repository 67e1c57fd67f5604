"""Simulated experts: outlines of a known truth that each draws wider or tighter, with an unsteady hand of known size."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.hashing import hash_key
from pellucid.images.imageset import ImageSet

__all__ = ["with_experts"]

_SMOOTH = 3.0
"""Pixels over which an unsteady hand wanders."""


def with_experts(images: ImageSet, experts: int, *, reach: float = 1.0, seed: int = 0, mask: str = "truth") -> ImageSet:
    """Return the images with the masks ``"expert_1"``, ``"expert_2"``, ... beside those they have.

    An outline is the truth's own, moved outwards by the expert's habit (from -reach to +reach pixels, evenly over the
    experts) and by a smooth random field of half that size, drawn for each expert and image. Where there is nothing to
    mark, nobody marks anything.

    Parameters
    ----------
    images
        With exact masks, as phantoms have them.
    experts
        How many.
    reach
        Largest habit in pixels.
    seed
        Of the hands.
    mask
        Name of the exact mask.

    Raises
    ------
    BadImage
        When there is no such mask or fewer than one expert.
    """
    if experts < 1 or mask not in images.masks:
        raise BadImage(
            f"{experts} experts cannot redraw {mask!r}: give one at least, and one of {', '.join(images.masks)}"
        )
    habits = np.linspace(-reach, reach, experts) if experts > 1 else np.zeros(1)
    drawn = {f"expert_{place + 1}": _hand(images, mask, float(habit), reach / 2, seed, place)
             for place, habit in enumerate(habits)}  # fmt: skip
    return replace(images, masks={**images.masks, **drawn})


def _hand(
    images: ImageSet, mask: str, habit: float, unsteady: float, seed: int, place: int
) -> Callable[[str], Tensor | None]:
    def draw(image: str) -> Tensor | None:
        exact = images.masks[mask](image)
        if exact is None or not bool(exact.any()):
            return exact
        inside = exact.numpy() != 0
        depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
        key = hash_key("expert", seed, f"{place} {image}")
        field = ndimage.gaussian_filter(
            np.random.default_rng(int.from_bytes(key[:8])).standard_normal(inside.shape), _SMOOTH
        )
        redrawn = depth + habit + unsteady * field / field.std() > 0
        return torch.from_numpy((redrawn if redrawn.any() else inside).astype(np.int64))

    return draw
