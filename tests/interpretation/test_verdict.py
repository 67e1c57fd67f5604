"""The verdict of a study and of an image follows from tables made by hand, and claims no more than they hold."""

import pyarrow as pa
import pytest
import torch

from pellucid.evaluation import METRICS, Scores
from pellucid.evaluation.ranking import RANKING
from pellucid.evaluation.scores import SCHEMA
from pellucid.interpretation import Finding, check_methods, find_trust, interpret, judge, judge_cases

IMAGES = tuple(f"image {row:03d}" for row in range(12))
ONE, TWO, RANDOM, EDGES = "saliency", "gradcam", "random_map", "edge_map"
METHODS = (ONE, TWO, RANDOM, EDGES)


def scores_of(levels):
    """Return the same score for every image by (metric, method)."""
    rows = []
    for (metric, method), level in levels.items():
        profile = METRICS.parse(metric).profile
        rows += [{
            "image": image, "method": method, "metric": metric, "value": level + 0.001 * place, "chance": None,
            "reason": "", "family": profile.family, "direction": profile.direction, "resolution": 0.0,
            "definition": "0" * 16, "target": "", "step": "", "control": method in {RANDOM, EDGES}, "group": image,
            "seed": 0,
        } for place, image in enumerate(IMAGES)]  # fmt: skip
    return Scores(pa.Table.from_pylist(rows, schema=SCHEMA)).table


def standing(method, place, unbeaten=(), family="faithfulness-side"):
    return {
        "family": family, "metric": "overall", "method": method, "rank": place, "low": place, "high": place,
        "p_best": None, "mean": None, "n": 12, "missing": 0, "metrics": 2, "tied_with_best": False,
        "control": method in {RANDOM, EDGES}, "below_control": RANDOM in unbeaten, "unbeaten": list(unbeaten),
    }  # fmt: skip


def evidence(lab, levels, rows, **more):
    images = lab.cells(lambda random, label: {}, count=12)
    given = {
        "methods": METHODS, "scores": scores_of(levels), "ranking": pa.Table.from_pylist(rows, schema=RANKING),
        "predictions": pa.table({
            "image": list(images.ids), "label": pa.array(images.labels, pa.int64()),
            "predicted": [1 - images.labels[0], *images.labels[1:]], "confidence": [0.9] * 12,
        }),
    }  # fmt: skip
    return lab.evidence(lab.MODELS["spot"], images, **given | more)


SOUND = {("insertion", ONE): 0.9, ("insertion", TWO): 0.8, ("insertion", RANDOM): 0.1, ("insertion", EDGES): 0.2}
WON = [standing(ONE, 1.0), standing(TWO, 2.0), standing(EDGES, 3.0), standing(RANDOM, 4.0)]


def by_id(findings):
    return {finding.id: finding for finding in findings}


def finding(kind, **more):
    given = {"id": kind, "kind": kind, "subject": "maps", "statement": "s", "evidence": f"numbers of {kind}"}
    return Finding(**given | more)


def test_a_method_that_beats_the_controls_and_has_nothing_against_it_is_believed(lab):
    told = by_id(judge(evidence(lab, SOUND, WON), []))
    assert told["verdict-methods"].statement == f"Believe here: {ONE}, {TWO}."
    assert told["verdict-methods"].verdict == "supported"
    assert "closely than the controls do" in told["verdict-supports"].statement


@pytest.mark.parametrize(
    ("metric", "level", "word"),
    [("parameter_randomisation", 0.9, "Do not believe"), ("max_sensitivity", 2.0, "Do not believe"),
     ("completeness_gap", 0.4, "In doubt"), ("parameter_randomisation", 0.1, "Believe here")],
)  # fmt: skip
def test_one_check_against_a_method_takes_it_from_the_believed(lab, metric, level, word):
    told = by_id(judge(evidence(lab, SOUND | {(metric, TWO): level}, WON), []))["verdict-methods"]
    assert f"{word}: {TWO if word != 'Believe here' else f'{ONE}, {TWO}'}." in told.statement
    assert (TWO in told.evidence) == (word != "Believe here")


