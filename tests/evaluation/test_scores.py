import math

import pyarrow as pa
import pytest
import torch

from pellucid import Explanation
from pellucid.errors import BadRecipe, BadStudy, PellucidError, ShapeError
from pellucid.evaluation import FAMILIES, METRICS, PANEL, PLAUSIBILITY, Outcome, Scores, evaluate, metrics
from pellucid.evaluation.scores import SCHEMA


@pytest.fixture
def scene(kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(3, 1, 6, 6)
    return net, x, [kit.given(torch.randn_like(x), net, x, name) for name in ("a", "b")]


def test_every_score_says_what_it_is_and_every_gap_says_why(scene):
    net, x, given = scene
    scores = evaluate(net, x, given, list(METRICS), groups=["g", "g", "h"], ids=["p", "q", "r"], seed=7)
    assert len(scores) == len(METRICS) * 2 * 3
    for row in scores.table.to_pylist():
        metric = METRICS.parse(row["metric"])
        assert (row["value"] is None) == bool(row["reason"])
        assert row["value"] is None or math.isfinite(row["value"])
        assert (row["family"], row["direction"]) == (metric.profile.family, metric.profile.direction)
        assert row["definition"] == metric.definition
        assert row["group"] == {"p": "g", "q": "g", "r": "h"}[row["image"]]
        assert row["seed"] == 7
        if row["value"] is not None:
            low, high = metric.profile.range
            assert low - 1e-9 <= row["value"] <= high + 1e-9


def test_parts_concatenate_to_the_table_of_the_whole_and_survive_the_disk(scene, tmp_path, kit):
    net, x, given = scene
    ids = ["p", "q", "r"]
    whole = evaluate(net, x, given, ["deletion", "complexity"], ids=ids)
    parts = [
        evaluate(net, x[[row]], [one[[row]] for one in given], ["deletion", "complexity"], ids=[ids[row]])
        for row in range(3)
    ]
    for place, part in enumerate(parts):
        part.write(tmp_path / f"part-{place}.parquet")
    joined = Scores.read(tmp_path)
    keys = ["metric", "method", "image"]
    order = [(key, "ascending") for key in keys]
    left, right = whole.table.sort_by(order), joined.table.sort_by(order)
    for name in SCHEMA.names:
        if name == "value":
            assert left[name].to_pylist() == pytest.approx(right[name].to_pylist(), rel=1e-5)
        else:
            assert left[name] == right[name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-0.parquet", "part-1.parquet", "part-2.parquet"]
    assert Scores.concat(parts).forwards == sum(part.forwards for part in parts)
    assert len(Scores.concat([])) == 0


def test_what_is_no_score_table_is_refused(tmp_path):
    with pytest.raises(BadStudy, match="holds no scores"):
        Scores.read(tmp_path)
    (tmp_path / "part-0.parquet").write_text("no parquet")
    with pytest.raises(BadStudy, match="no score table"):
        Scores.read(tmp_path)
    with pytest.raises(BadStudy, match="needs the columns"):
        Scores(pa.table({"image": ["a"]}))


def test_explanations_that_do_not_fit_are_refused_in_one_sentence(scene, kit):
    net, x, given = scene
    with pytest.raises(ShapeError, match="nothing to evaluate"):
        evaluate(net, x, [], "deletion")
    with pytest.raises(ShapeError, match="explains 3 images; 2 were given"):
        evaluate(net, x[:2], given, "deletion")
    with pytest.raises(ShapeError, match="occurs twice"):
        evaluate(net, x, [given[0], given[0]], "deletion")
    with pytest.raises(ShapeError, match="other images or another model"):
        evaluate(net, x.flip(0), given, "deletion")
    with pytest.raises(ShapeError, match="2 groups"):
        evaluate(net, x, given, "deletion", groups=["a", "b"])
    with pytest.raises(ShapeError, match="other ids"):
        evaluate(net, x, kit.given(x, net, x, "c", ids=["p", "q", "r"]), "deletion", ids=["r", "q", "p"])
    with pytest.raises(ShapeError, match="unique"):
        evaluate(net, x, given, "deletion", ids=["p", "p", "q"])
    with pytest.raises(BadRecipe, match="did you mean deletion"):
        evaluate(net, x, given, "deletions")


def test_the_default_panel_adds_plausibility_where_there_are_masks(scene):
    net, x, given = scene
    without = set(evaluate(net, x, given).table["metric"].to_pylist())
    with_masks = set(evaluate(net, x, given, masks=torch.ones(3, 6, 6)).table["metric"].to_pylist())
    assert without == set(PANEL)
    assert with_masks == set(PANEL + PLAUSIBILITY)


def test_ids_come_from_the_explanations_when_none_are_given(scene, kit):
    net, x, _ = scene
    scores = evaluate(net, x, kit.given(x, net, x, "c", ids=["p", "q", "r"]), "complexity")
    assert scores.table["image"].to_pylist() == ["p", "q", "r"]


def test_one_explanation_and_one_metric_need_no_list(scene):
    net, x, given = scene
    assert isinstance(given[0], Explanation)
    assert len(evaluate(net, x, given[0], METRICS["deletion"](steps=3))) == 3


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_prints_parses_and_says_what_must_be_known(name):
    metric = METRICS.parse(name)
    assert str(metric) == name
    assert METRICS.parse(str(metric)) == metric
    profile = metrics()[name]
    assert profile.family in FAMILIES
    for text in (profile.measures, profile.failure, profile.reference, profile.cost, type(metric).__doc__):
        assert text
    assert profile.range[0] < profile.range[1]


def test_a_number_without_reason_and_a_reason_with_a_number_are_refused():
    with pytest.raises(PellucidError, match="go together"):
        Outcome(torch.tensor([torch.nan]), ("",))
    with pytest.raises(PellucidError, match="go together"):
        Outcome(torch.tensor([1.0]), ("no mask",))
    with pytest.raises(PellucidError, match="1 values and 2 reasons"):
        Outcome(torch.tensor([1.0]), ("", ""))
