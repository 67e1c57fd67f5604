import numpy as np
import pyarrow as pa
import pytest

from pellucid.evaluation import Scores
from pellucid.evaluation.choices import choice_effects
from pellucid.evaluation.pipeline import CHOICES, CONSENSUS, Pipeline
from pellucid.evaluation.scores import SCHEMA

IMAGES = [f"i{place}" for place in range(8)]


def line(image, method, metric, value, **more):
    return {
        "image": image, "method": method, "metric": metric, "value": value, "chance": None, "reason": "",
        "family": "faithfulness", "direction": "higher", "resolution": 0.0, "definition": metric, "target": "Class(0)",
        "step": "", "control": False, "group": image, "seed": 0, "tested": None,
    } | more  # fmt: skip


def scores(values, images=IMAGES):
    """Make scores of {(method, metric): value or function of the image's number}."""
    return [
        line(image, method, metric, float(value(place) if callable(value) else value))
        for (method, metric), value in values.items() for place, image in enumerate(images)
    ]  # fmt: skip


def table(lines):
    return Scores(pa.Table.from_pylist(lines, schema=SCHEMA))


def rescored(levels):
    """Make rescored lines of {(factor, level): {method: value}}."""
    lines = []
    for (factor, level), values in levels.items():
        which = {"pool": "sum", "sign": "signed", "normalise": "none", "align": "none", "aggregate": ""}
        which |= {factor: level}
        lines += [row | which for row in scores({(method, "insertion"): value for method, value in values.items()})]
    return pa.Table.from_pylist(lines, schema=CHOICES)


def only(effects, factor):
    return [row for row in effects.to_pylist() if row["factor"] == factor and row["side"] == "faithfulness-side"]


def test_a_choice_that_changes_no_place_changes_nothing():
    levels = {("pool", "sum"): {"a": 3, "b": 2, "c": 1}, ("pool", "mean"): {"a": 0.3, "b": 0.2, "c": 0.1}}
    effects = choice_effects(table(scores({("a", "insertion"): 1})), rescored(levels), Pipeline(pool=("sum", "mean")))
    (row,) = only(effects, "pool")
    assert (row["changed"], row["n"], row["tau"], row["share"]) == (0, 8, 1.0, 0.0)
    assert row["winner"] == row["winner_reference"] == "a"
    assert row["rank"] == row["rank_reference"]


def test_a_choice_that_turns_the_order_round_changes_every_winner():
    levels = {("sign", "signed"): {"a": 3, "b": 2, "c": 1}, ("sign", "absolute"): {"a": 1, "b": 2, "c": 3}}
    effects = choice_effects(
        table(scores({("a", "insertion"): 1})), rescored(levels), Pipeline(sign=("signed", "absolute"))
    )
    (row,) = only(effects, "sign")
    assert (row["winner_reference"], row["winner"], row["changed"], row["n"]) == ("a", "c", 8, 8)
    assert row["tau"] == pytest.approx(-1)
    assert abs(row["rank"] - row["rank_reference"]) == 2
    # places 0, 1/2, 1 against 1, 1/2, 0 on every image: all variance lies between the levels
    assert row["share"] == pytest.approx(1)


def test_the_share_of_images_whose_winner_changes_is_counted_image_by_image():
    swap = {"a": lambda place: 1 - (place < 3), "b": lambda place: 0.5}
    levels = {("align", "none"): {"a": 1, "b": 0.5}, ("align", "rank"): swap}
    effects = choice_effects(table(scores({("a", "insertion"): 1})), rescored(levels), Pipeline(align=("none", "rank")))
    (row,) = only(effects, "align")
    assert (row["changed"], row["n"]) == (3, 8)
    assert 0 < row["low"] < 3 / 8 < row["high"] < 1


def test_settings_of_methods_and_metrics_are_choices_and_the_first_is_the_reference():
    found = scores(
        {
            ("a", "insertion"): 2, ('lrp(composite="x")', "insertion"): 3, ('lrp(composite="y")', "insertion"): 1,
            ("a", "insertion(steps=5)"): 3, ('lrp(composite="x")', "insertion(steps=5)"): 1,
            ('lrp(composite="y")', "insertion(steps=5)"): 1,
        }
    )  # fmt: skip
    effects = choice_effects(table(found))
    (method,) = only(effects, "setting of lrp")
    assert (method["winner_reference"], method["winner"], method["level"]) == ("lrp", "a", 'lrp(composite="y")')
    (metric,) = only(effects, "setting of insertion")
    assert (metric["winner_reference"], metric["winner"], metric["changed"]) == ("lrp", "a", 8)


def test_each_metric_alone_is_held_against_all_of_them():
    found = scores({("a", "insertion"): 2, ("b", "insertion"): 1, ("a", "deletion"): 1, ("b", "deletion"): 2,
                    ("a", "irof"): 2, ("b", "irof"): 1})  # fmt: skip
    effects = {row["level"]: row for row in only(choice_effects(table(found)), "metric")}
    assert set(effects) == {"insertion", "deletion", "irof"}
    assert effects["deletion"]["winner"] == "b"
    assert effects["deletion"]["changed"] == 8
    assert effects["insertion"]["changed"] == 0


def test_a_consensus_that_beats_all_takes_the_first_place():
    levels = {
        ("aggregate", ""): {"a": 1, "b": 2},
        ("aggregate", "rank"): {CONSENSUS: 3},
        ("aggregate", "zscore"): {CONSENSUS: 0},
    }
    effects = choice_effects(
        table(scores({("a", "insertion"): 1})), rescored(levels), Pipeline(aggregate=("rank", "zscore"))
    )
    (whole,) = only(effects, CONSENSUS)
    assert (whole["winner_reference"], whole["winner"], whole["changed"]) == ("b", CONSENSUS, 8)
    (level,) = only(effects, "aggregate")
    assert (level["winner_reference"], level["winner"], level["moved"]) == (CONSENSUS, "b", CONSENSUS)


def test_chance_is_told_beside_the_choices():
    noise = np.random.default_rng(0).normal(size=(3, 40))
    images = [f"i{place}" for place in range(40)]
    drawn = {(name, "insertion"): (lambda place, row=row: noise[row, place]) for row, name in enumerate("abc")}
    (row,) = only(choice_effects(table(scores(drawn, images))), "images")
    assert row["n"] == 200
    assert 10 < row["changed"] < 200
    assert row["tau"] < 0.9
    sure = {("a", "insertion"): 3, ("b", "insertion"): 2, ("c", "insertion"): 1}
    (row,) = only(choice_effects(table(scores(sure, images))), "images")
    assert row["changed"] == 0
    assert row["tau"] == 1


def test_controls_are_no_winners():
    found = scores({("a", "insertion"): 1, ("b", "insertion"): 2})
    found += [line(image, "random_map", "insertion", 9.0, control=True) for image in IMAGES]
    found += scores({("a", "deletion"): 1, ("b", "deletion"): 2})
    assert all(row["winner"] == "b" for row in choice_effects(table(found)).to_pylist())


def test_a_level_without_any_score_is_left_out():
    found = scores({("a", "insertion"): 1, ("b", "insertion"): 2})
    found += [
        row | {"value": None, "reason": "the model gives way"}
        for row in scores({("a", "deletion"): 1, ("b", "deletion"): 1})
    ]
    found += scores({("a", "irof"): 1, ("b", "irof"): 2})
    assert {row["level"] for row in only(choice_effects(table(found)), "metric")} == {"insertion", "irof"}
