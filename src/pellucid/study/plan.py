"""The plan: everything that decides the last bit of a number, fixed before the first task and kept on resume.

The images of a task are a range of the manifest, so that a plan for a million images is as short as one for ten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.evaluation import METRICS

__all__ = ["Plan", "definitions"]


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
    ids
        The chosen images; task t has those from ``t * shard`` on.
    whole
        How many images, from the first, keep their maps in full: whole shards, or all.
    """

    batch_size: int
    threads: int
    device: str
    dtype: str
    shard: int
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    definitions: Mapping[str, str]
    ids: tuple[str, ...]
    whole: int

    @classmethod
    def from_settings(cls, values: Mapping[str, Any], ids: Sequence[str]) -> "Plan":
        """Read a plan as `settings` spells it; `ids` are those of the manifest."""
        known = {name: values[name] for name in ("batch_size", "threads", "device", "dtype", "shard", "definitions")}
        return cls(
            **known, methods=tuple(values["methods"]), metrics=tuple(values["metrics"]), ids=tuple(ids),
            whole=values.get("whole", len(ids)),
        )  # fmt: skip

    def settings(self, manifest: str) -> dict[str, Any]:
        """Return plain values for the study file; `manifest` is the hash of the file that holds the images."""
        return {
            "batch_size": self.batch_size, "threads": self.threads, "device": self.device, "dtype": self.dtype, "shard": self.shard,
            "methods": list(self.methods), "metrics": list(self.metrics), "images": len(self.ids), "whole": self.whole,
            "manifest": manifest, "definitions": dict(self.definitions),
        }  # fmt: skip

    @property
    def tasks(self) -> int:
        """The number of tasks."""
        return ceil(len(self.ids) / self.shard)

    def images(self, task: int) -> tuple[str, ...]:
        """Return the images of a task: a shard of the maps of its own."""
        return self.ids[task * self.shard : (task + 1) * self.shard]

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
