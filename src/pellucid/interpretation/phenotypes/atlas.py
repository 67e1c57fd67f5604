"""Where the phenotypes lie in the latents of a generator: learnt from real images, each measured."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.counterfactual import FittedGenerator
from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.phenotypes.directions import Directions, Others
from pellucid.interpretation.phenotypes.heads import Heads
from pellucid.interpretation.phenotypes.separable import Cluster, clusters
from pellucid.interpretation.phenotypes.space import Space
from pellucid.measure import Profiler

__all__ = ["HELD", "Atlas"]

Array = NDArray[np.float64]

HELD = 0.4
"""R² on groups left out from which the latents hold a phenotype: with less, most of what its way moves is something else."""

_MISSING = 0.1
"""Share of images without a number from which a phenotype is left out."""

_FAR_OUT = 3.0
_RARE = 0.05
"""Share of images far out from which that is how the phenotype is spread, not how outlines fail."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Phenotypes as numbers of images and as ways in the latents.

    Attributes
    ----------
    space
        The latents on one scale.
    profiler
        Measures images.
    clusters
        The phenotypes, those that these images cannot tell apart under one name.
    left_out
        Phenotypes that are not used, and why.
    mean, sd
        ``(P,)`` over the images, in the phenotypes' own units.
    low, high
        ``(P,)`` what is measured outside is a failed outline, and no number: Tukey's outer fences, three interquartile ranges
        beyond the quartiles; infinite where more than 5 % of the images lie outside.
    directions
        The way of each phenotype; ``directions.heads.r2`` says how well the latents hold it.
    images, values, groups
        What the ways were learnt from: images, their phenotypes ``(n, P)`` in standard deviations, their independent units.
    whole
        ``(N,)`` which of the given images these are: those with a number for every phenotype.
    """

    space: Space
    profiler: Profiler
    clusters: tuple[Cluster, ...]
    left_out: Mapping[str, str]
    mean: Array
    sd: Array
    low: Array
    high: Array
    directions: Directions
    images: Tensor
    values: Array
    groups: tuple[Hashable, ...]
    whole: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        generator: FittedGenerator,
        images: Tensor,
        profiler: Profiler,
        *,
        groups: Sequence[Hashable] | None = None,
        others: Others = "fixed",
        seed: int = 0,
        progress: bool = False,
    ) -> "Atlas":
        """Measure images ``(N, C, *S)`` and learn where their phenotypes lie.

        Parameters
        ----------
        generator
            The fitted generator.
        images
            Best those that the generator was fitted on.
        profiler
            What is measured, and how objects are outlined.
        groups
            The independent unit of each image; default: every image is one.
        others
            Whether a phenotype is moved with the others held fixed or left free.
        seed, progress
            As everywhere.

        Raises
        ------
        CannotExplain
            When no phenotype varies over the images.
        """
        units = list(range(len(images))) if groups is None else list(groups)
        if len(units) != len(images):
            raise ShapeError(f"{len(units)} groups were given for {len(images)} images")
        space, values = Space.of(generator, images), profiler(images, progress=progress)
        left_out = _left_out(profiler.names, values)
        kept = [place for place, name in enumerate(profiler.names) if name not in left_out]
        if not kept:
            raise CannotExplain(f"no phenotype varies over the {len(images)} images: {_told(left_out)}")
        found = clusters([profiler.names[place] for place in kept], values[:, kept])
        chosen = values[:, [profiler.names.index(one.name) for one in found]]
        low, high = _fences(chosen)
        chosen = _fenced(chosen, low, high)
        whole = np.asarray(np.isfinite(chosen).all(1))
        mean, sd = chosen[whole].mean(0), chosen[whole].std(0)
        own = [unit for unit, known in zip(units, whole, strict=True) if known]
        learnt, numbers = images[torch.from_numpy(whole)].cpu(), (chosen[whole] - mean) / sd
        heads = Heads.fit(space.encode(learnt), numbers, own, marks=space.marks, seed=seed)
        return cls(
            space,
            profiler,
            found,
            left_out,
            mean,
            sd,
            low,
            high,
            Directions(heads, others),
            learnt,
            numbers,
            tuple(own),
            whole,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The phenotypes that stand for their clusters, by column."""
        return tuple(one.name for one in self.clusters)

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each."""
        return tuple(self.profiler.units[name] for name in self.names)

    def measured(self, images: Tensor, *, progress: bool = False) -> Array:
        """Return the phenotypes ``(N, P)`` of images in standard deviations of the real ones, objects outlined anew."""
        places = [self.profiler.names.index(name) for name in self.names]
        values = _fenced(self.profiler(images, progress=progress)[:, places], self.low, self.high)
        return np.asarray((values - self.mean) / self.sd)


def _fences(values: Array) -> tuple[Array, Array]:
    """Return below and above which each column's values are too far out to be believed."""
    first, third = np.nanquantile(values, [0.25, 0.75], axis=0)
    reach = _FAR_OUT * (third - first)
    low, high = first - reach, third + reach
    spread = (reach == 0) | (((values < low) | (values > high)).mean(0) > _RARE)
    return np.where(spread, -np.inf, low), np.where(spread, np.inf, high)


def _fenced(values: Array, low: Array, high: Array) -> Array:
    return np.where((values < low) | (values > high), np.nan, values)


def _left_out(names: Sequence[str], values: Array) -> dict[str, str]:
    reasons = {}
    for name, column in zip(names, values.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known) < (1 - _MISSING) * len(column):
            reasons[name] = f"has no number in {len(column) - len(known)} of {len(column)} images"
        elif np.ptp(known) <= 1e-9 * max(1.0, float(np.abs(known).max())):
            reasons[name] = "is the same in all images"
    return reasons


def _told(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {why}" for name, why in list(left_out.items())[:3])
