"""Which part of the image a token is: the grid of patches, and the extra tokens beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.errors import CannotExplain

__all__ = ["PatchGrid", "Query", "Sightings", "Tokens", "found_tokens"]

PatchGrid = tuple[Annotated[int, Field(ge=1)], ...] | None
"""Patches along each axis of the image, where the network does not show them itself."""

Query = Literal["class", "mean"]
"""Which tokens stand for the output: the class token, or all patches alike."""


@dataclass
class Sightings:
    """What one forward showed of the way from pixels to tokens, in order.

    Attributes
    ----------
    grids
        Spatial shapes of the feature maps that convolutions, poolings and unfoldings made before the first attention.
    joins
        Lengths of the pieces of each concatenation, along its axis.
    """

    grids: list[tuple[int, ...]] = field(default_factory=list)
    joins: list[tuple[int, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Tokens:
    """The layout of a sequence of tokens.

    Attributes
    ----------
    count
        Tokens in all, T.
    grid
        Spatial shape of the patches, row-major.
    first
        Place of the first patch; tokens before and behind the patches are class tokens or registers.
    assumed
        What the layout supposes beyond what was seen, as a sentence, or "".
    """

    count: int
    grid: tuple[int, ...]
    first: int = 0
    assumed: str = ""

    @property
    def patches(self) -> slice:
        """Places of the patches."""
        return slice(self.first, self.first + math.prod(self.grid))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader of a map must know of the layout."""
        return (self.assumed,) if self.assumed else ()

    @property
    def extra(self) -> tuple[int, ...]:
        """Places of the tokens that are no patches."""
        inside = range(self.patches.start, self.patches.stop)
        return tuple(place for place in range(self.count) if place not in inside)

    def image(self, values: Tensor) -> Tensor:
        """Lay one number a token ``(N, C, T)`` out as a map ``(N, C, *grid)``; extra tokens are dropped."""
        return values[..., self.patches].reshape(*values.shape[:-1], *self.grid)

    def readers(self, query: Query | None) -> tuple[Tensor, tuple[str, ...]]:
        """Return how much each token ``(T,)`` counts as the output's, adding up to 1, and what was chosen unasked.

        Raises
        ------
        CannotExplain
            When the class token is asked for and there is none.
        """
        weights = torch.zeros(self.count)
        if query == "class" and not self.extra:
            raise CannotExplain(
                f"query='class' asks for a class token, and all {self.count} tokens are patches; say query='mean'"
            )
        chosen = query or ("class" if self.extra else "mean")
        if chosen == "class":
            weights[self.extra[0]] = 1
        else:
            weights[self.patches] = 1 / math.prod(self.grid)
        said = (f"token {self.extra[0]} was taken for the class token" if chosen == "class"
                else "there is no class token, and the patches' own rows are averaged")  # fmt: skip
        return weights, (*self.remarks, *(() if query else (said,)))


def found_tokens(count: int, seen: Sightings, images: Sequence[tuple[int, ...]], told: PatchGrid = None) -> Tokens:
    """Find the layout of `count` tokens.

    The patches are the longest piece of the last concatenation to `count` tokens, and have the last seen grid of that
    size; without a concatenation every token is a patch. Where no grid was seen at all, as when patches are cut by
    reshaping, they are supposed to be cubes that divide the image.

    Parameters
    ----------
    count
        Length of the sequence.
    seen
        What the forward showed.
    images
        Spatial shapes of the inputs.
    told
        The grid as the user gives it; tokens beyond its patches that no concatenation shows are supposed to come first.

    Raises
    ------
    CannotExplain
        When no grid fits; the sentence says what was seen.
    """
    joined = next((pieces for pieces in reversed(seen.joins) if sum(pieces) == count), (count,))
    if told is not None:
        return _told(count, joined, told)
    patches = max(joined)
    before = sum(joined[: joined.index(patches)])
    if joined.count(patches) == 1:
        for grid in reversed(seen.grids):
            if math.prod(grid) == patches:
                return Tokens(count, grid, before)
        for shape in () if seen.grids else images:
            supposed = _cut(shape, patches)
            if supposed is not None:
                assumed = f"no patch embedding was seen: the {patches} patches were taken for a grid of {supposed}"
                return Tokens(count, supposed, before, assumed)
    raise CannotExplain(
        f"the attention is over {count} tokens, joined from {' + '.join(map(str, joined))}, and no grid of patches is so many: "
        f"feature maps of {sorted(set(seen.grids)) or 'no size'} were seen before it, for images of "
        f"{' and '.join(map(str, images))}; say the patches along each axis with grid=, or, where tokens are windowed or pooled "
        "from layer to layer, use integrated_gradients, occlusion or kernel_shap"
    )


def _told(count: int, joined: tuple[int, ...], grid: tuple[int, ...]) -> Tokens:
    patches = math.prod(grid)
    if patches > count:
        raise CannotExplain(f"grid={grid} has {patches} patches, and the attention is over {count} tokens")
    if joined.count(patches) == 1:
        return Tokens(count, grid, sum(joined[: joined.index(patches)]))
    extra = count - patches
    assumed = f"the {extra} tokens beside the grid={grid} were taken to come before it" if extra else ""
    return Tokens(count, grid, extra, assumed)


def _cut(shape: tuple[int, ...], patches: int) -> tuple[int, ...] | None:
    """Return the grid of equal cubes that cut an image into so many patches, or None."""
    side = round((math.prod(shape) / patches) ** (1 / len(shape)))
    if side < 1 or any(length % side for length in shape):
        return None
    grid = tuple(length // side for length in shape)
    return grid if math.prod(grid) == patches else None
