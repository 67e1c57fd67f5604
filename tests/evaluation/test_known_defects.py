"""One test for each defect measured in the leading metric library: each would fail here if pellucid had it."""

import pytest
import torch

from pellucid import explain
from pellucid.attribution import Explanation
from pellucid.attribution.gradient import gradient, input_x_gradient
from pellucid.attribution.method import Method
from pellucid.evaluation import METRICS, evaluate


def _values(net, x, maps, text, **more):
    scores = evaluate(net, x, maps, text, **more)
    count = len(maps) if isinstance(maps, list) else 1
    return torch.tensor(
        [float("nan") if value is None else value for value in scores.table["value"].to_pylist()], dtype=torch.float64
    ).reshape(count, -1)


@pytest.fixture
def rgb(kit):
    net, x = kit.linear((3, 12, 12)), torch.rand(9, 3, 12, 12)
    exact = kit.exact(net, x)
    maps = {"exact": exact, "random": torch.randn_like(exact), "negated": -exact}
    return net, x, [kit.given(v, net, x, n) for n, v in maps.items()]


def test_01_areas_under_curves_are_computed_with_the_installed_numpy(rgb):
    net, x, maps = rgb
    for text in ("deletion", "insertion", "pixel_flipping", "irof", "selectivity"):
        assert _values(net, x, maps, text).isfinite().all()


def test_02_monotonicity_tells_exact_random_and_negated_maps_apart(rgb):
    net, x, maps = rgb
    exact, random, negated = _values(net, x, maps, "monotonicity")
    assert (exact > random).all()
    assert (random > negated).all()


def test_03_sensitivity_n_gives_exact_maps_one_and_scores_all_images_not_the_first_batch(rgb):
    net, x, maps = rgb
    small = _values(net, x, maps[:1], "sensitivity_n", batch_size=2)
    assert small.tolist()[0] == pytest.approx([1.0] * 9, abs=1e-5)
    assert small.tolist()[0] == pytest.approx(_values(net, x, maps[:1], "sensitivity_n").tolist()[0], abs=1e-6)


def test_04_road_takes_rgb_maps_of_one_or_three_channels_and_scores_all_images(rgb, kit):
    net, x, maps = rgb
    pooled = kit.given(maps[0].values.sum(1, keepdim=True), net, x, "one channel")
    small = _values(net, x, [maps[0], pooled], "road", batch_size=4)
    assert small.isfinite().all()
    assert torch.allclose(small[0], small[1], atol=1e-5)
    assert torch.allclose(small, _values(net, x, [maps[0], pooled], "road"), atol=1e-5)


def test_05_irof_takes_rgb_and_flat_noisy_images_and_weighs_images_alike(rgb, kit):
    net, x, maps = rgb
    assert _values(net, x, maps[:1], "irof").isfinite().all()
    dull = 0.5 + 0.001 * torch.randn(4, 3, 12, 12)
    values = _values(net, dull, [kit.given(kit.exact(net, dull), net, dull, "exact")], "irof")
    assert values.isfinite().all()
    assert values.abs().max() < 50
    net[1].weight.abs_()
    random = [kit.given(torch.randn_like(x), net, x, "random")]
    rough, fine = (float(_values(net, x, random, f'irof(fill="zero", segments={count})').mean()) for count in (8, 64))
    assert rough == pytest.approx(0.5, abs=0.12)  # the score falls evenly, however many superpixels it takes
    assert fine == pytest.approx(0.5, abs=0.12)


def test_06_infidelity_is_nought_for_a_linear_nets_own_weights_at_any_scale(rgb, kit):
    net, x, _ = rgb
    maps = [kit.given(factor * kit.weights(net, x) * x, net, x, f"times {factor}") for factor in (1, 10, 0.01)]
    values = _values(net, x, maps, 'infidelity(fill="zero")')
    assert values.abs().max() < 1e-9
    odd, other = torch.rand(2, 3, 11, 7), kit.linear((3, 11, 7))
    assert _values(other, odd, [kit.given(odd, other, odd, "map")], "infidelity").isfinite().all()


@pytest.mark.parametrize(
    "name", sorted(name for name, metric in METRICS.items() if metric.profile.family == "faithfulness")
)
def test_07_the_declared_direction_is_the_one_in_which_exact_maps_lie(name, rgb):
    net, x, maps = rgb
    exact, _, negated = _values(net, x, maps, name).nanmean(1)
    assert (exact > negated) == (METRICS[name].profile.direction == "higher")


