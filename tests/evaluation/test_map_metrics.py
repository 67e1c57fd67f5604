"""Complexity, axioms and agreement: closed forms and extremes."""

import math

import pytest
import torch

from pellucid import Explanation, explain
from pellucid.attribution.controls import random_map
from pellucid.attribution.gradient import gradient, input_x_gradient, saliency
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


@pytest.mark.parametrize("name", ["sparseness", "complexity", "effective_complexity"])
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


def test_effective_complexity_is_the_part_of_the_image_that_holds_the_mass(scene, kit):
    net, x = scene
    single, half = torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 1e-4)
    single[:, :, 3, 3] = -2
    half[:, :, :4] = 1.0
    maps = {"one": single, "uniform": torch.ones_like(x), "half": half}
    given = [kit.given(values, net, x, name) for name, values in maps.items()]
    scores = evaluate(net, x, given, ["effective_complexity", "effective_complexity(mass=0.5)"])
    held = {name: kit.column(scores, "effective_complexity", name)[::2] for name in maps}
    assert held["one"] == pytest.approx([0.9 / 64, 0.5 / 64])
    assert held["uniform"] == pytest.approx([0.9, 0.5])
    assert held["half"] == pytest.approx([0.45, 0.25], abs=1e-4)


TOP = ["feature_agreement", "sign_agreement"]


@pytest.mark.parametrize("name", TOP)
def test_identical_maps_agree_and_random_ones_by_chance(name, kit):
    net, x = kit.linear((1, 20, 20)), torch.rand(20, 1, 20, 20)
    ids = [str(row) for row in range(20)]
    values = torch.randn_like(x)
    twins = [kit.given(scale * values, net, x, str(scale), ids=ids) for scale in (1, 7)]
    same = evaluate(net, x, twins, name)
    assert kit.column(same, name, "7") == [1.0] * 20
    other = evaluate(net, x, [twins[0], kit.given(torch.randn_like(x), net, x, "other", ids=ids)], name)
    level = {"feature_agreement": 0.1, "sign_agreement": 0.05}[name]
    assert kit.column(other, name, "1", "chance") == pytest.approx([level] * 20)
    assert float(torch.tensor(kit.column(other, name, "1")).mean()) == pytest.approx(level, abs=0.03)


def test_negated_maps_mark_the_same_positions_with_no_sign_in_common(scene, kit):
    net, x = scene
    values = torch.randn_like(x)
    scores = evaluate(net, x, [kit.given(values, net, x, "a"), kit.given(-values, net, x, "b")], TOP)
    assert kit.column(scores, "feature_agreement", "a") == [1.0, 1.0]
    assert kit.column(scores, "sign_agreement", "a") == [0.0, 0.0]


def test_agreement_is_averaged_over_the_others_and_counted_by_hand(scene, kit):
    net, x = scene
    maps = {name: torch.zeros(2, 1, 8, 8) for name in "abc"}
    maps["a"][..., 0, :4] = 1.0
    maps["b"][..., 0, 2:6] = torch.tensor([1.0, -1.0, 1.0, 1.0])
    maps["c"][..., 0, 3:] = 1.0
    given = [kit.given(values, net, x, name) for name, values in maps.items()]
    scores = evaluate(net, x, given, [f"{name}(share=0.0625)" for name in TOP])
    ties = kit.column(scores, "feature_agreement", "c")[0]
    b_and_c = (
        4 * kit.column(evaluate(net, x, given[1:], "feature_agreement(share=0.0625)"), "feature_agreement", "b")[0]
    )
    assert kit.column(scores, "feature_agreement", "b")[0] == pytest.approx((2 / 4 + b_and_c / 4) / 2)
    assert 0 <= ties <= 1
    alone = evaluate(net, x, given[:2], [f"{name}(share=0.0625)" for name in TOP])
    assert kit.column(alone, "feature_agreement", "a") == [0.5, 0.5]
    assert kit.column(alone, "sign_agreement", "a") == [0.25, 0.25]


@pytest.mark.parametrize("name", TOP)
def test_constant_maps_mark_nothing_and_say_so(name, scene, kit):
    net, x = scene
    maps = [kit.given(torch.full_like(x, value), net, x, str(value)) for value in (0.0, 1.0)]
    found = evaluate(net, x, maps, name).table
    assert found["value"].null_count == 4
    assert "as large everywhere" in found["reason"][0].as_py()


def test_methods_without_signs_have_no_sign_agreement(scene, kit):
    net, x = scene
    maps = [explain(net, x, method) for method in (saliency(), gradient(), input_x_gradient())]
    scores = evaluate(net, x, maps, TOP)
    assert "no sign" in kit.column(scores, "sign_agreement", "saliency", "reason")[0]
    assert kit.column(scores, "feature_agreement", "saliency")[0] is not None
    pair = evaluate(net, x, maps[1:], "sign_agreement")
    assert kit.column(scores, "sign_agreement", "gradient") == kit.column(pair, "sign_agreement", "gradient")
