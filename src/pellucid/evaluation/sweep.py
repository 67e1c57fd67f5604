"""Settings and baselines: how far the map of one method depends on choices that nobody would defend to the last digit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import track
from torch import Tensor

from pellucid.attribution import METHODS, Explanation, Method, explain
from pellucid.errors import BadRecipe
from pellucid.evaluation.disagreement import Agreement, agree
from pellucid.models import Model

__all__ = ["Sweep", "several_settings", "sweep"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Maps of the same images by one or more methods, each under several settings.

    Attributes
    ----------
    explanations
        One a method and setting, in the order given.
    agreements
        Method's name to `Agreement` of its settings: pairs, groups that say the same, and where they differ.
    """

    explanations: tuple[Explanation, ...]
    agreements: Mapping[str, Agreement]

    @property
    def table(self) -> pa.Table:
        """One row an image and pair of settings: name, first, second, ``correlation`` (of ranks) and ``overlap`` of the top part."""
        parts = []
        for name, found in self.agreements.items():
            correlation = found.table.filter(pc.equal(found.table["measure"], "correlation"))
            overlap = found.table.filter(pc.equal(found.table["measure"], "feature"))
            parts.append(pa.table({
                "name": [name] * correlation.num_rows,
                "image": correlation["image"], "first": correlation["first"], "second": correlation["second"],
                "correlation": correlation["value"], "overlap": overlap["value"], "chance": overlap["chance"],
            }))  # fmt: skip
        return pa.concat_tables(parts)

    def spread(self, name: str) -> Tensor:
        """Return where a method's settings disagree ``(N, *S)``: the standard deviation of each position's rank, 0 to 0.5."""
        if name not in self.agreements:
            raise BadRecipe(f"{name!r} was not swept; {', '.join(self.agreements)} were")
        return self.agreements[name].disagreement


def several_settings(methods: Sequence[str | Method]) -> dict[str, tuple[Method, ...]]:
    """Return the methods by name that occur with two settings or more."""
    by_name: dict[str, dict[str, Method]] = {}
    for recipe in map(METHODS.parse, methods):
        by_name.setdefault(recipe.name, {})[str(recipe)] = recipe
    return {name: tuple(found.values()) for name, found in by_name.items() if len(found) > 1}


def sweep(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    methods: Sequence[str | Method],
    target: Any = None,
    *,
    share: float = 0.1,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Sweep:
    """Explain the same images under several settings of each method and say how far the maps depend on them.

    Parameters
    ----------
    model, x, target, ids, seed, batch_size, progress
        As for `explain`.
    methods
        Texts or values; those of one name are compared with each other: ``["occlusion(window=4)",
        "occlusion(window=8)"]``, ``["integrated_gradients", 'integrated_gradients(baseline="blur")']``.
    share
        Size of the most relevant part whose overlap is told, as a fraction of the positions.

    Returns
    -------
    Sweep
        The maps, the pairwise agreement of each method's settings, and the spread at each position.

    Raises
    ------
    BadRecipe
        When no method occurs with two settings.
    """
    groups = several_settings(methods)
    if not groups:
        raise BadRecipe("sweep() compares settings of one method: give at least two of the same name")
    model, wanted = Model.of(model), [recipe for group in groups.values() for recipe in group]
    found = [
        explain(model, x, recipe, target, ids=ids, seed=seed, batch_size=batch_size)
        for recipe in track(wanted, "explaining under every setting", transient=True, disable=not progress)
    ]
    made = {explanation.name: explanation for explanation in found}
    return Sweep(
        tuple(found),
        {name: agree([made[str(recipe)] for recipe in group], x, share=share) for name, group in groups.items()},
    )
