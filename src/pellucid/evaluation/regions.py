"""Regions: patches and superpixels whose positions are hidden together, drawn once an image for all methods."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pellucid.attribution.perturbation.grids import labels_of, regular
from pellucid.attribution.perturbation.segmenters import segment
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.positions import orders

__all__ = ["Regions", "patches", "superpixels"]


@dataclass(frozen=True, eq=False)
class Regions:
    """How the positions of every image fall into regions.

    Attributes
    ----------
    name
        Tells these regions from others of the same bench.
    labels
        ``(N, P)`` the region of each position, numbered from 0 in each row; rows may have different numbers of them.
    """

    name: str
    labels: Tensor

    def __len__(self) -> int:
        """Return the largest number of regions of a row."""
        return int(self.labels.max()) + 1

    def sizes(self) -> Tensor:
        """Return the number of positions ``(N, R)`` of each region, 0 past a row's last."""
        return self._sums(torch.ones_like(self.labels, dtype=torch.float64))

    def _sums(self, values: Tensor) -> Tensor:
        return values.new_zeros(len(values), len(self)).scatter_add_(1, self.labels, values)

    def ranks(self, bench: Bench, index: int) -> Tensor:
        """Return the place ``(N, R)`` of every region in the order of its mean relevance; ties as in `orders`."""
        return bench.once(("region ranks", self.name, index), partial(self._rank, bench, index))

    def _rank(self, bench: Bench, index: int) -> Tensor:
        sizes = self.sizes()
        means = self._sums(bench.maps[index].values.double()) / sizes.clamp_min(1)
        places = torch.arange(len(self), device=means.device).repeat(len(means), 1)
        for row, own in enumerate((sizes > 0).sum(1).tolist()):
            places[row, :own] = orders(means[row : row + 1, :own], bench.seeds[row : row + 1])[0].long()
        return places

    def order(self, bench: Bench, index: int) -> Tensor:
        """Return for every position ``(N, P)`` the place of its region."""
        return self.ranks(bench, index).gather(1, self.labels)

    def shares(self, bench: Bench, index: int) -> Tensor:
        """Return the fraction ``(N, R + 1)`` of positions in the first 0, 1, ... R regions of a map's order."""
        sizes = self.sizes()
        ordered = torch.zeros_like(sizes).scatter(1, self.ranks(bench, index), sizes)
        return torch.nn.functional.pad(ordered.cumsum(1), (1, 0)) / self.labels.shape[1]


def patches(bench: Bench, count: int) -> Regions:
    """Return about `count` regular boxes of near-equal sides, the same for every image; several inputs share them out."""

    def make() -> Regions:
        parts, start = [], 0
        for shape, size in zip(bench.grid.shapes, bench.grid.sizes, strict=True):
            cells = regular(max(1, round(count * size / len(bench.grid))), shape)
            parts.append(start + labels_of(cells, shape).flatten())
            start = int(parts[-1].max()) + 1
        labels = torch.cat(parts).to(bench.inputs[0].device)
        return Regions(f"patches {count}", labels.expand(len(bench), -1))

    return bench.once(("patches", count), make)


def superpixels(bench: Bench, count: int) -> Regions:
    """Return about `count` superpixels of each image.

    Raises
    ------
    ShapeError
        When the inputs have no common spatial axes.
    """

    def make() -> Regions:
        found, _ = segment(count, bench.inputs)
        labels = [torch.cat([part.flatten() for part in own.labels]) for own in found]
        return Regions(f"superpixels {count}", torch.stack(labels).long())

    return bench.once(("superpixels", count), make)
