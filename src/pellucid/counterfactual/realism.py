"""A second eye that never saw the model: fixed random convolutions, and what they say of images and of changes."""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.counterfactual.parts import in_parts

__all__ = ["RandomFilters", "grain", "novelty"]

_CONVOLUTIONS: Mapping[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_SEED = 20_170_706
_WIDTH = 24
_STAGES = 3


class RandomFilters:
    """Three stages of random 3×3 filters, rectified and pooled, over pixels in their range: features ``(N, F)``.

    The mean and the spread of every filter over the image are its features. The filters depend on the shape of the images
    alone, so that neither the model nor the generator can have been made to please them (Saxe et al. 2011, ICML).
    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self.low, self.high = low, torch.maximum(high, low + 1e-12)
        dims, random = low.ndim - 2, torch.Generator().manual_seed(_SEED)
        widths = [low.shape[1], *[_WIDTH] * _STAGES]
        self._filters = []
        for before, after in itertools.pairwise(widths):
            drawn = torch.randn(after, before, *[3] * dims, generator=random)
            self._filters.append(drawn / (before * 3**dims) ** 0.5)
        self._convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[dims]
        self._pool = _POOLS[dims]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return features ``(N, F)``, float64."""
        return torch.cat([self._features(part) for part in in_parts(images)])

    def _features(self, images: Tensor) -> Tensor:
        x = (2 * (images.cpu() - self.low.cpu()) / (self.high - self.low).cpu() - 1).float()
        found = []
        for filters in self._filters:
            x = 2**0.5 * self._convolve(x, filters, padding=1).relu()
            flat = x.flatten(2)
            found += [flat.mean(2), flat.std(2, correction=0)]
            if min(x.shape[2:]) >= 4:
                x = self._pool(x, 2)
        return torch.cat(found, 1).double()


@torch.no_grad()
def novelty(features: Tensor, known: Tensor) -> Tensor:
    """Return how far features lie from the nearest known ones, in the known ones' spreads ``(N,)``; a twin is no neighbour."""
    centre, spread = known.mean(0), known.std(0, correction=0).clamp(min=1e-9)
    there, here = (features - centre) / spread, (known - centre) / spread
    distances = torch.cdist(there, here)
    distances[distances < 1e-6] = torch.inf
    return distances.topk(min(5, len(known) - 1), largest=False).values.mean(1)


@torch.no_grad()
def grain(changes: Tensor) -> Tensor:
    """Return the share ``(N,)`` of a change's energy between neighbouring pixels: near 1 is noise, near 0 a smooth shape.

    The sum of squared steps between neighbours, over twice the sum of squares, averaged over the axes: 1 for white noise.
    """
    flat = changes.double()
    energy = flat.square().flatten(1).sum(1).clamp(min=1e-30)
    steps = [flat.diff(dim=axis).square().flatten(1).sum(1) for axis in range(2, changes.ndim)]
    whole = [size / max(size - 1, 1) for size in changes.shape[2:]]
    return torch.stack([step * up / (2 * energy) for step, up in zip(steps, whole, strict=True)]).mean(0)
