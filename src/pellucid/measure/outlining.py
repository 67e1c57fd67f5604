"""How objects are told from background, as a value: done anew on every image, real or generated."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from pellucid.measure.segmentation import segment
from pellucid.recipes import Recipe, Registry

__all__ = ["SEGMENTATIONS", "Segmentation", "central", "otsu"]


@dataclass(frozen=True, repr=False)
class Segmentation(Recipe):
    """A way to outline objects; a value that prints and parses like a method."""

    @abstractmethod
    def __call__(self, image: Tensor) -> Tensor:
        """Return integer labels ``(*S)`` of an image ``(C, *S)``: 0 is background.

        Raises
        ------
        BadImage
            When nothing can be told apart.
        """


SEGMENTATIONS: Registry[Segmentation] = Registry("segmentation", Segmentation, "pellucid.segmentations")  # type: ignore[type-abstract]
"""Segmentations by name; other packages add theirs by the entry point group ``pellucid.segmentations``."""


@SEGMENTATIONS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class otsu(Segmentation):
    """Objects by Otsu's threshold, see `segment`.

    Attributes
    ----------
    smallest
        Fewest pixels of an object.
    split_distance
        Least distance in pixels between the centres of touching objects; None leaves them joined.
    dark_objects
        Whether objects are darker than the background; None: they are where most of the image's rim is bright.
    """

    smallest: Annotated[int, Field(ge=1)] = 30
    split_distance: Annotated[int, Field(ge=1)] | None = None
    dark_objects: bool | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """Return the labels of the objects."""
        settings = {"smallest": self.smallest, "split_distance": self.split_distance}
        if self.dark_objects is not None:
            return segment(image, dark_objects=self.dark_objects, **settings)  # type: ignore[arg-type]
        bright = segment(image, **settings)  # type: ignore[arg-type]
        rim = torch.ones_like(bright, dtype=torch.bool)
        rim[tuple(slice(1, -1) for _ in bright.shape)] = False
        outside = (bright[rim] > 0).float().mean() > 0.5
        return segment(image, dark_objects=True, **settings) if outside else bright  # type: ignore[arg-type]


@SEGMENTATIONS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class central(Segmentation):
    """The one object nearest the middle of the image: the cell that a crop was made for, and none of its neighbours.

    Attributes
    ----------
    among
        The segmentation that outlines all objects, such as ``"otsu(split_distance=8)"``.
    """

    among: Annotated[str, AfterValidator(lambda text: str(SEGMENTATIONS.parse(text)))] = "otsu"

    def __call__(self, image: Tensor) -> Tensor:
        """Return labels: 1 is the object, 0 all else."""
        labels = SEGMENTATIONS.parse(self.among)(image)
        places = (labels > 0).nonzero()
        if not len(places):
            return labels
        middle = (torch.tensor(labels.shape) - 1) / 2
        nearest = places[(places - middle).square().sum(1).argmin()]
        return (labels == labels[tuple(nearest)]).long()
