"""Forwards are shared, and a score never depends on company."""

from dataclasses import replace

import pytest
import torch

from pellucid import explain
from pellucid.attribution.controls import edge_map, random_map
from pellucid.attribution.gradient import gradient, input_x_gradient, saliency
from pellucid.attribution.method import Attribution, Method
from pellucid.evaluation import METRICS, evaluate
from pellucid.evaluation.bench import Bench
from pellucid.models import Model, Passes

IDS = ["a", "b", "c", "d", "e"]
METHODS = [gradient(), input_x_gradient(), saliency(), random_map(), edge_map()]


def _explained(net, x, ids=IDS):
    return [explain(net, x, method, ids=ids) for method in METHODS]


def _table(scores):
    return {
        (row["image"], row["method"], row["metric"]): (row["value"], row["chance"], row["reason"])
        for row in scores.table.to_pylist()
    }


def _close(left, right):
    assert left[2] == right[2]
    for one, other in zip(left[:2], right[:2], strict=True):
        assert one == other if one is None or other is None else one == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.fixture
def scene(kit):
    net, x = kit.convolutional(), torch.rand(5, 2, 10, 10)
    masks = torch.zeros(5, 10, 10)
    masks[:, 2:5, 3:8] = 1
    masks[3] = 0
    again = kit.convolutional()
    with torch.no_grad():
        again[0].weight.mul_(torch.rand_like(again[0].weight))
    return net, x, {"masks": masks, "regions": torch.arange(100).reshape(10, 10) // 12, "models": [again]}


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_score_does_not_depend_on_company_batch_size_or_order(name, scene):
    net, x, more = scene
    whole = _table(evaluate(net, x, _explained(net, x), name, **more, batch_size=64))
    assert len(whole) == 25
    shuffled = [3, 0, 4, 2, 1]
    ids = [IDS[row] for row in shuffled]
    mixed, single = (more | {"masks": more["masks"][rows]} for rows in (shuffled, [2]))
    other = _table(evaluate(net, x[shuffled], _explained(net, x[shuffled], ids), name, **mixed, batch_size=3))
    alone = _table(evaluate(net, x[2:3], _explained(net, x[2:3], ["c"]), name, **single))
    assert other.keys() == whole.keys()
    for key, found in other.items():
        _close(found, whole[key])
    for key, found in alone.items():
        _close(found, whole[key])


@pytest.mark.parametrize("name", ["faithfulness_correlation", "sensitivity_n", "infidelity"])
def test_ten_methods_cost_the_forwards_of_one(name, kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    maps = [kit.given(torch.randn_like(x), net, x, f"map {place}") for place in range(10)]
    one, ten = evaluate(net, x, maps[:1], name), evaluate(net, x, maps, name)
    assert ten.forwards == one.forwards > 2


def test_metrics_of_the_same_subsets_share_them(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    given = kit.given(torch.randn_like(x), net, x, "map")
    alone = evaluate(net, x, given, "faithfulness_correlation")
    assert evaluate(net, x, given, ["faithfulness_correlation", "infidelity"]).forwards == alone.forwards


def test_pixel_flipping_runs_along_the_curve_of_deletion(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    given = kit.given(torch.randn_like(x), net, x, "map")
    alone = evaluate(net, x, given, "deletion")
    both = evaluate(net, x, given, ["pixel_flipping", "deletion"])
    assert both.forwards == alone.forwards == 2 * (1 + 15 + 1)


def test_robustness_metrics_share_their_noisy_explanations(kit):
    net, x = kit.convolutional(), torch.rand(2, 2, 10, 10)
    explained = explain(net, x, gradient())
    one = evaluate(net, x, explained, "max_sensitivity")
    three = evaluate(net, x, explained, ["max_sensitivity", "local_lipschitz", "avg_sensitivity"])
    assert three.backwards == one.backwards == 16
    assert three.forwards == one.forwards


def test_the_model_comes_back_as_it_was(scene):
    net, x, more = scene
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    explained = _explained(net, x)
    evaluate(net, x, explained, list(METRICS), **more)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert not any(part._forward_hooks for part in net.modules())


def test_evaluation_leaves_the_global_random_state_alone(scene):
    net, x, more = scene
    explained = _explained(net, x)
    state = torch.get_rng_state()
    evaluate(net, x, explained, list(METRICS), **more)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_decides_the_draws(scene):
    net, x, _ = scene
    explained = _explained(net, x)
    first, again, other = (evaluate(net, x, explained, "sensitivity_n", seed=seed).table["value"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


SHARED = ["faithfulness_correlation", "faithfulness_estimate", "sensitivity_n", "infidelity"]


def test_all_metrics_that_need_no_order_together_cost_ten_methods_what_they_cost_one(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    maps = [kit.given(torch.randn_like(x), net, x, f"map {place}") for place in range(10)]
    one, ten = evaluate(net, x, maps[:1], SHARED), evaluate(net, x, maps, SHARED)
    assert ten.forwards == one.forwards


def test_five_robustness_metrics_cost_the_explanations_of_one(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(2, 2, 10, 10)
    explained = explain(net, x, gradient())
    names = ["max_sensitivity", "avg_sensitivity", "local_lipschitz", "relative_input_stability",
             "relative_output_stability"]  # fmt: skip
    one, five = (evaluate(net, x, explained, some) for some in (names[:1], names))
    assert five.backwards == one.backwards
    assert five.forwards - one.forwards == 16  # the scores of the copies, which the stability of the output needs


def test_no_pass_is_larger_than_the_batch_and_what_is_kept_grows_by_places_not_by_images(kit):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.largest = 0
            self.sum = torch.nn.Linear(256, 3)

        def forward(self, images):
            self.largest = max(self.largest, len(images))
            return self.sum(images.flatten(1))

    net, x = Counting().requires_grad_(False), torch.rand(6, 1, 16, 16)
    metrics = [METRICS.parse(name) for name in [*SHARED, "deletion", "insertion", "road", "irof", "sufficiency"]]

    def kept(count):
        maps = [kit.given(torch.randn_like(x), net, x, f"map {place}") for place in range(count)]
        net.largest = 0
        with Passes(Model.of(net), batch_size=5) as passes:
            bench = Bench(passes, (x,), maps)
            for metric in metrics:
                metric.score(bench)
        assert net.largest == 5
        return sum(_elements(value) for value in bench._shared.values())

    per_method = (kept(6) - kept(2)) / 4
    assert per_method <= 6 * 256 + 6 * 1500  # one order of places, and numbers: never a stack of images


def _elements(value):
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, dict):
        return sum(_elements(part) for part in value.values())
    if isinstance(value, list | tuple):
        return sum(_elements(part) for part in value)
    return sum(_elements(part) for part in vars(value).values()) if hasattr(value, "__dict__") else 0


def test_methods_of_one_gradient_are_explained_again_for_the_backward_passes_of_one(kit):
    net, x = kit.convolutional(), torch.rand(2, 2, 10, 10)
    same = [explain(net, x, method) for method in (gradient(), saliency(), input_x_gradient())]
    for name in ("max_sensitivity", "parameter_randomisation"):
        one, three = evaluate(net, x, same[:1], name), evaluate(net, x, same, name)
        assert three.backwards == one.backwards > 0
        assert _table(three).items() >= _table(one).items()


def test_a_method_that_writes_into_its_gradient_leaves_those_of_the_others_alone(kit):
    class greedy(Method):
        taxonomy = gradient.taxonomy

        def attribute(self, call):
            _, slopes = call.gradient()
            return Attribution(tuple(slope.mul_(0) for slope in slopes))

    net, x = kit.convolutional(), torch.rand(2, 2, 10, 10)
    spoilt = replace(explain(net, x, gradient()), method=greedy())
    clean = explain(net, x, saliency())
    beside, alone = evaluate(net, x, [spoilt, clean], "max_sensitivity"), evaluate(net, x, clean, "max_sensitivity")
    assert _table(beside).items() >= _table(alone).items()
