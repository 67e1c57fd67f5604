import pytest
import torch
from tests.evaluation.conftest import _convolutional, _given

from pellucid.attribution import explain
from pellucid.attribution.combine import combine
from pellucid.errors import BadRecipe
from pellucid.evaluation import METRICS, evaluate
from pellucid.evaluation.pipeline import CONSENSUS, ORDER, Pipeline, Reading, readable, rescore
from pellucid.models import Model

IDS = ["a", "b", "c"]


@pytest.fixture
def scene():
    net, x = _convolutional(), torch.rand(3, 2, 20, 20)
    masks = torch.zeros(3, 20, 20)
    masks[:, 5:12, 6:14] = 1
    maps = {name: explain(net, x, name, ids=IDS).values for name in ("gradient", "input_x_gradient", "random_map")}
    return Model(net), x, masks, maps


def rows(table, **wanted):
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def values(table, **wanted):
    return [row["value"] for row in rows(table, **wanted)]


READABLE = sorted(name for name in METRICS if readable(name))


@pytest.mark.parametrize("metric", READABLE)
def test_a_metric_of_the_order_is_blind_to_what_keeps_it_and_every_metric_to_the_scale(metric, scene):
    model, x, masks, _ = scene
    plain = torch.randn(3, 1, 20, 20)

    def scored(maps):
        found = evaluate(model, x, _given(maps, model, x, "mine", ids=IDS), [metric], masks)
        return [torch.nan if value is None else value for value in found.table["value"].to_pylist()]

    first = scored(plain)
    assert scored(4 * plain) == pytest.approx(first, rel=1e-4, abs=1e-5, nan_ok=True)
    blind = scored(combine(plain, ['align(how="quantile")']).values) == pytest.approx(first, rel=1e-4, nan_ok=True)
    assert blind == (metric in ORDER)


def test_the_reference_scores_are_those_of_the_plain_maps(scene):
    model, x, masks, maps = scene
    metrics = ["insertion(steps=4)", "relevance_mass", "sensitivity_n(samples=8)"]
    found = rescore(model, x, maps, Pipeline(), metrics, masks, ids=IDS, seed=2)
    table, refused = found.table, found.refused
    explanations = [explain(model, x, name, ids=IDS) for name in maps]
    told = {(row["image"], row["method"], row["metric"]): row["value"]
            for row in evaluate(model, x, explanations, metrics, masks, ids=IDS, seed=2).table.to_pylist()}  # fmt: skip
    assert not refused
    assert table.num_rows == len(told) == 27
    for row in table.to_pylist():
        assert row["value"] == pytest.approx(told[row["image"], row["method"], row["metric"]], rel=1e-5, abs=1e-7)
        assert row["control"] == (row["method"] == "random_map")


def test_one_choice_changes_at_a_time_and_shares_what_no_metric_can_tell_apart(scene):
    model, x, masks, maps = scene
    pipeline = Pipeline(
        pool=("mean", "max"),
        sign=("signed", "absolute"),
        normalise=("none", "map_max", "data_p99"),
        align=("none", "rank"),
    )
    metrics = ["localisation_auc", "relevance_mass"]
    table = rescore(model, x, maps, pipeline, metrics, masks, ids=IDS).table
    assert len(pipeline.readings) == 6
    first = {"pool": "mean", "sign": "signed", "normalise": "none", "align": "none", "method": "gradient"}
    plain, mass = (values(table, **first, metric=metric) for metric in metrics)
    assert values(table, **first | {"normalise": "data_p99"}, metric="relevance_mass") == pytest.approx(mass)
    assert values(table, **first | {"align": "rank"}, metric="localisation_auc") == pytest.approx(plain)
    assert values(table, **first | {"align": "rank"}, metric="relevance_mass") != pytest.approx(mass)
    pooled = combine(maps["gradient"], ['pool_channels(how="max")']).values
    again = evaluate(model, x, _given(pooled, model, x, "mine", ids=IDS), metrics, masks).table
    for metric in metrics:
        own = [row["value"] for row in again.to_pylist() if row["metric"] == metric]
        assert values(table, **first | {"pool": "max"}, metric=metric) == pytest.approx(own)


def test_a_consensus_is_the_mean_of_the_aligned_maps_of_all_methods_but_controls(scene):
    model, x, masks, maps = scene
    pipeline = Pipeline(aggregate=("rank", "map_max"))
    table = rescore(model, x, maps, pipeline, ["relevance_mass"], masks, ids=IDS).table
    real = [maps["gradient"], maps["input_x_gradient"]]
    for level, step in (("rank", 'align(how="rank")'), ("map_max", 'normalise(how="map_max")')):
        merged = combine(real, ['pool_channels(how="sum")', step, "aggregate"]).values
        again = evaluate(model, x, _given(merged, model, x, "mine", ids=IDS), ["relevance_mass"], masks).table
        found = values(table, method=CONSENSUS, aggregate=level)
        assert found == pytest.approx(again["value"].to_pylist(), rel=1e-5)


def test_a_data_scale_is_that_of_all_images_whatever_the_part_that_is_read():
    maps = torch.arange(1.0, 33).reshape(2, 1, 4, 4)
    reading = Reading(normalise="data_max")
    assert reading.scale(maps, (4, 4)) == 32
    assert torch.equal(reading.read(maps[:1], (4, 4), 32.0), maps[:1] / 32)


def test_a_map_that_a_choice_makes_impossible_is_told_and_the_rest_is_scored(scene):
    model, x, masks, maps = scene
    thin = torch.zeros(3, 2, 20, 20)
    thin[:, :, 3, 3] = 1
    found = rescore(
        model, x, maps | {"thin": thin}, Pipeline(normalise=("none", "map_p99")), ["relevance_mass"], masks, ids=IDS
    )
    table, refused = found.table, found.refused
    assert len(refused) == 1
    assert "thin" in refused[0]
    assert not rows(table, method="thin", normalise="map_p99")
    assert len(rows(table, method="thin", normalise="none")) == 3


def test_a_coarse_map_is_brought_to_the_grid_before_its_sign_is_read():
    coarse = torch.tensor([[-1.0, 1.0]])[None, None]
    read = Reading(sign="positive").read(coarse, (1, 4))
    assert read.shape == (1, 1, 1, 4)
    assert float(read.min()) == 0


def test_levels_are_named_once():
    with pytest.raises(BadRecipe, match="at least one level"):
        Pipeline(pool=("sum", "sum"))
    with pytest.raises(BadRecipe, match="at least one level"):
        Pipeline(align=())
