"""One task: a shard of images explained by every method, scored by every metric, written whole.

What fails for one image is a row of the failures and costs nothing else: a batch that is refused is tried again row
by row, and the rows that pass are then explained together.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import METHODS, Explanation, explain
from pellucid.errors import BadImage, PellucidError
from pellucid.evaluation import evaluate
from pellucid.evaluation.scores import SCHEMA
from pellucid.models import Model
from pellucid.study.failures import Rows, failure_row, reason_of
from pellucid.study.memory import peak_memory
from pellucid.study.setup import Setup

__all__ = ["ALONE", "FORESEEN", "Job", "Shard", "fixed_arithmetic", "groups_of", "opened", "run_task"]

FORESEEN = (PellucidError, RuntimeError)
"""What a row may fail with: torch tells what a network cannot do, and a lack of memory, by RuntimeError."""


ALONE = threading.Lock()
"""One task at a time in a process: its tasks share one model, which is frozen while it explains, and torch's threads."""


@dataclass(frozen=True)
class Job:
    """A task by its number; what it needs is read where it runs, so nothing heavy travels.

    In the leader's own process the study is open already, and `here` is that.
    """

    root: Path
    task: int
    stamp: str
    trust: bool = False
    here: Setup | None = None

    @property
    def setup(self) -> Setup:
        """The study, opened once a process."""
        return self.here or opened(self.root, self.stamp, self.trust)


@lru_cache(maxsize=1)
def opened(root: Path, _stamp: str, trust: bool) -> Setup:  # noqa: FBT001  # a cache key
    """Open a study once a process; the stamp is the hash of its file, so that another study is opened anew."""
    return Setup.open(root, trust=trust)


@contextmanager
def fixed_arithmetic(threads: int) -> Iterator[None]:
    """Hold what decides the last bits: the number of threads, and repeatable kernels on a GPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


def run_task(job: Job) -> int:
    """Explain and score the images of one task and write its part; return the task's number."""
    with ALONE:
        return _run(job.setup, job)


def _run(setup: Setup, job: Job) -> int:
    plan = setup.plan
    with fixed_arithmetic(plan.threads):
        images = plan.images(job.task)
        shard = Shard.read(setup, images)
        explanations = [found for method in plan.methods if (found := shard.explain(method)) is not None]
        for explanation in explanations:
            rows = [images.index(image) for image in explanation.ids or ()]
            setup.maps.write(METHODS.parse(explanation.method), job.task, rows, explanation.tensors[0])
        scores = shard.score(explanations, plan.metrics)
    setup.store.write_part(job.task, scores=scores, costs=shard.costs, failures=shard.failures)
    return job.task


