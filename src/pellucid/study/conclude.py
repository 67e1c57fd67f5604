"""What follows from all scores: the ranking of the methods and the interpretation of the maps."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from pellucid.attribution import METHODS, explain
from pellucid.errors import BadImage, PellucidError
from pellucid.evaluation import METRICS, Ranking, Scores, augmentation_curves, choice_effects, rank
from pellucid.evaluation.augmentation import augmentation_robustness
from pellucid.images import ImageSet
from pellucid.interpretation import (
    Evidence,
    Finding,
    Interpretations,
    find_annotators,
    find_choices,
    find_leak,
    interpret,
)
from pellucid.study.failures import Rows, failure_row
from pellucid.study.inquiries import answered
from pellucid.study.repeats import read_repeats
from pellucid.study.sample import ranked_images, ranked_predictions, ranked_scores, score_means
from pellucid.study.selftest import without_say
from pellucid.study.setup import Setup
from pellucid.study.task import fixed_arithmetic

__all__ = ["complete", "ensure_conclusions", "ranked", "read_maps"]

_DRAWN = 8
"""Images behind the curves of natural changes: they explain anew at every strength."""

_FEW = 0.1
"""A method that failed on a larger part of the images is left out of what needs maps of every image."""


def ensure_conclusions(setup: Setup, *, progress: bool = False) -> None:
    """Rank the methods and interpret the maps; a step whose result is there is not repeated."""
    store = setup.store
    scores = ranked_scores(setup)
    ranking = store.read_table("ranking.parquet")
    if ranking is None:
        if ranked_images(setup) < len(setup.plan.ids):
            store.write_table("means.parquet", score_means(setup))
        ranking = ranked(setup, scores).table
        store.write_table("ranking.parquet", ranking)
    if (store.root / "findings.json").is_file():
        return
    store.sweep()  # what a worker was writing when it died and another did its task
    failed: Rows = []
    with fixed_arithmetic(setup.plan.threads):
        evidence = _evidence(setup, scores, ranking, failed, progress=progress)
        further = answered(setup, evidence, failed)
        recommended = next((Finding(**one) for one in further if one["kind"] == "recommended"), None)
        verdicts = [_concluded(step, failed) for step in (
            lambda: interpret(evidence, recommended), lambda: _by_experts(setup, evidence), lambda: _by_choice(setup, scores),
            lambda: _by_holes(setup, evidence), lambda: _by_change(setup, evidence),
        )]  # fmt: skip
    store.write_failures("interpret", failed)
    for name, table in (item for verdict in verdicts for item in verdict.tables.items()):
        store.write_table(f"interpretation/{name}.parquet", table)
    store.write_json(
        "findings.json", [*(finding.to_dict() for verdict in verdicts for finding in verdict.findings), *further]
    )


def _concluded(step: Callable[[], Interpretations], failed: Rows) -> Interpretations:
    try:
        return step()
    except PellucidError as error:  # scores and maps are worth a report without it
        failed.append(failure_row("interpret", str(error)))
        return Interpretations(())


def _by_experts(setup: Setup, evidence: Evidence) -> Interpretations:
    """Say how far the experts agree, where there are several."""
    agreed, tables = find_annotators(evidence, setup.truth, setup.plan.metrics)
    return Interpretations(tuple(agreed), tables)


def _by_holes(setup: Setup, evidence: Evidence) -> Interpretations:
    """Say what the outlines of an expert give away when they are cut out."""
    if not setup.truth:
        return Interpretations(())
    leaks, holes = find_leak(evidence, setup.truth[0])
    return Interpretations(tuple(leaks), {"leak": holes})


def _by_choice(setup: Setup, scores: Scores) -> Interpretations:
    """Say what each choice changed: of the pipeline where the study has one, and of settings and metrics in any case."""
    asked = setup.config.pipeline
    parts = list(setup.store.tables("choices").values())
    effects = choice_effects(
        scores,
        pa.concat_tables(parts) if parts else None,
        None if asked is None else asked.choices,
        seed=setup.config.seed,
    )
    several = asked is not None or any(factor.startswith("setting") for factor in effects["factor"].to_pylist())
    return Interpretations(tuple(find_choices(effects)) if several else (), {"choice_effects": effects})


def _by_change(setup: Setup, evidence: Evidence) -> Interpretations:
    """Draw the curves behind the robustness to natural changes, on a few images, where the study has that metric."""
    asked = [
        metric for text in setup.plan.metrics if isinstance(metric := METRICS.parse(text), augmentation_robustness)
    ]
    ids = list(evidence.ids[:_DRAWN])
    if not asked or not ids:
        return Interpretations(())
    x, target = setup.images.tensor(ids), setup.target(ids)
    size, seed = setup.plan.batch_size, setup.config.seed
    maps = [explain(setup.model, x, method, target, ids=ids, seed=seed, batch_size=size) for method in evidence.judged]
    curves = augmentation_curves(setup.model, x, maps, asked[0], ids=ids, seed=seed, batch_size=size)
    return Interpretations((), {"augmentation": curves})


def ranked(setup: Setup, scores: Scores) -> Ranking:
    """Rank the methods; a metric that failed its self-test has no say in the overall rankings."""
    return rank(scores, seed=setup.config.seed, excluded=without_say(setup.store, scores))


def _evidence(setup: Setup, scores: Scores, ranking: pa.Table, unread: Rows, *, progress: bool) -> Evidence:
    failures = setup.store.gather_failures(setup.plan.tasks).to_pylist()
    methods, ids = complete(setup, scores.table, failures)
    unreadable = [row["image"] for row in failures if row["stage"] == "read"]
    predictions = ranked_predictions(setup)
    predictions = predictions.filter(pc.invert(pc.is_in(predictions["image"], pa.array(unreadable, pa.string()))))
    return Evidence(
        model=setup.model, images=_forgiving(setup.images, unread), ids=ids, predictions=predictions, methods=methods,
        maps=partial(read_maps, setup), scores=scores.table, ranking=ranking, object_mask=setup.config.images.object,
        group=setup.images.group_column, batch=setup.config.images.batch,
        repeats=read_repeats(setup.store), nets=setup.store.read_table("stability/nets.parquet") or pa.table({}),
        left_out=without_say(setup.store, scores), seed=setup.config.seed, batch_size=setup.plan.batch_size, progress=progress,
    )  # fmt: skip


def complete(setup: Setup, scores: pa.Table, failures: Rows) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return methods and images of which every pair has a map in full."""
    plan = setup.plan
    failed = {(row["method"], row["image"]) for row in failures if row["stage"] == "explain" and row["image"]}
    often = Counter(method for method, _ in failed)
    methods = tuple(method for method in plan.methods if often[method] <= _FEW * len(plan.ids))
    bad = {image for method, image in failed if method in methods}
    scored = set(scores["image"].to_pylist())
    return methods, tuple(image for image in plan.ids[: plan.whole] if image in scored and image not in bad)


def _forgiving(images: ImageSet, unread: Rows) -> ImageSet:
    """Return the images with masks that are absent where they cannot be read, each noted once."""
    noted: set[tuple[str, str]] = set()

    def reader(name: str, read: Callable[[str], Tensor | None]) -> Callable[[str], Tensor | None]:
        def forgiving(image: str) -> Tensor | None:
            try:
                return read(image)
            except BadImage as error:
                if (name, image) not in noted:
                    noted.add((name, image))
                    unread.append(failure_row("read", str(error), image=image))
                return None

        return forgiving

    return replace(images, masks={name: reader(name, read) for name, read in images.masks.items()})


def read_maps(setup: Setup, method: str, ids: Sequence[str], *, reduced: bool = False) -> Tensor:
    """Return the raw maps of explained images ``(N, C, *S)``, or the small ones; NaN where the method failed."""
    wanted = set(ids)
    place = {image: row for row, image in enumerate(setup.plan.ids) if image in wanted}
    read = setup.maps.read_reduced if reduced else setup.maps.read
    return read(METHODS.parse(method), [place[image] for image in ids])
