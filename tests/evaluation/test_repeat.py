"""Repeated training: equal models agree wholly, unrelated ones by chance, and models are needed."""

import copy

import pytest
import torch

from pellucid import explain
from pellucid.attribution.controls import edge_map
from pellucid.attribution.gradient import gradient
from pellucid.errors import ShapeError
from pellucid.evaluation import evaluate

BOTH = ["repeat_training", 'repeat_training(distance="correlation")', "region_shares"]


def _quarters(size):
    half = (torch.arange(size) >= size // 2).long()
    return 1 + 2 * half[:, None] + half


@pytest.fixture
def scene(kit):
    net, x = kit.linear((1, 12, 12)), torch.rand(5, 1, 12, 12)
    return net, x, explain(net, x, gradient(), 0, ids=list("abcde"))


def test_identical_models_give_no_distance_and_the_same_regions(scene):
    net, x, explained = scene
    scores = evaluate(net, x, explained, BOTH, models=[net, copy.deepcopy(net)], regions=_quarters(12))
    assert scores.table["value"].to_pylist() == pytest.approx([0.0] * 10 + [1.0] * 5, abs=1e-6)


def test_negated_models_are_furthest_and_unrelated_ones_as_far_as_chance_says(scene, kit):
    net, x, explained = scene
    against, others = copy.deepcopy(net), []
    against[1].weight.neg_()
    for seed in range(30):
        other = copy.deepcopy(net)
        other[1].weight.copy_(torch.randn(3, 144, generator=torch.Generator().manual_seed(seed)))
        others.append(other)
    far = evaluate(net, x, explained, BOTH[:2], models=[against])
    assert far.table["value"].to_pylist() == pytest.approx([2.0] * 10, abs=1e-6)
    chance = evaluate(net, x, explained, BOTH, models=others, regions=_quarters(12))
    for row in chance.table.to_pylist()[:10]:
        assert row["value"] == pytest.approx(row["chance"], abs=0.08)
    assert chance.table["chance"].to_pylist()[10:] == [0.25] * 5
    assert chance.table["value"].to_pylist()[10] == pytest.approx(0.25, abs=0.2)


def test_the_distance_is_that_of_unit_maps_and_the_mean_over_models(scene):
    net, x, explained = scene
    others = []
    for seed in range(2):
        other = copy.deepcopy(net)
        other[1].weight.add_(0.1 * torch.randn(3, 144, generator=torch.Generator().manual_seed(seed)))
        others.append(other)
    found = evaluate(net, x, explained, "repeat_training", models=others).table["value"].to_pylist()
    unit = [one[1].weight[0] / one[1].weight[0].norm() for one in (net, *others)]
    expected = sum(float((unit[0] - other).norm()) for other in unit[1:]) / 2
    assert found == pytest.approx([expected] * 5, abs=1e-5)


def test_region_shares_count_the_top_regions_by_density_or_by_sum(kit):
    net, x = kit.linear((1, 4, 4)), torch.rand(2, 1, 4, 4)
    regions = torch.zeros(4, 4, dtype=torch.long)
    regions[0, 0], regions[1:3], regions[3] = 1, 2, 3  # one pixel, eight and four; the rest is background
    own, other = copy.deepcopy(net), copy.deepcopy(net)
    for one, weights in ((own, (5.0, 1.0, 0.5)), (other, (4.0, 0.1, 2.0))):
        one[1].weight.zero_()
        for label, weight in enumerate(weights, 1):
            one[1].weight[0, regions.flatten() == label] = weight
    explained = explain(own, x, gradient(), 0)
    texts = [f'region_shares(of="{of}", share=0.3)' for of in ("density", "sum")]
    scores = evaluate(own, x, explained, texts, models=[other], regions=regions)
    assert scores.table["value"].to_pylist() == [1.0, 1.0, 0.0, 0.0]  # the pixel is densest twice; sums: 2, then 3


def test_metrics_of_repeats_share_the_explanations_and_controls_and_given_maps_have_reasons(scene, kit):
    net, x, explained = scene
    again = [copy.deepcopy(net)]
    one = evaluate(net, x, explained, "repeat_training", models=again, regions=_quarters(12))
    three = evaluate(net, x, explained, BOTH, models=again, regions=_quarters(12))
    assert three.backwards == one.backwards == 5
    others = [explain(net, x, edge_map(), ids=list("abcde")), kit.given(x, net, x, "mine", ids=list("abcde"))]
    reasons = evaluate(net, x, others, "repeat_training", models=again).table["reason"].to_pylist()
    assert "control" in reasons[0]
    assert "cannot be made again" in reasons[5]


def test_without_models_or_regions_there_is_no_number_and_the_reason_says_what_to_give(scene):
    net, x, explained = scene
    assert "models=[...]" in evaluate(net, x, explained, "repeat_training").table["reason"][0].as_py()
    found = evaluate(net, x, explained, "region_shares", models=[net]).table["reason"][0].as_py()
    assert "regions=labels" in found
    with pytest.raises(ShapeError, match="the images' axes are"):
        evaluate(net, x, explained, "region_shares", models=[net], regions=torch.zeros(3, 3, dtype=torch.long))
    with pytest.raises(ShapeError, match="whole numbers"):
        evaluate(net, x, explained, "region_shares", models=[net], regions=torch.zeros(12, 12))