def test_what_planted_changes_recommend_comes_first_with_what_the_other_checks_say_of_it(lab):
    given = evidence(lab, SOUND | {("completeness_gap", TWO): 0.4}, WON)
    for subject, verdict, start in (
        (ONE, "supported", "{}: its maps follow best what changes planted in these images do to the model. Believe"),
        (TWO, "supported", "{}: its maps follow best what changes planted in these images do to the model (by the other checks it is "),
    ):  # fmt: skip
        recommended = finding("recommended", subject=subject, verdict=verdict)
        told = by_id(judge(given, [], recommended))["verdict-methods"].statement
        assert told.startswith(f"Look first at {start.format(subject)}")
    undecided = finding("recommended", subject=TWO, verdict="undecided")
    assert judge(given, [], undecided) == judge(given, [])


def test_a_method_no_better_than_the_images_edges_is_named_and_in_doubt(lab):
    rows = [standing(ONE, 1.0), standing(TWO, 2.5, (EDGES,)), standing(EDGES, 2.5), standing(RANDOM, 4.0)]
    given = evidence(lab, SOUND, rows)
    named = by_id(find_trust(given))[f"below_control-{TWO}"]
    assert "not shown to be better than the edges of the image itself on" in named.statement
    assert "against 2.5 [2.5, 2.5] of the edge map" in named.evidence
    assert f"In doubt: {TWO}." in by_id(judge(given, []))["verdict-methods"].statement


def test_where_no_method_beats_random_the_verdict_abstains(lab):
    rows = [standing(name, 2.0, (RANDOM, EDGES)) for name in (ONE, TWO)] + [standing(RANDOM, 2.0)]
    given = evidence(lab, SOUND, rows)
    told = by_id(judge(given, find_trust(given)))
    assert told["verdict-methods"].verdict == told["verdict-supports"].verdict == "undecided"
    assert told["verdict-supports"].statement == "The maps support no statement about the model here."
    assert all("support no statement of this image" in row["sentence"] for row in judge_cases(given, ()).to_pylist())


def test_plausibility_abstains_apart_and_takes_nothing_from_the_maps(lab):
    rows = [*WON, *(standing(name, 2.0, (RANDOM,), "plausibility") for name in (ONE, TWO)),
            standing(RANDOM, 2.0, (), "plausibility")]  # fmt: skip
    found = by_id(find_trust(evidence(lab, SOUND, rows)))
    assert set(found) == {"inseparable-plausibility"}
    assert found["inseparable-plausibility"].subject == "all methods, plausibility"


def test_a_model_at_chance_leaves_the_maps_nothing_to_support(lab):
    told = by_id(judge(evidence(lab, SOUND, WON), [finding("gate")]))
    assert "support no statement" in told["verdict-supports"].statement
    assert told["verdict-limits"].statement.startswith("The maps cannot support anything of what the model learnt")


@pytest.mark.parametrize(
    ("kind", "part"),
    [("not_localised", "a property of the whole object"), ("shortcut", "the background is being used"),
     ("confounder", "class background is its biology")],
)  # fmt: skip
def test_what_a_finding_forbids_is_said_with_its_numbers_and_nothing_else(lab, kind, part):
    told = by_id(judge(evidence(lab, SOUND, WON), [finding(kind, subject="background")]))["verdict-limits"]
    assert part in told.statement
    assert told.statement.count("nor") == 0
    assert f"numbers of {kind}" in told.evidence
    refuted = [finding(kind, verdict="refuted")]
    assert "forbids" in by_id(judge(evidence(lab, SOUND, WON), refuted))["verdict-limits"].statement


def test_what_was_not_tested_is_left_open(lab):
    left = [finding("refused", id="background-untested", verdict="undecided")]
    told = by_id(judge(evidence(lab, SOUND, WON), left))["verdict-limits"]
    assert told.statement == "Left open: whether the background is being used."
    assert told.verdict == "undecided"