@dataclass
class Shard:
    """The readable images of one task, what went wrong and what it cost on the way; other models to score them beside."""

    setup: Setup
    ids: list[str]
    x: Tensor
    batch_size: int
    models: tuple[Model, ...] = ()
    regions: Tensor | None = None
    failures: Rows = field(default_factory=list)
    costs: Rows = field(default_factory=list)

    @classmethod
    def read(cls, setup: Setup, ids: Sequence[str], *, batch_size: int | None = None) -> "Shard":
        """Read images and check their masks; those that cannot be read become failures."""
        known, tensors, failures = [], [], []
        for image in ids:
            try:
                setup.masks([image])
                tensors.append(setup.images.load(image))
            except BadImage as error:
                failures.append(failure_row("read", reason_of(error), image=image))
            else:
                known.append(image)
        x = torch.stack(tensors) if tensors else torch.empty(0, *setup.images.shape)
        return cls(setup, known, x, batch_size or setup.plan.batch_size, failures=failures)

    def _rows(self, ids: Sequence[str]) -> Tensor:
        return self.x[[self.ids.index(image) for image in ids]]

    def _spent(self, stage: str, method: str, began: float, forwards: int, backwards: int) -> None:
        self.costs.append({"stage": stage, "method": method, "seconds": time.perf_counter() - began,
                           "forwards": forwards, "backwards": backwards, "peak_memory": peak_memory()})  # fmt: skip

    def explain(self, method: str) -> Explanation | None:
        """Return the maps of all images that the method takes, or None where it takes none."""
        if not self.ids:
            return None
        began = time.perf_counter()
        found = self._explained(method, self.ids)
        if found is not None:
            self._spent("explain", method, began, found.forwards, found.backwards)
        return found

    def _explained(self, method: str, ids: list[str]) -> Explanation | None:
        try:
            return self._call(method, ids)
        except FORESEEN as error:
            if len(ids) == 1:
                self.failures.append(failure_row("explain", reason_of(error), image=ids[0], method=method))
                return None
        able = [image for image in ids if self._explained(method, [image]) is not None]
        return self._together(method, able) if able else None

    def _together(self, method: str, ids: list[str]) -> Explanation | None:
        """Explain the rows that each pass alone; should they not pass together, all of them fail, with the reason."""
        try:
            return self._call(method, ids)
        except FORESEEN as error:
            self.failures += [failure_row("explain", reason_of(error), image=image, method=method) for image in ids]
            return None

    def _call(self, method: str, ids: list[str]) -> Explanation:
        setup = self.setup
        return explain(
            setup.model, self._rows(ids), method, setup.target(ids), ids=ids, seed=setup.config.seed,
            batch_size=self.batch_size,
        )  # fmt: skip

    def score(self, explanations: Sequence[Explanation], metrics: Sequence[str]) -> pa.Table:
        """Return the scores of all explanations; those of the same images are scored together and share forwards."""
        by_images: dict[tuple[str, ...], list[Explanation]] = {}
        for explanation in explanations:
            by_images.setdefault(explanation.ids or (), []).append(explanation)
        tables = [table for given in by_images.values() for table in self._scored(given, tuple(metrics))]
        return pa.concat_tables([SCHEMA.empty_table(), *(table.cast(SCHEMA) for table in tables)])

    def _scored(self, given: list[Explanation], metrics: tuple[str, ...]) -> list[pa.Table]:
        began, ids = time.perf_counter(), list(given[0].ids or ())
        if not metrics:
            return []
        try:
            scores = evaluate(
                self.setup.model, self._rows(ids), given, metrics, self.setup.masks(ids), ids=ids,
                groups=groups_of(self.setup, ids), seed=self.setup.config.seed, batch_size=self.batch_size,
                models=self.models, regions=self.regions,
            )  # fmt: skip
        except FORESEEN as error:
            return self._isolated(given, metrics, ids, error)
        self._spent("evaluate", "", began, scores.forwards, scores.backwards)
        return [scores.table]

    def _isolated(
        self, given: list[Explanation], metrics: tuple[str, ...], ids: list[str], error: Exception
    ) -> list[pa.Table]:
        """Find what fails: try the metrics one by one, then the methods, then the images."""
        tries: list[Callable[[], list[pa.Table]]]
        if len(metrics) > 1:
            tries = [lambda one=metric: self._scored(given, (one,)) for metric in metrics]  # type: ignore[misc]
        elif len(given) > 1:
            tries = [lambda one=known: self._scored([one], metrics) for known in given]  # type: ignore[misc]
        elif len(ids) > 1:
            tries = [lambda row=row: self._scored([given[0][[row]]], metrics) for row in range(len(ids))]  # type: ignore[misc]
        else:
            row = failure_row("evaluate", reason_of(error), image=ids[0], method=given[0].name, metric=metrics[0])
            self.failures.append(row)
            return []
        return [table for attempt in tries for table in attempt()]


def groups_of(setup: Setup, ids: list[str]) -> list[str] | None:
    """Return the unit of each image, or None where the study names none."""
    column = setup.images.group_column
    return None if column is None else [str(value) for value in setup.images.column(column, ids)]