def test_08_curves_start_at_the_untouched_image_and_do_not_grow_with_their_steps(rgb):
    net, x, maps = rgb
    for name in ("pixel_flipping", "deletion", "insertion"):
        few, many = (_values(net, x, maps[:1], f"{name}(steps={steps})") for steps in (32, 64))
        assert torch.allclose(few, many, atol=0.02 * float(many.abs().max()) + 1e-3)
    before = _values(net, x, maps[:1], "deletion(steps=1)")[0]
    whole = net(x).amax(1)
    gone = net(x.mean((2, 3), keepdim=True).expand_as(x)).gather(1, net(x).argmax(1, keepdim=True))[:, 0]
    assert torch.allclose(before, ((whole + gone) / 2).double(), atol=1e-5)


@pytest.mark.parametrize("name", ["local_lipschitz", "max_sensitivity", "relative_input_stability"])
def test_09_a_score_does_not_move_when_another_images_map_is_a_hundred_times_as_large(name, kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(6, 2, 10, 10)
    louder = torch.cat([x[:1], 100 * x[1:2], x[2:]])
    alone = _values(net, x[:1], explain(net, x[:1], input_x_gradient()), name)
    for images in (x, louder):
        assert _values(net, images, explain(net, images, input_x_gradient()), name)[0, 0] == pytest.approx(
            float(alone[0, 0]), rel=1e-4
        )


def test_10_an_empty_mask_is_no_hit_and_batches_change_no_localisation(rgb, kit):
    net, x, maps = rgb
    masks = torch.zeros(9, 12, 12)
    masks[1:, :4, :5] = 1
    names = [
        name
        for name, metric in METRICS.items()
        if metric.profile.family == "localisation" and name != "impact_coverage"
    ]
    for name in names:
        whole, small = (_values(net, x, maps, name, masks=masks, batch_size=size) for size in (64, 2))
        assert whole[:, 0].isnan().all()
        assert whole[:, 1:].isfinite().all()
        assert torch.equal(whole.nan_to_num(), small.nan_to_num())


def test_11_signed_maps_keep_shares_in_range_and_entropies_finite(rgb):
    net, x, maps = rgb
    masks = torch.zeros(9, 12, 12)
    masks[:, :4] = 1
    for name in ("relevance_mass", "complexity", "sparseness", "effective_complexity"):
        values = _values(net, x, maps, name, masks=masks)
        low, high = METRICS[name].profile.range
        assert values.isfinite().all()
        assert ((values >= low) & (values <= high)).all()


def test_12_completeness_is_a_gap_and_forgives_rounding(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(5, 2, 10, 10)
    exact = explain(net, x, 'deeplift(baseline="zero")')
    assert _values(net, x, exact, "completeness_gap").max() < 1e-4
    assert METRICS["completeness_gap"].profile.resolution > 0


def test_13_the_untouched_model_is_not_among_the_randomised_ones(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(6, 2, 10, 10)
    ids = list("abcdef")
    whole = _values(net, x, explain(net, x, gradient(), ids=ids), "parameter_randomisation(stages=1)")
    assert float(whole.mean()) < 0.5  # with the untouched model's 1 in the mean it could not be below 0.5


def test_14_hiding_several_positions_at_a_time_neither_fails_nor_needs_minutes(rgb):
    net, x, maps = rgb
    scores = evaluate(net, x, maps, "faithfulness_estimate(segments=20)")
    assert scores.table["value"].null_count == 0
    assert scores.forwards < 9 * 30


def test_15_a_metric_that_cannot_score_says_why_and_the_others_go_on(rgb):
    net, x, maps = rgb
    scores = evaluate(net, x, maps, ["max_sensitivity", "relevance_mass", "sparseness"])
    rows = scores.table.to_pylist()
    assert [row["value"] is None for row in rows] == [True] * 54 + [False] * 27
    assert all(bool(row["reason"]) == (row["value"] is None) for row in rows)


def test_15_settings_of_one_method_do_not_leak_into_the_next(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(3, 2, 10, 10)
    one = explain(net, x, "smoothgrad(samples=2, sigma=0.5)")
    two = explain(net, x, "smoothgrad(samples=2)")
    assert isinstance(two.method, Method)
    both, alone = (evaluate(net, x, some, "max_sensitivity").table for some in ([one, two], [two]))
    assert both["value"].to_pylist()[3:] == pytest.approx(alone["value"].to_pylist(), rel=1e-5)


def test_traps_ties_fall_by_chance_not_by_place_and_constant_maps_are_scored_or_explained(kit):
    net, x = kit.linear((1, 12, 12)), torch.rand(40, 1, 12, 12)
    masks = torch.zeros(40, 12, 12)
    masks[:, :6] = 1  # the first pixels in memory: ties by index would all hit
    constant = Explanation.from_values(torch.ones_like(x), net, x, name="flat", ids=[str(row) for row in range(40)])
    found = _values(net, x, constant, "relevance_rank", masks=masks)
    assert float(found.mean()) == pytest.approx(0.5, abs=0.05)
    table = evaluate(net, x, constant, [*METRICS], masks).table.to_pylist()
    assert all((row["value"] is None) == bool(row["reason"]) for row in table)
