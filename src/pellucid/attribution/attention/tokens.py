"""The layout of the tokens that are attended to, from what one forward showed of the way to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pellucid.attribution.tokens import PatchGrid, Tokens, last_grid
from pellucid.errors import CannotExplain

__all__ = ["Sightings", "found_tokens"]


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
        grid = last_grid(seen.grids, range(patches, patches + 1))
        if grid is not None:
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
    return Tokens.behind(count, grid, assumed)


def _cut(shape: tuple[int, ...], patches: int) -> tuple[int, ...] | None:
    """Return the grid of equal cubes that cut an image into so many patches, or None."""
    side = round((math.prod(shape) / patches) ** (1 / len(shape)))
    if side < 1 or any(length % side for length in shape):
        return None
    grid = tuple(length // side for length in shape)
    return grid if math.prod(grid) == patches else None
