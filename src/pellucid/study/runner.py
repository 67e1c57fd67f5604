"""From a study file to findings, step by step; every step that is on disk is read and not repeated."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch

from pellucid.attribution import METHODS, Explanation
from pellucid.errors import BadStudy
from pellucid.evaluation import CONTROLS
from pellucid.models import Passes, fit, performance, predict, save_model
from pellucid.study.choices import ensure_choices
from pellucid.study.choose import choose_images, held_out, with_mask
from pellucid.study.conclude import ensure_conclusions
from pellucid.study.failures import Rows, failure_row
from pellucid.study.maps import MapStore
from pellucid.study.memory import peak_memory
from pellucid.study.parts import run_parts
from pellucid.study.patterns import ensure_patterns
from pellucid.study.plain import plain_performance
from pellucid.study.plan import Plan, definitions
from pellucid.study.repeats import ensure_nets, ensure_repeats
from pellucid.study.selftest import ensure_self_test
from pellucid.study.setup import Setup, device_of
from pellucid.study.slides import ensure_slides
from pellucid.study.store import FORMAT
from pellucid.study.task import Shard, fixed_arithmetic, run_task
from pellucid.study.writing import writing

__all__ = ["probe", "run_study"]

_PROBES = 3
"""A method that refuses so many images refuses the model, and is left out with one row."""


def run_study(setup: Setup, *, progress: bool = False, workers: int = 1, scheduler: str | None = None) -> pa.Table:
    """Run what is missing of a study and return its failures.

    Parameters
    ----------
    setup
        The study.
    progress
        Whether to show bars.
    workers
        Processes; 1 runs everything here.
    scheduler
        Address of a Dask scheduler, in place of `workers`.

    Raises
    ------
    PellucidError
        When the study cannot begin or go on; what is finished is kept.
    """
    with writing(setup.store.root), setup.store.locked(), _recorded(setup, workers):
        setup.store.sweep()
        with fixed_arithmetic(_threads(setup)):
            ensure_model(setup, progress=progress)
            ensure_nets(setup, progress=progress)
            ensure_predictions(setup, progress=progress)
            ensure_patterns(setup, progress=progress)
        ensure_plan(setup, workers=workers if scheduler is None else 2)
        setup.plan.refuse_other_definitions()
        ensure_self_test(setup)
        where: dict[str, Any] = {"progress": progress, "workers": workers, "scheduler": scheduler}
        run_parts(setup, run_task, folder="scores", told="explaining and testing", **where)
        ensure_choices(setup, **where)
        ensure_repeats(setup, progress=progress)
        ensure_slides(setup, **where)
        ensure_conclusions(setup, progress=progress)
        return setup.store.gather_failures(setup.plan.tasks)


def _threads(setup: Setup) -> int:
    """Return the number of threads that trains and predicts: fixed when the study begins, so that training resumes equal."""
    settings = setup.store.settings()
    if "threads" not in settings["provenance"]:
        settings["provenance"]["threads"] = setup.config.run.threads or torch.get_num_threads()
        setup.store.write_settings(settings)
    threads: int = settings["provenance"]["threads"]
    return threads


@contextmanager
def _recorded(setup: Setup, workers: int) -> Iterator[None]:
    """Add this run to ``runs.json``: its wall time and memory, also when it is interrupted."""
    began, clock = time.time(), time.perf_counter()
    try:
        yield
    finally:
        if setup.planned:
            setup.store.gather_failures(setup.plan.tasks)
        runs = setup.store.read_json("runs.json") or []
        run = {"started": int(began), "seconds": round(time.perf_counter() - clock, 3), "workers": workers,
               "peak_memory": max(peak_memory(), _workers_peak(setup)), "cpus": os.cpu_count()}  # fmt: skip
        setup.store.write_json("runs.json", [*runs, run])


def _workers_peak(setup: Setup) -> int:
    found = setup.store.column("costs", "peak_memory")
    return max(found.to_pylist(), default=0)


def ensure_model(setup: Setup, *, progress: bool = False) -> None:
    """Train the reference network where the study asks for it and it is not there yet; open the model."""
    config, store = setup.config, setup.store
    if config.fit is not None and not store.weights.is_file():
        images = setup.images
        fitted = fit(
            images, seed=config.seed, split=images.split_column, group=images.group_column, progress=progress,
            checkpoint=store.root / "model" / "checkpoint.pt", device=device_of(config), **config.fit.model_dump(),
        )  # fmt: skip
        store.write_table("model/history.parquet", fitted.history)
        store.write_failures("fit", [failure_row("read", one.reason, image=one.image) for one in fitted.failures])
        save_model(fitted.model, store.weights)
    settings = store.settings()
    told, digest = settings["provenance"].get("model"), setup.model.source.sha256 if setup.model.source else None
    if told is not None and told != digest:
        raise BadStudy(f"the model's weights changed since {store.root} began; choose another --out")
    if told is None and digest is not None:
        settings["provenance"]["model"] = digest
        store.write_settings(settings)


def ensure_predictions(setup: Setup, *, progress: bool = False) -> None:
    """Ask the model about every held-out image, and measure how good it is."""
    store, images, config = setup.store, setup.images, setup.config
    if (store.root / "performance.json").is_file():
        return
    ids = held_out(images, trained_here=config.fit is not None, seed=config.seed)
    found = predict(setup.model, images, ids, batch_size=config.run.batch_size, progress=progress)
    store.write_failures("predict", [failure_row("read", one.reason, image=one.image) for one in found.failures])
    store.write_table("predictions.parquet", found.table)
    measured = None
    if images.labels is not None:
        read = found.table["image"].to_pylist()
        column = images.group_column
        measured = performance(
            images.label(read), found.logits, classes=setup.model.classes, temperature=setup.model.temperature,
            groups=images.column(column, read) if column is not None else None, seed=config.seed,
        )  # fmt: skip
    store.write_json("performance.json", plain_performance(measured))


def ensure_plan(setup: Setup, *, workers: int = 1) -> None:
    """Choose images, find out what the model refuses, and fix everything that decides a number."""
    if setup.planned:
        return
    config, store = setup.config, setup.store
    chosen = _chosen(setup)
    size = config.run.batch_size
    with Passes(setup.model, batch_size=size) as passes:
        size = passes.batch_size((torch.empty(1, *setup.images.shape),))
    threads = config.run.threads or (1 if workers > 1 else torch.get_num_threads())
    methods = tuple(dict.fromkeys((*config.explain.methods, *CONTROLS)))
    with fixed_arithmetic(threads):
        found, metrics, failures = probe(
            setup, chosen[:_PROBES], methods, tuple(config.evaluate.metrics), batch_size=size
        )
    store.write_failures("plan", failures)
    if all(name in CONTROLS for name in found):
        raise BadStudy(
            f"no method explains this model; {failures[0]['sentence'] if failures else 'none was asked for'}"
        )
    plan = Plan(
        batch_size=size, threads=threads, device=str(setup.model.device), dtype="float32", shard=config.run.shard,
        methods=tuple(found), metrics=metrics, definitions=definitions(tuple(found), metrics), ids=chosen,
        whole=config.kept.whole(len(chosen), config.run.shard),
    )  # fmt: skip
    maps = MapStore(store.root / "maps.zarr", plan.shard, plan.whole, config.kept.reduced)
    for method, explanation in found.items():
        maps.make(METHODS.parse(method), len(chosen), explanation.tensors[0].shape[1:], setup.images)
    settings = store.settings()
    settings["provenance"]["format"] = FORMAT
    store.write_settings({**settings, "plan": plan.settings(store.write_manifest(chosen))})


def _chosen(setup: Setup) -> tuple[str, ...]:
    config, predictions = setup.config, setup.store.table("predictions.parquet")
    ids = predictions["image"].to_pylist()
    if config.explain.require_mask:
        ids, unread = with_mask(setup.images, setup.truth, ids)
        setup.store.write_failures(
            "choose", [failure_row("read", reason, image=image) for image, reason in unread.items()]
        )
    chosen = choose_images(
        predictions, ids, config.explain.images, selection=config.explain.selection, seed=config.seed
    )
    if not chosen:
        raise BadStudy("there is no image to explain: none of the held-out images has a mask with a marked pixel")
    return chosen


def probe(
    setup: Setup, ids: tuple[str, ...], methods: tuple[str, ...], metrics: tuple[str, ...], *, batch_size: int
) -> tuple[dict[str, Explanation], tuple[str, ...], Rows]:
    """Try every method and metric on one image, on a few more where one refuses.

    Returns
    -------
    explanations
        Of one image by method, for those that work.
    metrics
        Those that work.
    failures
        One row for each method and metric that refuses every image it was tried on.
    """
    found: dict[str, Explanation] = {}
    refused: Rows = []
    for method in methods:
        tries = [Shard.read(setup, [image], batch_size=batch_size) for image in ids]
        worked = next((known for shard in tries if (known := shard.explain(method)) is not None), None)
        said = [row for shard in tries for row in shard.failures if row["stage"] == "explain"]
        if worked is not None:
            found[method] = worked
        elif said:
            refused.append({**said[0], "image": ""})
    able, unable = _probe_metrics(setup, found, metrics, batch_size)
    return found, able, refused + unable


def _probe_metrics(
    setup: Setup, found: dict[str, Explanation], metrics: tuple[str, ...], batch_size: int
) -> tuple[tuple[str, ...], Rows]:
    """Score what was explained of the first image; a metric that gives no score for any method is left out."""
    first = next(iter(found.values()), None)
    if first is None or not metrics:
        return metrics, []
    same = [known for known in found.values() if known.ids == first.ids]
    shard = Shard.read(setup, list(first.ids or ()), batch_size=batch_size)
    scored = set(shard.score(same, metrics)["metric"].to_pylist())
    told = {row["metric"]: row for row in shard.failures if row["stage"] == "evaluate"}
    unable = [
        {**told[metric], "image": "", "method": ""} for metric in metrics if metric not in scored and metric in told
    ]
    return tuple(metric for metric in metrics if metric in scored or metric not in told), unable
