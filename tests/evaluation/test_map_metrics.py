"""Complexity, axioms and agreement: closed forms and extremes."""

import math

import pytest
import torch

from pellucid import Explanation, explain
from pellucid.attribution.controls import random_map
from pellucid.attribution.path import integrated_gradients
from pellucid.evaluation import evaluate
from pellucid.models import targets


@pytest.fixture
def scene(kit):
    return kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)


def test_one_pixel_is_simplest_and_a_uniform_map_most_complex(scene, kit):
    net, x = scene
    single = torch.zeros(2, 1, 8, 8)
    single[:, :, 3, 3] = -2
    maps = [kit.given(single, net, x, "one"), kit.given(torch.ones_like(x), net, x, "uniform")]
    scores = evaluate(net, x, maps, ["sparseness", "complexity"])
    assert kit.column(scores, "sparseness", "one") == pytest.approx([63 / 64] * 2)
    assert kit.column(scores, "sparseness", "uniform") == pytest.approx([0.0] * 2, abs=1e-12)
    assert kit.column(scores, "complexity", "one") == pytest.approx([0.0] * 2, abs=1e-12)
    assert kit.column(scores, "complexity", "uniform") == pytest.approx([math.log(64)] * 2)


@pytest.mark.parametrize("name", ["sparseness", "complexity"])
def test_sign_and_scale_do_not_matter_and_a_zero_map_has_no_score(name, scene, kit):
    net, x = scene
    values = torch.randn_like(x)
    maps = [kit.given(v, net, x, n) for n, v in (("map", values), ("other", -50 * values), ("zero", 0 * values))]
    scores = evaluate(net, x, maps, name)
    assert kit.column(scores, name, "map") == pytest.approx(kit.column(scores, name, "other"))
    assert kit.column(scores, name, "zero", "reason") == ["the map is zero everywhere"] * 2


def test_completeness_gap_is_nought_where_values_add_up(scene, kit):
    net, x = scene
    explained = explain(net, x, integrated_gradients(steps=4))
    scores = evaluate(net, x, [explained, kit.given(torch.rand_like(x), net, x, "mine")], "completeness_gap")
    assert kit.column(scores, "completeness_gap", explained.name) == pytest.approx([0.0] * 2, abs=1e-4)
    assert kit.column(scores, "completeness_gap", "mine") == [None, None]
    assert "does not promise" in kit.column(scores, "completeness_gap", "mine", "reason")[0]


def test_completeness_gap_is_relative_and_does_not_explode_where_scores_agree(scene):
    net, x = scene
    with torch.no_grad():
        outputs = net(x)[:, 0]
    explained = Explanation(
        values=torch.zeros_like(x),
        method=integrated_gradients(),
        target=targets.Class(0),
        output=outputs,
        reference_output=torch.stack([outputs[0] + 2, outputs[1]]),
        gap=torch.tensor([0.5, 0.01]),
    )
    found = evaluate(net, x, explained, "completeness_gap").table["value"].to_pylist()
    floor = 0.05 * 2 * abs(float(outputs[1]))
    assert found == pytest.approx([0.5 / max(2, 0), 0.01 / floor], rel=1e-4)


def test_agreement_is_with_the_other_methods_of_the_same_target_and_never_with_controls(scene, kit):
    net, x = scene
    values = torch.randn_like(x)
    maps = [kit.given(values, net, x, "a"), kit.given(-3 * values, net, x, "b")]
    found = evaluate(net, x, [*maps, explain(net, x, random_map())], "rank_agreement")
    assert kit.column(found, "rank_agreement", "a") == pytest.approx([1.0, 1.0])
    assert kit.column(found, "rank_agreement", "b") == pytest.approx([1.0, 1.0])
    assert abs(kit.column(found, "rank_agreement", "random_map")[0]) < 0.5
    lonely = evaluate(net, x, [maps[0], explain(net, x, random_map())], "rank_agreement")
    assert "no other method" in kit.column(lonely, "rank_agreement", "a", "reason")[0]
    apart = evaluate(net, x, [maps[0], kit.given(values, net, x, "c", target=[0, 1])], "rank_agreement")
    if net(x).argmax(1).tolist() != [0, 1]:
        assert "no other method" in kit.column(apart, "rank_agreement", "a", "reason")[0]
