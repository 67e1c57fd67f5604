"""What a study has found so far, read from its directory when it is asked for."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from pellucid.errors import BadStudy
from pellucid.evaluation import Ranking, Scores, SelfTest
from pellucid.images import ImageSet
from pellucid.models import Model
from pellucid.study.conclude import ranked, read_maps
from pellucid.study.config import StudyConfig
from pellucid.study.failures import FAILURES
from pellucid.study.repeats import read_repeats
from pellucid.study.sample import ranked_images, ranked_scores
from pellucid.study.setup import Setup

__all__ = ["Results"]


class Results:
    """What lies in a study's directory: images, model, predictions, maps, scores, ranking, findings.

    Parameters
    ----------
    setup
        The open study.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup, self._store = setup, setup.store

    @property
    def path(self) -> Path:
        """The directory."""
        return self._store.root

    @property
    def config(self) -> StudyConfig:
        """What was asked, every default spelt out."""
        return self._setup.config

    @property
    def images(self) -> ImageSet:
        """All images of the study, explained or not."""
        return self._setup.images

    @property
    def model(self) -> Model:
        """The explained model."""
        return self._setup.model

    @property
    def truth(self) -> tuple[str, ...]:
        """Names of the masks that say where an expert expects the evidence: one an annotator."""
        return self._setup.truth

    @property
    def chosen(self) -> tuple[str, ...]:
        """Ids of the explained images, in the order of the maps."""
        return self._setup.plan.ids

    @property
    def mapped(self) -> tuple[str, ...]:
        """Ids of the explained images whose maps are kept in full: all, unless ``[store]`` says otherwise."""
        return self._setup.plan.ids[: self._setup.plan.whole]

    @property
    def methods(self) -> tuple[str, ...]:
        """Texts of the methods that the model takes, controls included."""
        return self._setup.plan.methods

    @property
    def metrics(self) -> tuple[str, ...]:
        """Texts of the metrics."""
        return self._setup.plan.metrics

    @cached_property
    def predictions(self) -> pa.Table:
        """One row a held-out image: image, label, predicted, confidence, margin and the logits."""
        return self._store.table("predictions.parquet")

    def called(self, ids: Sequence[str]) -> pa.Table:
        """Return the rows of `predictions` of some images."""
        return self.predictions.filter(pc.is_in(self.predictions["image"], pa.array(ids, pa.string())))

    @cached_property
    def performance(self) -> dict[str, Any]:
        """How good the model is on the held-out images; empty where there are no labels."""
        found: dict[str, Any] = self._store.json("performance.json")
        return found

    @cached_property
    def scores(self) -> Scores:
        """Every score of every finished part; all of them are in memory at once."""
        return Scores.read(self.path / "scores")

    @cached_property
    def ranked_scores(self) -> Scores:
        """The scores that ranking, findings and report rest on: of the first images in the order of a hash, `evaluate.ranked`."""
        return ranked_scores(self._setup)

    @property
    def ranked_images(self) -> tuple[str, ...]:
        """Ids of the images that ranking, findings and report rest on."""
        return self._setup.plan.ids[: ranked_images(self._setup)]

    @property
    def means(self) -> pa.Table | None:
        """Mean score of every metric and method over all explained images; None where the ranking rests on all of them."""
        return self._store.read_table("means.parquet")

    @property
    def self_test(self) -> SelfTest | None:
        """Whether the metrics can be believed on this model; None where they were not tested."""
        found = self._store.read_table("selftest.parquet")
        return None if found is None else SelfTest(found)

    @cached_property
    def ranking(self) -> Ranking:
        """The methods in order."""
        return ranked(self._setup, self.ranked_scores)

    def maps(self, method: str, ids: Sequence[str] | None = None) -> Tensor:
        """Return the raw maps of a method ``(N, C, *S)`` for some explained images, `mapped` when None; NaN where it failed.

        Raises
        ------
        BadStudy
            When the study has no maps of that method, does not explain an image, or keeps no map of it in full.
        """
        wanted = self.mapped if ids is None else tuple(ids)
        self._refuse_unexplained(wanted)
        return read_maps(self._setup, method, wanted)

    def reduced_maps(self, method: str, ids: Sequence[str] | None = None) -> Tensor:
        """Return the small maps of a method ``(N, 1, *S)`` for some explained images, all when None; NaN where it failed.

        Channels are added up and each cell is the mean of what it covers.

        Raises
        ------
        BadStudy
            When the study keeps none, or does not explain an image.
        """
        wanted = self.chosen if ids is None else tuple(ids)
        self._refuse_unexplained(wanted)
        return read_maps(self._setup, method, wanted, reduced=True)

    def _refuse_unexplained(self, ids: Sequence[str]) -> None:
        explained = set(self.chosen)
        for image in ids:
            if image not in explained:
                raise BadStudy(f"{image!r} is not among the {len(explained)} explained images of {self.path}")

    @property
    def failures(self) -> pa.Table:
        """What failed so far: image, method, metric, stage, sentence."""
        found = self._store.read_table("failures.parquet")
        return FAILURES.empty_table() if found is None else found

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """What the study found, in words and fields."""
        found: list[dict[str, Any]] = self._store.json("findings.json")
        return found

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """The tables behind the findings, by name."""
        return self._store.tables("interpretation")

    def tensors(self, name: str) -> dict[str, Tensor] | None:
        """Return what a safetensors file of the study holds, or None where there is none."""
        return self._store.read_tensors(name)

    @cached_property
    def repeats(self) -> pa.Table:
        """How far each map lies from those of each net that learnt the task again; no rows without ``[stability]``."""
        return read_repeats(self._store)

    @property
    def nets(self) -> pa.Table:
        """How accurate each net is that learnt the task again: model, shuffled, accuracy, difference, low, high, equal."""
        found = self._store.read_table("stability/nets.parquet")
        return pa.table({}) if found is None else found

    @property
    def history(self) -> pa.Table | None:
        """One row an epoch where the study trained its model."""
        return self._store.read_table("model/history.parquet")

    @property
    def costs(self) -> pa.Table:
        """What each task took, by stage and method: seconds, rows through the model, memory."""
        return pa.concat_tables(list(self._store.tables("costs").values()))

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved study file, with the runs so far, their seconds together and the highest memory in bytes."""
        runs = self._store.read_json("runs.json") or []
        return self._store.settings() | {
            "runs": runs,
            "seconds": sum(run["seconds"] for run in runs),
            "peak_memory": max((run["peak_memory"] for run in runs), default=0),
        }

    def _forget(self) -> None:
        """Read again what a run has changed."""
        for name, kind in vars(Results).items():
            if isinstance(kind, cached_property):
                self.__dict__.pop(name, None)
