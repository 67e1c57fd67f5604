"""Phantoms in a study file: ``[images] phantom = "grains(count=400)"`` needs no folder."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from pellucid.images import ImageSet
from pellucid.images.phantoms import Shortcut, with_experts
from pellucid.images.phantoms import grains as paint_grains
from pellucid.recipes import Recipe, Registry

__all__ = ["PHANTOMS", "PhantomRecipe", "grains"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PhantomRecipe(Recipe):
    """A phantom as a value that a study file can name."""

    def images(self) -> ImageSet:
        """Return its images, with labels, masks, split and group; painted when read."""
        raise NotImplementedError


PHANTOMS: Registry[PhantomRecipe] = Registry("phantom", PhantomRecipe, "pellucid.phantoms")


@PHANTOMS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class grains(PhantomRecipe):
    """Grain kernels, healthy or with a defect whose exact pixels are known; see `pellucid.images.phantoms.grains`.

    Attributes
    ----------
    count, size, seed, defect
        As there.
    experts
        Simulated annotators who redraw the defect; their masks are ``"expert_1"``, ``"expert_2"``, ...
    shortcut
        Whether a tag beside the kernel betrays the first defect.
    """

    count: Annotated[int, Field(ge=1)] = 300
    size: tuple[Annotated[int, Field(ge=24)], Annotated[int, Field(ge=24)]] = (64, 64)
    seed: Annotated[int, Field(ge=0)] = 0
    defect: Literal["fusarium", "skinned", "both"] = "both"
    experts: Annotated[int, Field(ge=0)] = 0
    shortcut: bool = False

    def images(self) -> ImageSet:
        """Paint grains."""
        made = paint_grains(
            self.count, self.size, self.seed, defect=self.defect, shortcut=Shortcut() if self.shortcut else None
        ).images
        made = replace(made, split_column="split", group_column="group")
        return with_experts(made, self.experts, seed=self.seed) if self.experts else made
