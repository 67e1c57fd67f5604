"""What a metric is: a value with a profile that turns a bench of explanations into one number an image and method."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.recipes import Recipe, Registry

if TYPE_CHECKING:
    from pellucid.evaluation.bench import Bench

__all__ = ["FAMILIES", "METRICS", "Family", "Metric", "Outcome", "Profile", "metrics"]

Family = Literal["faithfulness", "robustness", "randomisation", "axiom", "localisation", "complexity", "agreement"]

FAMILIES: dict[str, str] = {
    "faithfulness": "faithfulness-side",
    "robustness": "faithfulness-side",
    "randomisation": "faithfulness-side",
    "localisation": "plausibility",
    "axiom": "",
    "complexity": "",
    "agreement": "",
}
"""Which overall ranking a family counts in, "" for none.

Complexity and agreement say nothing of being right. An axiom is tested on methods that promise it only: counting it
would punish the promise.
"""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a reader must know of a metric before quoting its number.

    Attributes
    ----------
    family
        What kind of quality it measures.
    direction
        Whether ``"higher"`` or ``"lower"`` is better.
    range
        Lowest and highest possible value.
    measures
        What a good score means, in a biologist's words.
    chance
        What an uninformed map scores, in words, or "" where it has no such level; the number stands beside each score.
    cost
        Passes an image, as a formula in the settings.
    failure
        When the number misleads.
    reference
        The source, as it is to be cited.
    needs
        What it needs besides maps: ``"masks"``, ``"regions"``, ``"models"`` (the same task learnt again), ``"method"``
        (cannot score a given map), ``"weights"``.
    resolution
        Differences below this are numerical noise and rank as ties.
    """

    family: Family
    direction: Literal["higher", "lower"]
    range: tuple[float, float]
    measures: str
    chance: str = ""
    cost: str = "0"
    failure: str
    reference: str
    needs: tuple[str, ...] = ()
    resolution: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The scores of one explanation: a number an image, or no number and the reason.

    Attributes
    ----------
    values
        ``(N,)`` float64; NaN exactly where there is a reason.
    reasons
        One text an image, "" where there is a score.
    chance
        ``(N,)`` what an uninformed map would score on this image, or None.
    """

    values: Tensor
    reasons: tuple[str, ...]
    chance: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.reasons):
            raise PellucidError(f"an outcome has {len(self.values)} values and {len(self.reasons)} reasons")
        for row, (value, reason) in enumerate(zip(self.values.tolist(), self.reasons, strict=True)):
            if math.isnan(value) != bool(reason):
                raise PellucidError(
                    f"the score of row {row} is {value} with the reason {reason!r}: NaN and a reason go together"
                )

    @classmethod
    def of(cls, values: Tensor, undefined: str, chance: Tensor | None = None) -> "Outcome":
        """Return an outcome whose NaN values all have the reason `undefined`."""
        values = values.detach().cpu().double()
        reasons = tuple(undefined if missing else "" for missing in values.isnan().tolist())
        return cls(values, reasons, None if chance is None else chance.detach().cpu().double())

    @classmethod
    def missing(cls, rows: int, reason: str) -> "Outcome":
        """Return an outcome without any score."""
        return cls.of(torch.full((rows,), torch.nan), reason)


@dataclass(frozen=True, kw_only=True, repr=False)
class Metric(Recipe):
    """A test of explanations with its settings, as a value: ``sensitivity_n(samples=64)``.

    To add one, subclass as a frozen keyword-only dataclass, give it a `profile` and `score`, and register it with
    ``METRICS.register`` or an entry point of the group ``pellucid.metrics``.
    """

    profile: ClassVar[Profile]

    @abstractmethod
    def score(self, bench: "Bench") -> Sequence[Outcome]:
        """Score every explanation of the bench, in order; an image's score must not depend on other images."""


METRICS: Registry[Metric] = Registry("metric", Metric, "pellucid.metrics")  # type: ignore[type-abstract]


def metrics() -> dict[str, Profile]:
    """Return what each known metric measures, by name."""
    return {name: recipe.profile for name, recipe in METRICS.items()}
