"""Where a slide holds tissue, by a stated recipe, so that empty glass is not cut into tiles."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from pellucid.images.axes import Array
from pellucid.recipes import Recipe, Registry

__all__ = ["TISSUE", "Tissue", "saturation"]

FAINTEST = 0.03
"""A colour range below this, of one, is the glass's own."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Tissue(Recipe):
    """How tissue is told from glass on a coarse picture of the slide.

    Attributes
    ----------
    um_per_px
        Pixel size of that picture, in micrometres.
    share
        A tile is kept where at least this share of it is tissue.
    """

    um_per_px: Annotated[float, Field(gt=0)] = 8.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.5

    @abstractmethod
    def mask(self, colours: Array) -> NDArray[np.bool_]:
        """Return where tissue is on a picture (Y, X, 3) of `um_per_px`, values in [0, 1]."""


TISSUE: Registry[Tissue] = Registry("tissue recipe", Tissue, "pellucid.tissue")


@TISSUE.register
@dataclass(frozen=True, kw_only=True, repr=False)
class saturation(Tissue):
    """Stained tissue is coloured and glass is grey: Otsu's threshold on the range of red, green and blue.

    The range is smoothed over `smooth` micrometres; patches and holes below `smallest` square micrometres are dropped.

    References
    ----------
    Otsu, N. A threshold selection method from gray-level histograms. IEEE Trans. SMC 9 (1979).
    """

    smooth: Annotated[float, Field(ge=0)] = 16.0
    smallest: Annotated[float, Field(ge=0)] = 20000.0

    def mask(self, colours: Array) -> NDArray[np.bool_]:
        """Return where tissue is."""
        spread = gaussian(colours.max(-1) - colours.min(-1), self.smooth / self.um_per_px)  # type: ignore[no-untyped-call]
        if np.ptp(spread) == 0:
            return np.full(spread.shape, bool(spread.flat[0] > FAINTEST))
        found = spread > max(FAINTEST, float(threshold_otsu(spread)))  # type: ignore[no-untyped-call]
        area = max(1, round(self.smallest / self.um_per_px**2))
        kept: NDArray[np.bool_] = remove_small_holes(remove_small_objects(found, max_size=area), max_size=area)  # type: ignore[no-untyped-call]
        return kept
