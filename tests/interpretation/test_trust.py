"""What score and ranking tables allow one to say of the methods: tables made by hand, in the schema of the evaluation."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pellucid.evaluation import METRICS, Scores, rank
from pellucid.evaluation.ranking import RANKING
from pellucid.evaluation.scores import SCHEMA
from pellucid.interpretation import find_trust

IMAGES = tuple(f"image {row:03d}" for row in range(12))
MINE, OTHER, CONTROL = "saliency", "gradcam", "random_map"


def scores_of(values, *, images=IMAGES):
    """Lay out {(metric, method): one value an image} as a score table; None has a reason."""
    rows = []
    for (metric, method), numbers in values.items():
        profile = METRICS.parse(metric).profile
        for image, value in zip(images, numbers, strict=False):
            rows.append({
                "image": image, "method": method, "metric": metric, "value": value, "chance": None,
                "reason": "" if value is not None else "no score", "family": profile.family,
                "direction": profile.direction, "resolution": profile.resolution, "definition": "0" * 16,
                "target": "Class(0)", "step": "", "control": method == CONTROL, "group": image, "seed": 0,
            })  # fmt: skip
    return Scores(pa.Table.from_pylist(rows, schema=SCHEMA))


def row(method, place, low, high, *, p_best=None, tied=False, control=False, below=False, **more):
    return {
        "family": "faithfulness-side", "metric": "overall", "method": method, "rank": place, "low": low, "high": high,
        "p_best": p_best, "mean": None, "n": 12, "missing": 0, "metrics": 2, "tied_with_best": tied, "control": control,
        "below_control": below,
    } | more  # fmt: skip


def found(lab, *, values=None, rows=(), right=12, methods=(MINE, OTHER, CONTROL), groups=None, **more):
    images = lab.cells(lambda random, label: {}, count=12, groups=groups)
    predictions = pa.table({
        "image": list(images.ids),
        "label": pa.array(images.labels, pa.int64()),
        "predicted": [label if place < right else 1 - label for place, label in enumerate(images.labels)],
    })  # fmt: skip
    given = {
        "predictions": predictions, "methods": methods, "scores": scores_of(values or {}).table,
        "ranking": pa.Table.from_pylist(list(rows), schema=RANKING),
    }  # fmt: skip
    return find_trust(lab.evidence(lab.MODELS["spot"], images, **given | more))


def kinds(findings):
    return [(finding.kind, finding.subject) for finding in findings]


def test_a_model_that_names_the_right_class_is_not_called_at_chance(lab):
    assert found(lab) == []


def test_a_model_no_better_than_the_commonest_class_is_gated(lab):
    (finding,) = found(lab, right=6)
    assert (finding.id, finding.kind, finding.value) == ("model-at-chance", "gate", 0.5)
    assert "may describe noise" in finding.statement
    assert "on 12 images against 0.50 for the commonest class" in finding.evidence
    assert 0 <= finding.low <= finding.high <= 1


def test_a_model_right_on_most_of_a_lopsided_set_is_held_against_its_commonest_class(lab):
    images = lab.cells(lambda random, label: {}, count=12)
    lopsided = replace(images, labels=(0,) * 11 + (1,))
    predictions = pa.table({"image": list(images.ids), "label": list(lopsided.labels), "predicted": [0] * 12})
    (finding,) = find_trust(lab.evidence(lab.MODELS["spot"], lopsided, predictions=predictions))
    assert finding.kind == "gate"


def test_images_without_labels_say_nothing_of_the_model(lab):
    images = lab.cells(lambda random, label: {}, count=12)
    predictions = pa.table({"image": list(images.ids), "label": pa.nulls(12, pa.int64()), "predicted": [0] * 12})
    assert find_trust(lab.evidence(lab.MODELS["spot"], images, predictions=predictions)) == []
    half = pa.table({"image": list(images.ids), "label": [0, 1, 0, 1, 0, 1] + [None] * 6, "predicted": [0, 1] * 6})
    assert find_trust(lab.evidence(lab.MODELS["spot"], images, predictions=half)) == []


def test_one_group_of_images_is_judged_by_its_accuracy_alone(lab):
    groups = ["s"] * 12
    assert found(lab, groups=groups) == []
    (finding,) = found(lab, groups=groups, right=6)
    assert "Accuracy 0.5 [no interval from 1 group]" in finding.evidence


def spread(middle, width=0.05):
    return (middle + width * np.linspace(-1, 1, 12)).tolist()


def test_a_map_that_stays_the_same_without_the_weights_fails(lab):
    values = {("parameter_randomisation", MINE): spread(0.9), ("parameter_randomisation", OTHER): spread(0.1)}
    (finding,) = found(lab, values=values)
    assert (finding.id, finding.kind, finding.subject) == (f"failed_sanity-{MINE}", "failed_sanity", MINE)
    assert finding.value == pytest.approx(0.9)
    assert 0.5 < finding.low < 0.9 < finding.high
    assert OTHER not in finding.statement + finding.evidence
    assert "on 12 images (limit 0.5)" in finding.evidence


def test_a_map_whose_interval_reaches_the_limit_is_not_accused(lab):
    assert found(lab, values={("parameter_randomisation", MINE): spread(0.52, 0.4)}) == []


def test_a_map_that_jumps_under_slight_noise_is_unstable(lab):
    values = {("max_sensitivity", MINE): spread(1.6), ("max_sensitivity(samples=4)", OTHER): spread(0.4)}
    (finding,) = found(lab, values=values)
    assert (finding.kind, finding.subject, finding.value) == ("unstable", MINE, pytest.approx(1.6))


def test_controls_are_not_accused_of_what_they_are(lab):
    assert found(lab, values={("parameter_randomisation", CONTROL): spread(1.0, 0.0)}) == []


def test_a_metric_under_two_settings_counts_every_image_once(lab):
    values = {("max_sensitivity", MINE): spread(1.8), ("max_sensitivity(samples=2)", MINE): spread(1.4)}
    (finding,) = found(lab, values=values)
    assert finding.value == pytest.approx(1.6)
    assert "on 12 images" in finding.evidence


def test_images_without_a_score_are_left_out_and_no_score_is_no_finding(lab):
    values = {("max_sensitivity", MINE): [*spread(1.6)[:8], None, None, None, None]}
    (finding,) = found(lab, values=values)
    assert "on 8 images" in finding.evidence
    assert found(lab, values={("max_sensitivity", MINE): [None] * 12}) == []


def test_images_of_one_patient_are_one_witness(lab):
    values = {("parameter_randomisation", MINE): [0.95] * 9 + [0.3] * 3}
    assert kinds(found(lab, values=values)) == [("failed_sanity", MINE)]
    patients = ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"] * 3
    assert found(lab, values=values, groups=patients) == []


def test_a_map_of_somebody_else_is_judged_too(lab):
    values = {("parameter_randomisation", "mine"): spread(0.9)}
    assert kinds(found(lab, values=values, methods=("mine",))) == [("failed_sanity", "mine")]


def test_a_method_not_shown_to_beat_the_random_map_is_named_with_both_ranks(lab):
    rows = [
        row(MINE, 1.2, 1.0, 1.4, p_best=1.0),
        row(OTHER, 2.4, 2.0, 2.9, below=True),
        row(CONTROL, 2.5, 2.1, 2.9, control=True),
    ]
    (finding,) = found(lab, rows=rows)
    assert (finding.id, finding.kind, finding.subject) == (f"below_control-{OTHER}", "below_control", OTHER)
    assert "rank 2.4 [2.0, 2.9] against 2.5 [2.1, 2.9] of the random map" in finding.evidence
    assert (finding.value, finding.low, finding.high) == (2.4, 2.0, 2.9)


def test_the_best_is_named_with_those_it_cannot_be_told_from(lab):
    rows = [row(OTHER, 1.6, 1.1, 2.0, tied=True), row(MINE, 1.4, 1.0, 1.9, p_best=0.62)]
    (finding,) = found(lab, rows=rows)
    assert (finding.kind, finding.subject, finding.value) == ("inseparable", MINE, 0.62)
    assert f"cannot be told apart from {OTHER}" in finding.statement
    assert finding.evidence.endswith("on 12 images; it comes first in 62 % of resampled image sets.")


def test_a_clear_winner_needs_no_finding(lab):
    assert found(lab, rows=[row(MINE, 1.0, 1.0, 1.0, p_best=1.0), row(OTHER, 2.0, 2.0, 2.0)]) == []


def test_where_one_group_gives_no_resamples_none_are_quoted(lab):
    rows = [row(MINE, 1.4, None, None), row(OTHER, 1.6, None, None, tied=True)]
    (finding,) = found(lab, rows=rows)
    assert finding.evidence == "Its mean rank is 1.4 [?, ?] on 12 images."
    assert finding.value is None


def test_methods_that_are_all_no_better_than_chance_support_no_statement(lab):
    rows = [
        row(MINE, 1.9, 1.5, 2.4, below=True, tied=True),
        row(OTHER, 2.0, 1.6, 2.4, below=True, tied=True),
        row(CONTROL, 2.1, 1.6, 2.5, control=True),
    ]
    findings = found(lab, rows=rows)
    assert kinds(findings) == [("below_control", MINE), ("below_control", OTHER), ("inseparable", "all methods")]
    assert findings[-1].verdict == "undecided"
    assert "No method is separable from a map of random numbers here" in findings[-1].statement


def test_plausibility_and_single_metrics_never_speak_for_faithfulness(lab):
    rows = [
        row(MINE, 1.0, 1.0, 1.2, below=True, family="plausibility"),
        row(OTHER, 2.0, 1.8, 2.0, below=True, metric="insertion", family="faithfulness"),
    ]
    assert found(lab, rows=rows) == []


def test_methods_without_a_rank_are_passed_over(lab):
    assert found(lab, rows=[row(MINE, None, None, None, below=None, tied=None)]) == []


def test_the_evaluations_own_ranking_is_understood(lab):
    random = np.random.default_rng(0)
    values = {
        ("insertion", method): (level + 0.1 * random.standard_normal(12)).tolist()
        for method, level in ((MINE, 2.0), (OTHER, 0.0), (CONTROL, 0.05))
    }
    scores = scores_of(values)
    findings = found(lab, values=values, ranking=rank(scores).table)
    assert kinds(findings) == [("below_control", OTHER)]
    level = {("insertion", method): [1.0] * 12 for method in (MINE, OTHER)}
    (finding,) = found(lab, values=level, ranking=rank(scores_of(level)).table)
    assert finding.kind == "inseparable"
    assert math.isclose(finding.value, 0.5)
