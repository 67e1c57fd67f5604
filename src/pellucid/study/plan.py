"""The plan: everything that decides the last bit of a number, fixed before the first task and kept on resume."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.evaluation import METRICS

__all__ = ["Plan", "definitions", "shards_of"]


def shards_of(ids: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Cut the chosen images into tasks of `size`; each is a shard of the maps of its own."""
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def definitions(methods: Sequence[str], metrics: Sequence[str]) -> dict[str, str]:
    """Return the hash of each recipe's definition: another means other numbers."""
    recipes = [*map(METHODS.parse, methods), *map(METRICS.parse, metrics)]
    return {str(recipe): recipe.definition for recipe in recipes}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The tasks of a study.

    Attributes
    ----------
    batch_size
        Rows a pass through the model.
    threads
        Threads of torch in each process.
    device, dtype
        Where and in which type the model runs.
    shard
        Images a task.
    methods, metrics
        What is computed: controls are added, what the model refuses altogether is left out.
    definitions
        Hash of every method's and metric's definition.
    shards
        The images of each task.
    """

    batch_size: int
    threads: int
    device: str
    dtype: str
    shard: int
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    definitions: Mapping[str, str]
    shards: tuple[tuple[str, ...], ...]

    @classmethod
    def from_settings(cls, values: Mapping[str, Any]) -> "Plan":
        """Read a plan as `settings` spells it."""
        lists = {name: tuple(values[name]) for name in ("methods", "metrics")}
        return cls(**{**values, **lists, "shards": tuple(map(tuple, values["shards"]))})

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values for the study file."""
        return asdict(self)

    @property
    def ids(self) -> tuple[str, ...]:
        """The chosen images, task by task."""
        return tuple(image for shard in self.shards for image in shard)

    def refuse_other_definitions(self) -> None:
        """Check that the installed methods and metrics are those the study began with.

        Raises
        ------
        BadStudy
            When one changed: the rest of the study would not be comparable with what is done.
        """
        now = definitions(self.methods, self.metrics)
        for name, definition in self.definitions.items():
            if now[name] != definition:
                raise BadStudy(
                    f"{name} is defined differently now than when this study began; finish it with the version it "
                    "names, or begin anew with another --out"
                )
