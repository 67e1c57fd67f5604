"""What the report says in words follows from the scores and from nothing else."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pellucid.evaluation import Scores, rank
from pellucid.evaluation.scores import SCHEMA
from pellucid.show.changes import swap_table
from pellucid.show.standing import left_out, order_in_words, overall, per_metric, verdicts

IMAGES = 20


def scores(levels: dict[tuple[str, str], float], families: dict[str, tuple[str, str]], spread: float = 0.01) -> Scores:
    """Return scores around a level for each method and metric."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {
            "image": f"i{image}", "method": method, "metric": metric, "value": level + spread * random.standard_normal(),
            "chance": None, "reason": "", "family": families[metric][0], "direction": families[metric][1], "resolution": 0.0,
            "definition": "", "target": "", "step": "", "control": method.endswith("_map"), "group": f"g{image}", "seed": 0,
        }
        for (method, metric), level in levels.items() for image in range(IMAGES)
    ]  # fmt: skip
    return Scores(pa.Table.from_pylist(rows, schema=SCHEMA))


FAITHFUL = {"insertion": ("faithfulness", "higher"), "deletion": ("faithfulness", "lower")}
SANITY = {
    "parameter_randomisation": ("randomisation", "lower"), "max_sensitivity": ("robustness", "lower"),
    "completeness_gap": ("axiom", "lower"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "level", "word", "part"),
    [
        ("parameter_randomisation", 0.9, "failed", "shows the image more than what was learnt"),
        ("parameter_randomisation", 0.1, "passed", "as it must"),
        ("parameter_randomisation", 0.5, "unclear", "not clear"),
        ("max_sensitivity", 2.0, "failed", "by more than the map's own size"),
        ("max_sensitivity", 0.3, "passed", "of the map's size"),
        ("completeness_gap", 0.4, "failed", "do not add up"),
        ("completeness_gap", 0.0, "passed", "add up as promised"),
    ],
)
def test_a_verdict_follows_from_the_score(metric: str, level: float, word: str, part: str) -> None:
    made = scores({("saliency", metric): level}, SANITY)
    (verdict,) = verdicts(made.table, rank(made).table, ["saliency"])
    assert verdict.word == word
    assert part in verdict.sentences[0]


def test_a_method_without_tests_is_not_said_to_have_passed() -> None:
    made = scores({("saliency", "complexity"): 1.0}, {"complexity": ("complexity", "lower")})
    (verdict,) = verdicts(made.table, rank(made).table, ["saliency"])
    assert (verdict.word, verdict.sentences) == ("not tested", ())


def test_one_failed_check_fails_the_method_and_controls_are_not_judged() -> None:
    levels = {("saliency", "parameter_randomisation"): 0.9, ("saliency", "max_sensitivity"): 0.1,
              ("random_map", "parameter_randomisation"): 1.0}  # fmt: skip
    made = scores(levels, SANITY)
    words = {one.method: one.word for one in verdicts(made.table, rank(made).table, ["saliency", "random_map"])}
    assert words == {"saliency": "failed", "random_map": "control"}


def test_a_method_below_the_random_control_fails() -> None:
    made = scores({("saliency", "insertion"): 0.1, ("random_map", "insertion"): 0.9}, FAITHFUL)
    ranking = rank(made).table
    verdict = next(one for one in verdicts(made.table, ranking, ["saliency", "random_map"]) if one.method == "saliency")
    assert verdict.word == "failed"
    told = " ".join(order_in_words(overall(ranking, "faithfulness-side")))
    assert "random_map, which never looks at the model, ranks at the top" in told


def test_the_words_of_a_ranking_name_the_first_and_who_is_level_with_it() -> None:
    made = scores({("a", "insertion"): 0.5, ("b", "insertion"): 0.5, ("c", "insertion"): 0.1}, FAITHFUL)
    told = order_in_words(overall(rank(made).table, "faithfulness-side"))
    assert len(told) == 1
    assert "c" not in told[0].split("separable from")[1]
    assert {"a", "b"} <= set(told[0].replace(",", " ").replace(".", " ").split())


def test_leaving_a_metric_out_gives_the_ranking_of_the_others() -> None:
    made = scores(
        {("a", "insertion"): 0.9, ("a", "deletion"): 0.9, ("b", "insertion"): 0.1, ("b", "deletion"): 0.1}, FAITHFUL
    )
    table = left_out(rank(made))
    assert table is not None
    assert table.columns == ("all metrics", "deletion", "insertion")
    cells = {name: [cell.text for cell in row] for name, row in table.rows}
    assert cells == {"a": ["1.5", "1.0", "2.0"], "b": ["1.5", "2.0", "1.0"]}


def test_a_single_metric_cannot_be_left_out() -> None:
    made = scores({("a", "insertion"): 0.9, ("b", "insertion"): 0.1}, FAITHFUL)
    assert left_out(rank(made)) is None


def test_the_table_of_ranks_holds_the_ranking_and_a_dash_where_there_is_none() -> None:
    levels = {("a", "insertion"): 0.9, ("b", "insertion"): 0.1, ("c", "insertion"): 0.5, ("a", "deletion"): 0.2,
              ("c", "deletion"): 0.1}  # fmt: skip
    table = per_metric(rank(scores(levels, FAITHFUL)).table, ["a", "b", "c"])
    assert table.groups == (("faithfulness", 2),)
    cells = {name: [cell.text for cell in row] for name, row in table.rows}
    assert table.columns == ("deletion", "insertion")
    assert cells == {"a": ["2.0", "1.0"], "b": ["–", "3.0"], "c": ["1.0", "2.0"]}


def test_swaps_are_averaged_by_object_and_background() -> None:
    swaps = pa.table(
        {"class": ["a", "a", "b"], "donor_class": ["b", "b", "a"], "pull": [0.2, 0.4, -0.1], "group": ["1", "2", "3"]}
    )
    table = swap_table(swaps)
    assert table is not None
    assert table.columns == ("on background of a", "on background of b")
    assert [[cell.text for cell in row] for _, row in table.rows] == [["–", "30 % (n = 2)"], ["-10 % (n = 1)", "–"]]
    assert swap_table(pa.table({})) is None
