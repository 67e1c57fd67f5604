"""The verb: test explanations with metrics, paired on the same images and the same draws."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.progress import Progress
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.errors import ShapeError
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.masks import Masks, Regions, read_masks, read_regions
from pellucid.evaluation.metric import METRICS, Metric, Outcome
from pellucid.evaluation.positions import Grid
from pellucid.evaluation.scores import SCHEMA, Scores
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from pellucid.evaluation.selftest import SelfTest

__all__ = ["PANEL", "evaluate"]

PANEL = (
    "faithfulness_correlation", "sensitivity_n", "pixel_flipping", "insertion", "deletion", "max_sensitivity",
    "local_lipschitz", "parameter_randomisation", "completeness_gap", "sparseness", "complexity", "rank_agreement",
)  # fmt: skip
"""Metrics that need nothing but a model and maps; `evaluate` adds `PLAUSIBILITY` where there are masks."""

PLAUSIBILITY = ("relevance_mass", "relevance_rank", "pointing_game", "localisation_auc")


def evaluate(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    explanations: Explanation | Sequence[Explanation],
    metrics: Sequence[str | Metric] | str | Metric | None = None,
    masks: Masks = None,
    *,
    regions: Regions = None,
    models: Sequence[Model | Callable[..., Any]] = (),
    tested: "SelfTest | None" = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Scores:
    """Say how far each explanation of the same images can be trusted.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module`` or callable.
    x
        The explained images ``(N, C, *S)``; a tuple for nets of several inputs.
    explanations
        Explanations of these images, one a method.
    metrics
        Metrics' texts or values; default: a panel of every family, with localisation where there are masks.
    masks
        Where an expert expects the evidence: ``(N, *S)``, or a sequence with None for an image that has no mask; or
        annotator to such masks: the score is then the mean over the annotators who marked something.
    regions
        Labels ``(*S)`` of an atlas, or ``(N, *S)``; 0 is background: for metrics of regions.
    models
        The same task learnt again (other seeds, folds or data), for metrics of repeated training; they take what
        `model` takes after its preprocessing.
    tested
        What `self_test` said of the metrics: it is written beside each score, so that a ranking leaves out, visibly,
        what failed.
    ids
        One text an image; default: those of the explanations, else the row numbers.
    groups
        One text an image, such as its patient: `rank` resamples whole groups.
    seed
        Of everything random; row i's draws are hash(seed, id).
    batch_size
        Rows a pass; default automatic.
    progress
        Whether to show a bar.

    Returns
    -------
    Scores
        One row an image, method and metric; no number comes without a value or the reason why there is none.

    Raises
    ------
    BadRecipe, ShapeError, BadTarget
        When a metric, a shape or an explanation does not fit; one sentence that says what would.
    """
    model = Model.of(model)
    given = (explanations,) if isinstance(explanations, Explanation) else tuple(explanations)
    chosen = _metrics(metrics, masks)
    inputs = model.prepare(x)
    rows = len(inputs[0])
    names = _ids(given, ids, rows)
    _fitting(given, groups, rows)
    annotated, labelled = read_masks(masks, Grid.of(inputs), rows), read_regions(regions, Grid.of(inputs), rows)
    repeats = tuple(Model.of(other) for other in models)
    with Passes(model, batch_size=batch_size) as passes, Progress(transient=True, disable=not progress) as bar:
        bench = Bench(
            passes, inputs, given, masks=annotated, ids=names, seed=seed, regions=labelled, models=repeats
        )  # fmt: skip
        tables = [
            _table(bench, metric, metric.score(bench), groups, tested)
            for metric in bar.track(chosen, description="evaluating")
        ]
        return Scores(pa.concat_tables(tables), passes.forwards, passes.backwards)


def _metrics(metrics: Sequence[str | Metric] | str | Metric | None, masks: Masks) -> list[Metric]:
    if metrics is None:
        metrics = PANEL if masks is None else PANEL + PLAUSIBILITY
    if isinstance(metrics, str | Metric):
        metrics = (metrics,)
    chosen = [METRICS.parse(metric) for metric in metrics]
    return list({str(metric): metric for metric in chosen}.values())


def _ids(explanations: Sequence[Explanation], ids: Sequence[str] | None, rows: int) -> tuple[str, ...] | None:
    told = {explanation.ids for explanation in explanations if explanation.ids is not None}
    told |= {tuple(ids)} if ids is not None else set()
    if len(told) > 1:
        raise ShapeError(
            "the explanations are of images with other ids than those given: all need the same images, in order"
        )
    names = told.pop() if told else None
    if names is not None and len(names) != rows:
        raise ShapeError(f"{len(names)} ids were given for {rows} images")
    if names is not None and len(set(names)) != rows:
        raise ShapeError("image ids must be unique: some id occurs twice")
    return names


def _fitting(explanations: Sequence[Explanation], groups: Sequence[str] | None, rows: int) -> None:
    if not explanations:
        raise ShapeError("there is nothing to evaluate: give at least one explanation")
    for explanation in explanations:
        if len(explanation) != rows:
            raise ShapeError(f"{explanation.name} explains {len(explanation)} images; {rows} were given")
    names = [explanation.name for explanation in explanations]
    for name in names:
        if names.count(name) > 1:
            raise ShapeError(f"{name} occurs twice: give one explanation a method, and evaluate other targets apart")
    if groups is not None and len(groups) != rows:
        raise ShapeError(f"{len(groups)} groups were given for {rows} images")


def _table(
    bench: Bench,
    metric: Metric,
    outcomes: Sequence[Outcome],
    groups: Sequence[str] | None,
    tested: "SelfTest | None",
) -> pa.Table:
    if len(outcomes) != len(bench.explanations):
        raise ShapeError(f"{metric} returned {len(outcomes)} outcomes for {len(bench.explanations)} explanations")
    images = list(bench.ids) if bench.ids is not None else [str(row) for row in range(len(bench))]
    which = {
        "metric": str(metric),
        "family": metric.profile.family,
        "direction": metric.profile.direction,
        "resolution": metric.profile.resolution,
        "definition": metric.definition,
        "seed": bench.seed,
        "tested": None if tested is None else tested.says(metric),
    }
    parts = []
    for index, outcome in enumerate(outcomes):
        if len(outcome.values) != len(bench):
            raise ShapeError(f"{metric} returned {len(outcome.values)} scores for {len(bench)} images")
        whose = {
            "method": bench.explanations[index].name,
            "step": bench.maps[index].step,
            "control": bench.control(index),
        }
        columns = {name: [value] * len(bench) for name, value in (which | whose).items()} | _numbers(outcome)
        columns |= {"image": images, "group": list(groups or images), "target": _targets(bench, index)}
        parts.append(pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA))
    return pa.concat_tables(parts)


def _numbers(outcome: Outcome) -> dict[str, list[Any]]:
    chance = outcome.values.new_full(outcome.values.shape, math.nan) if outcome.chance is None else outcome.chance
    triples = list(zip(outcome.values.tolist(), chance.tolist(), outcome.reasons, strict=True))
    return {
        "value": [None if reason else value for value, _, reason in triples],
        "chance": [None if reason or math.isnan(level) else level for _, level, reason in triples],
        "reason": list(outcome.reasons),
    }


def _targets(bench: Bench, index: int) -> list[str]:
    explanation = bench.explanations[index]
    return bench.once(("targets", index), lambda: [str(explanation[[row]].target) for row in range(len(explanation))])
