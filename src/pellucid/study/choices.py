"""The pipeline of a study: the stored maps scored under every choice, part by part, without explaining anything anew."""

import time
from typing import Any

from pellucid.evaluation import Pipeline, Rescored, rescore
from pellucid.evaluation.pipeline import CHOICES, FACTORS, Reading
from pellucid.study.conclude import complete, read_maps
from pellucid.study.failures import Rows, failure_row, reason_of
from pellucid.study.memory import peak_memory
from pellucid.study.parts import run_parts
from pellucid.study.sample import ranked_scores
from pellucid.study.setup import Setup
from pellucid.study.task import ALONE, FORESEEN, Job, fixed_arithmetic, groups_of

__all__ = ["ensure_choices", "run_choices"]

_FOLDER = "choices"
_PLAN = f"{_FOLDER}/plan.json"


def ensure_choices(setup: Setup, **where: Any) -> None:
    """Score the maps under the choices of ``[pipeline]`` where there is one; what is on disk is not repeated.

    Images that lack a map of any method are left out, so that every choice is compared on the same images.
    """
    asked = setup.config.pipeline
    if asked is None:
        return
    if setup.store.read_json(_PLAN) is None:
        setup.store.write_json(_PLAN, _plan(setup, asked.choices))
    run_parts(setup, run_choices, folder=_FOLDER, told="scoring under every choice", **where)


def _plan(setup: Setup, pipeline: Pipeline) -> dict[str, Any]:
    """Return methods and images with whole maps, and the scales that need the maps of all images."""
    failures = setup.store.gather_failures(setup.plan.tasks).to_pylist()
    methods, ids = complete(setup, ranked_scores(setup).table, failures)
    shape = tuple(setup.images.shape[1:])
    scales = {
        method: {_key(reading): reading.scale(maps, shape) for reading in pipeline.scaled}
        for method in (methods if pipeline.scaled else ()) if len(maps := read_maps(setup, method, ids))
    }  # fmt: skip
    return {"methods": list(methods), "ids": list(ids), "scales": scales}


def _key(reading: Reading) -> str:
    return " ".join(getattr(reading, name) for name in FACTORS)


def run_choices(job: Job) -> int:
    """Score the maps of one task's images under every choice and write its part; return the task's number."""
    with ALONE:
        setup = job.setup
        with fixed_arithmetic(setup.plan.threads):
            _run(setup, job.task)
        return job.task


def _run(setup: Setup, task: int) -> None:
    asked, told = setup.config.pipeline, setup.store.json(_PLAN)
    whole = set(told["ids"])
    ids = [image for image in setup.plan.images(task) if image in whole]
    table = CHOICES.empty_table()
    costs: Rows = []
    failures: Rows = []
    if asked is not None and ids:
        began = time.perf_counter()
        try:
            found = _rescored(setup, asked.choices, ids, told)
        except FORESEEN as error:
            failures = [failure_row("evaluate", reason_of(error), image=image) for image in ids]
        else:
            table = found.table
            failures = [failure_row("evaluate", sentence, image=", ".join(ids)) for sentence in found.refused]
            costs = [{"stage": "choices", "method": "", "seconds": time.perf_counter() - began,
                      "forwards": found.forwards, "backwards": 0, "peak_memory": peak_memory()}]  # fmt: skip
    setup.store.write_part(task, scores=table, costs=costs, failures=failures, folder=_FOLDER)


def _rescored(setup: Setup, pipeline: Pipeline, ids: list[str], told: dict[str, Any]) -> Rescored:
    scales = {
        (method, reading): told["scales"][method][_key(reading)]
        for method in told["methods"]
        for reading in pipeline.scaled
    }
    return rescore(
        setup.model, setup.images.tensor(ids), {method: read_maps(setup, method, ids) for method in told["methods"]},
        pipeline, setup.plan.metrics, setup.masks(ids), target=setup.target(ids), scales=scales, ids=ids,
        groups=groups_of(setup, ids), seed=setup.config.seed, batch_size=setup.plan.batch_size,
    )  # fmt: skip
