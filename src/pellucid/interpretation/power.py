"""How many images, from how many patients or plates, the next experiment needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import nct, t

from pellucid.errors import CannotExplain
from pellucid.interpretation.sign_flips import units_of

__all__ = ["SampleSize", "likeness_within_groups", "sample_size"]

_MOST = 10**6


@dataclass(frozen=True)
class SampleSize:
    """What a comparison of two conditions needs.

    Attributes
    ----------
    images
        In each condition, were every image independent.
    groups
        In each condition (patients, plates), of `per_group` images.
    per_group
        Images taken of each group.
    effect
        Difference of the means in standard deviations, that is to be found.
    likeness
        Intraclass correlation: how much alike images of one group are, 0 to 1.
    power, level
        Chance to find it, and to find it where it is not.
    """

    images: int
    groups: int
    per_group: int
    effect: float
    likeness: float
    power: float
    level: float

    def __str__(self) -> str:
        return (
            f"{self.groups} groups of {self.per_group} images in each condition ({self.images} images were they independent) "
            f"find a difference of {self.effect:.2g} standard deviations with {100 * self.power:.0f} % power at the "
            f"{100 * self.level:.0f} % level (likeness within groups {self.likeness:.2f})"
        )


def sample_size(
    effect: float, *, per_group: int = 1, likeness: float = 0.0, power: float = 0.8, level: float = 0.05
) -> SampleSize:
    """Return how many images and groups find an effect in a comparison of two conditions (two-sided t-test).

    Images of one group count for less, by 1 + (images a group − 1) × likeness (Donner, Birkett & Buck 1981).

    Raises
    ------
    CannotExplain
        When the effect is so small that a million images would not do, or numbers are out of range.
    """
    if not (0 <= likeness <= 1 and 0 < level < power < 1 and per_group >= 1 and np.isfinite(effect)):
        raise CannotExplain(
            f"sample_size(effect={effect:g}, likeness={likeness:g}, power={power:g}, level={level:g}) is out of range"
        )
    if effect == 0 or _power(abs(effect), _MOST, level) < power:
        raise CannotExplain(f"an effect of {effect:.2g} standard deviations is too small to be found by an experiment")
    few, many = 2, _MOST
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if _power(abs(effect), middle, level) >= power else (middle + 1, many)
    inflated = few * (1 + (per_group - 1) * likeness)
    return SampleSize(few, max(2, int(np.ceil(inflated / per_group))), per_group, abs(effect), likeness, power, level)


def _power(effect: float, each: int, level: float) -> float:
    """Return the chance that a two-sided t-test of `each` against `each` finds the effect."""
    freedom, shift = 2 * each - 2, effect * np.sqrt(each / 2)
    bound = t.ppf(1 - level / 2, freedom)
    chance = nct.sf(bound, freedom, shift)
    return 1.0 if np.isnan(chance) and shift > bound else float(chance)


def likeness_within_groups(values: ArrayLike, groups: list[str]) -> float:
    """Return the intraclass correlation of a measure by the one-way analysis of variance, 0 at least.

    Donner 1986, International Statistical Review 54, 67-82. 0 where no group has two images or there is one group.
    """
    numbers = np.asarray(values, dtype=float)
    known = np.isfinite(numbers)
    units = np.unique(units_of(groups, len(numbers))[known], return_inverse=True)[1]
    numbers = numbers[known]
    sizes = np.bincount(units)
    count, total = len(sizes), len(numbers)
    if count < 2 or total == count:
        return 0.0
    means = np.bincount(units, weights=numbers) / sizes
    between = float((sizes * (means - numbers.mean()) ** 2).sum()) / (count - 1)
    within = float(((numbers - means[units]) ** 2).sum()) / (total - count)
    typical = (total - float((sizes**2).sum()) / total) / (count - 1)
    whole = between + (typical - 1) * within
    return float(np.clip((between - within) / whole, 0.0, 1.0)) if whole > 0 else 0.0
