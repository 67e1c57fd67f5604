"""What an edit is: a value that changes one thing in an image, and its null that changes as much but not that thing."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.measure.surface import Array, Mask
from pellucid.recipes import Recipe, Registry

__all__ = ["EDITS", "Edit", "EditResult", "packed", "unpacked"]


@dataclass(frozen=True)
class EditResult:
    """An edited image.

    Attributes
    ----------
    image
        ``(C, *S)``, of the given image's dtype; equal to it bit for bit outside `support`.
    support
        Boolean ``(*S)``: the pixels that changed in any channel.
    """

    image: Tensor
    support: Tensor


def unpacked(image: Tensor, mask: Tensor) -> tuple[Array, Mask]:
    """Return image and mask as arrays, or refuse what does not fit together."""
    if image.ndim < 2 or mask.shape != image.shape[1:]:
        raise ShapeError(f"an edit takes (C, *S) and a mask (*S), not {tuple(image.shape)} and {tuple(mask.shape)}")
    inside = mask.detach().cpu().numpy() > 0
    if not inside.any() or inside.all():
        raise ShapeError("an edit needs a mask with at least one pixel inside and one outside")
    return image.detach().cpu().numpy().astype(np.float64), inside


def packed(image: Tensor, edited: Array, where: Mask) -> EditResult:
    """Put the edited pixels of `where` into a copy of the image."""
    changed = torch.from_numpy(edited).to(image)
    result = torch.where(torch.from_numpy(where).to(image.device), changed, image)
    return EditResult(result, (result != image).any(0))


@dataclass(frozen=True, kw_only=True, repr=False)
class Edit(Recipe):
    """A change of one property of an object or of its background, as a value: ``brighten(amount=0.1)``.

    Calling it applies the edit, `null` its control: a change of the same size, form and place that leaves the property
    as it was. A model that answers to the edit and not to the null uses the property; one that answers to both dislikes
    any disturbance there.

    To add one, subclass as a frozen keyword-only dataclass, give it `moves`, `controls`, `edited` and `matched`, and
    register it with ``EDITS.register`` or an entry point of the group ``pellucid.edits``.
    """

    moves: ClassVar[tuple[str, ...]]
    """Phenotypes that the edit moves and its null leaves; a trailing ``_`` stands for every channel."""
    controls: ClassVar[str]
    """What the null controls for, as a sentence."""

    @abstractmethod
    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the edited image ``(C, *S)`` and the pixels to take from it."""

    @abstractmethod
    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the null's image and the pixels to take from it; it starts from the same random state."""

    def __call__(self, image: Tensor, mask: Tensor, *, generator: torch.Generator) -> EditResult:
        """Apply the edit.

        Parameters
        ----------
        image
            Float ``(C, *S)``, any number of spatial axes.
        mask
            Integer or boolean ``(*S)``: not 0 on the object (for patch edits: on the patch).
        generator
            Of everything drawn; pass an equally seeded one to `null` for the matching control.

        Raises
        ------
        ShapeError
            When image and mask do not fit, or the mask is empty or full.
        """
        pixels, inside = unpacked(image, mask)
        return packed(image, *self.edited(pixels, inside, _stream(generator)))

    def null(self, image: Tensor, mask: Tensor, *, generator: torch.Generator) -> EditResult:
        """Apply the control of this edit; see `controls` and `__call__`."""
        pixels, inside = unpacked(image, mask)
        return packed(image, *self.matched(pixels, inside, _stream(generator)))


def _stream(generator: torch.Generator) -> np.random.Generator:
    seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))


EDITS: Registry[Edit] = Registry("edit", Edit, "pellucid.edits")  # type: ignore[type-abstract]
"""Every edit by name."""
