"""From raw maps to pooled, scaled and merged ones, with every step on record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.explanation import Explanation
from pellucid.attribution.steps import STEPS, Scene, Step
from pellucid.errors import BadRecipe, ShapeError

__all__ = ["Combined", "aggregate", "combine"]


@dataclass(frozen=True, eq=False)
class Combined:
    """A map after named steps.

    Attributes
    ----------
    values
        ``(N, C, *S)`` after the steps.
    steps
        Every step that was applied, in order, as text that parses back.
    sources
        Names of the methods that went in.
    disagreement
        ``(N, C, *S)`` how far the methods lie apart at each pixel (right after `aggregate`), else None.
    agreement
        ``(N, C, *S)`` share of methods whose sign is the consensus's (right after `aggregate`), else None.
    """

    values: Tensor
    steps: tuple[str, ...]
    sources: tuple[str, ...] = ()
    disagreement: Tensor | None = None
    agreement: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)


Maps = Explanation | Combined | Tensor


@STEPS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class aggregate(Step):
    """What several methods say together, and where they disagree; the last step of a list of maps.

    The consensus is in the unit that the maps have by then: `normalise` or `align` them first, or the method with the
    largest values decides alone. The disagreement is the standard deviation over the methods for ``"mean"`` and the
    median absolute deviation for ``"median"``.

    Attributes
    ----------
    how
        ``"mean"`` or ``"median"`` (of an even number of methods, the mean of the two in the middle).
    weights
        For the mean, one non-negative number a method, such as its score on a metric; None weighs all alike.
    """

    how: Literal["mean", "median"] = "mean"
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    def apply(self, values: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Refuse: one map has nothing to be aggregated with."""
        raise BadRecipe(f"{self} takes several methods' maps: combine([a, b, c], steps=[...])")

    def merge(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return consensus, disagreement and share of agreeing signs."""
        stack = torch.stack(list(maps)).double()
        if self.how == "median":
            consensus = _median(stack)
            apart = _median((stack - consensus).abs())
        else:
            share = self._shares(stack)
            consensus = (share * stack).sum(0)
            apart = (share * (stack - consensus).square()).sum(0).sqrt()
        agreeing = (stack.sign() == consensus.sign()).double().mean(0).masked_fill(consensus.isnan(), torch.nan)
        kind = maps[0].dtype
        return consensus.to(kind), apart.to(kind), agreeing.to(kind)

    def _shares(self, stack: Tensor) -> Tensor:
        weights = self.weights or (1.0,) * len(stack)
        if len(weights) != len(stack):
            raise BadRecipe(f"{self} has {len(weights)} weights for {len(stack)} methods")
        if sum(weights) == 0:
            raise BadRecipe(f"{self}: at least one weight must be above 0")
        return (stack.new_tensor(weights) / sum(weights)).view(-1, *[1] * (stack.ndim - 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.how == "median" and self.weights is not None:
            raise BadRecipe(f"{self}: weights go with how='mean'")


def combine(
    maps: Maps | Sequence[Maps],
    steps: Sequence[str | Step],
    *,
    x: Tensor | None = None,
    labels: Tensor | None = None,
) -> Combined:
    """Apply named steps to a map, in order; nothing is applied that is not named.

    Parameters
    ----------
    maps
        An explanation, an earlier result, or values ``(N, C, *S)``; a list of them, one a method, for `aggregate`.
    steps
        Texts such as ``"pool_channels(how='max')"`` or values; a list of maps ends with `aggregate`.
    x
        The images ``(N, C, *S)``, for `upsample`.
    labels
        Whole numbers ``(*S)`` or ``(N, *S)``, 0 for background, for `pool_objects`.

    Returns
    -------
    Combined
        The values, and the steps on record.

    Raises
    ------
    BadRecipe
        When a step is unknown, lacks what it needs, or stands where it cannot.
    ShapeError
        When maps do not fit each other, the images or the labels.
    """
    single = isinstance(maps, Explanation | Combined | Tensor)
    given = [_opened(one) for one in _listed(maps)]
    scene = Scene(tuple(x.shape[2:]) if x is not None else None, labels)
    parsed = [STEPS.parse(step).settle(scene) for step in steps]
    _ordered(parsed, single=single)
    done = given[0].steps
    if any(one.steps != done for one in given):
        raise BadRecipe(f"the maps have been through different steps: {sorted({one.steps for one in given})}")
    values = [one.values for one in given]
    for step in parsed:
        if not isinstance(step, aggregate):
            values = [step.apply(one, scene) for one in values]
    record = (*done, *map(str, parsed))
    sources = tuple(source for one in given for source in one.sources)
    if single:
        return Combined(values[0], record, sources) if steps else given[0]
    return _merged(parsed[-1], values, record, sources)


def _listed(maps: Maps | Sequence[Maps]) -> list[Maps]:
    if isinstance(maps, Explanation | Combined | Tensor):
        return [maps]
    if not maps:
        raise BadRecipe("combine() was given no map")
    return list(maps)


def _opened(one: Maps) -> Combined:
    if isinstance(one, Combined):
        return one
    if isinstance(one, Explanation):
        if not isinstance(one.values, Tensor):
            raise ShapeError(f"{one!r} has one map an input; combine them one by one: e.tensors[0], e.tensors[1]")
        return Combined(one.values, (), (one.name,))
    if not isinstance(one, Tensor) or one.ndim < 2:
        raise ShapeError(f"combine() takes explanations or tensors (N, C, *S), not {type(one).__name__}")
    return Combined(one, (), ("values",))


def _ordered(steps: Sequence[Step], *, single: bool) -> None:
    merging = [isinstance(step, aggregate) for step in steps]
    if single and any(merging):
        raise BadRecipe("aggregate takes several methods' maps: combine([a, b, c], steps=[...])")
    if not single and (sum(merging) != 1 or not merging[-1]):
        raise BadRecipe("a list of maps needs aggregate as its last step, and only there")


def _merged(step: Step, values: Sequence[Tensor], record: tuple[str, ...], sources: tuple[str, ...]) -> Combined:
    if not isinstance(step, aggregate) or len(values) < 2:
        raise BadRecipe(f"{step} takes at least two methods' maps; {len(values)} were given")
    shapes = [tuple(one.shape) for one in values]
    if len(set(shapes)) > 1:
        raise ShapeError(f"the maps have shapes {shapes} by then: pool_channels and upsample them to one")
    consensus, disagreement, agreement = step.merge(values)
    return Combined(consensus, record, sources, disagreement, agreement)


def _median(stack: Tensor) -> Tensor:
    """Return the median over the first axis; of an even number the mean of the two in the middle."""
    ordered, half = stack.sort(0).values, len(stack) // 2
    return ordered[half] if len(stack) % 2 else (ordered[half - 1] + ordered[half]) / 2