def test_places_are_supported_only_where_the_place_was_tested(lab):
    place = finding("localised", id="locality")
    assert "statements of place" in by_id(judge(evidence(lab, SOUND, WON), [place]))["verdict-supports"].statement
    open_ = finding("localised", id="locality", verdict="undecided")
    assert "of place" not in by_id(judge(evidence(lab, SOUND, WON), [open_]))["verdict-supports"].statement


def test_where_the_whole_object_is_the_cause_no_statement_of_place_is_supported(lab):
    told = by_id(judge(evidence(lab, SOUND, WON), [finding("not_localised", id="locality")]))["verdict-supports"]
    assert told.verdict == "undecided"
    assert "no statement of place" in told.statement
    assert told.evidence == "numbers of not_localised"


def test_without_scores_there_is_no_verdict(lab):
    bare = evidence(lab, {}, WON)
    assert judge(bare, []) == []
    assert "cases" not in interpret(bare).tables


def maps_of(patterns):
    def maps(method, ids):
        return torch.stack([patterns[method] for _ in ids])[:, None]

    return maps


RAMP = torch.arange(28.0 * 28).reshape(28, 28)


def test_a_case_says_call_agreement_and_control(lab):
    patterns = {ONE: RAMP, TWO: -2 * RAMP, EDGES: RAMP.T, RANDOM: RAMP}
    table = judge_cases(evidence(lab, SOUND, WON, maps=maps_of(patterns)), (ONE, TWO)).to_pylist()
    wrong, right = table[0], table[1]
    assert wrong["sentence"].startswith("The call is wrong (probability 0.90); the 2 believed methods agree")
    assert right["sentence"].startswith("The call is right")
    assert right["agreement"] == pytest.approx(1.0)
    assert (right["won"], right["compared"], right["readable"]) == (2, 2, True)


def test_maps_that_share_no_more_than_the_images_edges_are_not_to_be_read(lab):
    patterns = {ONE: RAMP, TWO: RAMP.T, EDGES: RAMP + RAMP.T, RANDOM: RAMP}
    row = judge_cases(evidence(lab, SOUND, WON, maps=maps_of(patterns)), (ONE, TWO)).to_pylist()[0]
    assert row["agreement"] < row["edges"]
    assert row["readable"] is False
    assert "no better than with the image's edges" in row["sentence"]
    assert row["sentence"].endswith("rest no statement on the maps of this image alone.")


def test_maps_that_lose_to_random_numbers_on_an_image_are_not_to_be_read(lab):
    levels = SOUND | {("insertion", RANDOM): 2.0}
    row = judge_cases(evidence(lab, levels, WON, maps=maps_of(dict.fromkeys(METHODS, RAMP))), (ONE,)).to_pylist()[0]
    assert (row["won"], row["compared"], row["readable"]) == (0, 1, False)


def test_a_metric_without_a_say_settles_no_case_and_is_named(lab):
    given = evidence(lab, SOUND, WON, maps=maps_of(dict.fromkeys(METHODS, RAMP)), left_out={"insertion": "it wanders"})
    row = judge_cases(given, (ONE,)).to_pylist()[0]
    assert (row["compared"], row["readable"]) == (0, None)
    assert "could not be told" in row["sentence"]
    (named,) = find_trust(given)
    assert (named.kind, named.subject, named.evidence) == ("metric_failed", "insertion", "It wanders.")


def test_checks_take_groups_from_the_scores_where_none_are_given(lab):
    scores = scores_of({("max_sensitivity", ONE): 2.0})
    (judged,) = check_methods(scores, RANKING.empty_table(), [ONE])
    assert judged.standing == "not believed"
    (one_group,) = check_methods(scores, RANKING.empty_table(), [ONE], groups=lambda ids: ["a"] * len(ids))
    assert one_group.checks[0].found.groups == 1
