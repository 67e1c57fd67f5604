"""Metrics that remove regions or the most relevant part: closed forms, loops, products, and what they refuse."""

import pytest
import torch
from torch import nn

from pellucid.attribution import Explanation
from pellucid.evaluation import METRICS, evaluate
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.regions import patches, superpixels
from pellucid.models import Model, Passes, targets

SCALE_FREE = ["faithfulness_estimate", "irof", "monotonicity", "sufficiency"]
OF_MAPS = [*SCALE_FREE, "selectivity", "prediction_gap", "impact_score"]


class Product(nn.Module):
    """The product of the four quarters' means, each given by its brightness: nothing counts on its own."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, x.shape[-1] // 2).flatten(1).prod(1, keepdim=True)


def _bench(net, x, *maps):
    return Bench(Passes(Model.of(net)).__enter__(), (x,), list(maps))


def _values(scores, metric, method):
    return torch.tensor(
        [
            row["value"]
            for row in scores.table.to_pylist()
            if row["metric"].startswith(metric) and row["method"] == method
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("name", ["faithfulness_estimate", "monotonicity"])
def test_exact_maps_correlate_to_one_negated_to_minus_one_and_random_by_chance(name, kit):
    net, x = kit.linear((3, 10, 10)), torch.rand(40, 3, 10, 10)
    exact = kit.exact(net, x)
    maps = {"exact": exact, "negated": -exact, "random": torch.randn_like(exact)}
    ids = [str(row) for row in range(40)]
    scores = evaluate(net, x, [kit.given(v, net, x, n, ids=ids) for n, v in maps.items()], name)
    assert kit.column(scores, name, "exact") == pytest.approx([1.0] * 40, abs=1e-5)
    assert kit.column(scores, name, "negated") == pytest.approx([-1.0] * 40, abs=1e-5)
    assert abs(float(_values(scores, name, "random").mean())) < 0.12
    assert set(kit.column(scores, name, "random", "chance")) == {0.0}


def test_monotonicity_tells_orders_apart_where_nothing_counts_against_the_class(kit):
    net, x = kit.linear((1, 8, 8)), 0.1 + torch.rand(4, 1, 8, 8)
    net[1].weight.abs_()
    exact = net[1].weight[net(x).argmax(1)].reshape(x.shape) * x
    maps = [kit.given(v, net, x, n) for n, v in (("exact", exact), ("negated", -exact))]
    scores = evaluate(net, x, maps, 'monotonicity(fill="zero")')
    assert kit.column(scores, "monotonicity", "exact") == [1.0] * 4
    assert kit.column(scores, "monotonicity", "negated") == [-1.0] * 4


@pytest.mark.parametrize("metric", [*SCALE_FREE, "selectivity", "prediction_gap"])
def test_on_a_product_the_right_map_beats_its_negative(metric, kit):
    net, x = Product(), torch.full((1, 1, 8, 8), 1.0)
    x[:, :, :4, :4] = 3.0
    exact = torch.rand(1, 1, 8, 8) * 1e-3 + x  # removing one quarter by its mean of 1 cuts the product to a third
    maps = [kit.given(v, net, x, n) for n, v in (("exact", exact), ("negated", -exact))]
    recipe = METRICS.parse(metric).replace(fill=1.0)
    scores = evaluate(net, x, maps, [recipe])
    sign = 1 if recipe.profile.direction == "higher" else -1
    assert sign * kit.column(scores, metric, "exact")[0] > sign * kit.column(scores, metric, "negated")[0]


def test_position_by_position_the_estimate_is_the_published_one(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(2, 2, 10, 10)
    values = torch.randn_like(x)
    scores = evaluate(net, x, kit.given(values, net, x, "map"), "faithfulness_estimate(segments=100)")
    for row in range(2):
        target = int(net(x[row : row + 1]).argmax())
        falls = []
        for position in range(100):
            changed = x[row].clone().flatten(1)
            changed[:, position] = x[row].flatten(1).mean(1)
            falls.append(float(net(x[row : row + 1])[0, target] - net(changed.reshape(1, 2, 10, 10))[0, target]))
        pair = torch.stack([values[row].sum(0).flatten(), torch.tensor(falls)])
        found = kit.column(scores, "faithfulness_estimate", "map")[row]
        assert found == pytest.approx(float(torch.corrcoef(pair)[0, 1]), abs=1e-3)


@pytest.mark.parametrize(("metric", "cut"), [("selectivity", patches), ("irof", superpixels)])
def test_region_curves_equal_a_loop_over_regions(metric, cut, kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(2, 2, 10, 10)
    values = torch.randn_like(x)
    given = kit.given(values, net, x, "map")
    labels = cut(_bench(net, x, given), 9).labels
    found = kit.column(evaluate(net, x, given, f"{metric}(segments=9)"), metric, "map")
    for row in range(2):
        pooled, own = values[row].sum(0).flatten(), labels[row]
        order = sorted(set(own.tolist()), key=lambda label: -float(pooled[own == label].mean()))
        changed, scores, shares = x[row].clone().flatten(1), [], [0.0]
        target = int(net(x[row : row + 1]).argmax())
        scores.append(float(net(x[row : row + 1])[0, target]))
        for label in order:
            changed[:, own == label] = x[row].flatten(1).mean(1, keepdim=True)
            scores.append(float(net(changed.reshape(1, 2, 10, 10))[0, target]))
            shares.append(shares[-1] + float((own == label).double().mean()))
        area = float(torch.trapezoid(torch.tensor(scores).double(), torch.tensor(shares).double()))
        whole = max(abs(scores[0] - scores[-1]), 0.05 * (abs(scores[0]) + abs(scores[-1])))
        expected = area if metric == "selectivity" else (scores[0] - area) / whole
        assert found[row] == pytest.approx(expected, abs=1e-4)


def test_irof_does_not_grow_with_the_number_of_superpixels_and_random_maps_get_a_half(kit):
    net, x = kit.linear((1, 24, 24)), torch.rand(20, 1, 24, 24)
    net[1].weight.abs_()
    exact = net[1].weight[net(x).argmax(1)].reshape(x.shape) * x
    maps = [kit.given(v, net, x, n) for n, v in (("exact", exact), ("random", torch.randn_like(x)))]
    few, many = (evaluate(net, x, maps, f'irof(segments={count}, fill="zero")') for count in (12, 48))
    assert float(_values(few, "irof", "random").mean()) == pytest.approx(0.5, abs=0.06)
    assert float(_values(many, "irof", "random").mean()) == pytest.approx(0.5, abs=0.06)
    assert float(_values(few, "irof", "exact").mean()) == pytest.approx(
        float(_values(many, "irof", "exact").mean()), abs=0.12
    )


def test_a_small_score_does_not_make_irof_and_sufficiency_explode(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(6, 1, 8, 8)
    plain = net(x)
    net[1].bias.sub_(plain.amax(1).mean() - 1e-6)
    scores = evaluate(net, x, kit.given(torch.randn_like(x), net, x, "map"), ["irof", "sufficiency"])
    assert scores.table["value"].null_count == 0
    assert max(abs(value) for value in scores.table["value"].to_pylist()) < 40


def test_gap_and_sufficiency_of_a_linear_net_are_sums_of_its_weights(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(3, 1, 8, 8)
    exact = kit.weights(net, x) * x
    values = torch.randn_like(x)
    metrics = [f'{name}(fill="zero", share=0.25)' for name in ("prediction_gap", "sufficiency")]
    scores = evaluate(net, x, kit.given(values, net, x, "map"), metrics)
    top = values.flatten(1).argsort(dim=1, descending=True)[:, :16]
    inside, total = exact.flatten(1).gather(1, top).sum(1), exact.flatten(1).sum(1)
    assert kit.column(scores, "prediction_gap", "map") == pytest.approx((2 * inside - total).tolist(), abs=1e-5)
    whole, nothing = total + net[1].bias[net(x).argmax(1)], net[1].bias[net(x).argmax(1)]
    scale = torch.maximum(total.abs(), 0.05 * (whole.abs() + nothing.abs()))
    assert kit.column(scores, "sufficiency", "map") == pytest.approx((inside / scale).tolist(), abs=1e-4)


def _decision(kit):
    """A net of one logit whose sign hangs on few pixels, which lie elsewhere in every image."""
    net = kit.linear((1, 10, 10), classes=1)
    net[1].weight.fill_(1.0)
    net[1].bias.fill_(-4.0)
    x = torch.zeros(30, 1, 10, 10)
    for row in range(30):
        x[row].view(-1)[torch.randperm(100)[:8]] = 1.0
    return net, x


def test_impact_is_one_for_exact_nought_for_negated_and_rare_for_random(kit):
    net, x = _decision(kit)
    maps = {"exact": x.clone(), "negated": -x, "random": torch.randn_like(x)}
    scores = evaluate(net, x, [kit.given(v, net, x, n) for n, v in maps.items()], 'impact_score(fill="zero")')
    assert kit.column(scores, "impact_score", "exact") == [1.0] * 30
    assert kit.column(scores, "impact_score", "negated") == [0.0] * 30
    assert float(_values(scores, "impact_score", "random").mean()) < 0.2


def test_impact_counts_a_flip_of_many_classes_and_a_cut_of_confidence(kit):
    class Three(nn.Module):
        def forward(self, x):
            total = x.sum((1, 2, 3))
            return torch.stack([total, torch.full_like(total, 1.0), torch.full_like(total, 0.5)], 1)

    x = torch.zeros(2, 1, 4, 4)
    x[0, 0, 0, 0] = 3.0  # decided by one pixel
    x[1, 0, 0, 0], x[1, 0, 1, 1] = 2.0, 2.0  # without one of two still decided, less sure
    maps = kit.given(x + torch.rand_like(x) * 1e-3, Three(), x, "map")

    def hits(text):
        return kit.column(evaluate(Three(), x, maps, text), "impact_score", "map")

    assert hits('impact_score(fill="zero", share=0.0625)') == [1.0, 0.0]
    assert hits('impact_score(fill="zero", share=0.0625, cut=0.9)') == [1.0, 1.0]


def test_impact_needs_a_decision_on_the_explained_class(kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(3, 1, 6, 6)
    other = ((net(x).argmax(1) + 1) % 3).tolist()
    values = torch.randn_like(x)
    told = kit.given(values, net, x, "other", target=other)
    contrast = kit.given(values, net, x, "contrast", target=targets.Contrast(0, 1))
    odds = kit.given(values, net, x, "odds", target=targets.LogOdds(tuple(net(x).argmax(1).tolist())))
    scores = evaluate(net, x, [told, contrast, odds], "impact_score")
    assert "does not decide" in kit.column(scores, "impact_score", "other", "reason")[0]
    assert "no class" in kit.column(scores, "impact_score", "contrast", "reason")[0]
    assert None not in kit.column(scores, "impact_score", "odds")


@pytest.mark.parametrize("name", OF_MAPS)
def test_the_scale_of_the_map_does_not_matter(name, kit):
    net, x = kit.linear((2, 8, 8)), torch.rand(4, 2, 8, 8)
    values = torch.randn_like(x)
    scores = evaluate(net, x, [kit.given(v, net, x, n) for n, v in (("map", values), ("loud", 512 * values))], name)
    assert kit.column(scores, name, "map") == kit.column(scores, name, "loud")


@pytest.mark.parametrize("name", SCALE_FREE)
def test_the_scale_of_the_score_does_not_matter_to_those_that_say_so(name, kit):
    net, louder, x = kit.linear((2, 8, 8)), kit.linear((2, 8, 8)), torch.rand(4, 2, 8, 8)
    louder[1].weight.mul_(64)
    louder[1].bias.mul_(64)
    values = torch.randn_like(x)
    quiet, loud = (evaluate(one, x, kit.given(values, one, x, "map"), name).table["value"] for one in (net, louder))
    assert quiet.to_pylist() == pytest.approx(loud.to_pylist(), abs=1e-4)


def test_a_model_that_never_changes_gives_reasons_and_no_numbers(kit):
    def deaf(images):
        return images.new_zeros(len(images), 2)

    x = torch.rand(2, 1, 6, 6)
    found = evaluate(deaf, x, kit.given(torch.rand_like(x), deaf, x, "map"), SCALE_FREE).table
    assert found["value"].null_count == 8
    assert all(found["reason"].to_pylist())


def test_regions_cover_every_position_once_and_do_not_know_other_images(kit):
    net, x = kit.linear((1, 12, 12)), torch.rand(3, 1, 12, 12)
    given = kit.given(torch.rand_like(x), net, x, "map")
    bench, alone = _bench(net, x, given), _bench(net, x[1:2], given[[1]])
    for cut in (patches, superpixels):
        regions = cut(bench, 9)
        assert (regions.sizes().sum(1) == 144).all()
        assert torch.equal(regions.labels[1:2], cut(alone, 9).labels)
        assert torch.equal(regions.order(bench, 0)[1:2], cut(alone, 9).order(alone, 0))
        assert torch.allclose(regions.shares(bench, 0)[:, -1], torch.ones(3, dtype=torch.float64))
    assert len(patches(bench, 9)) == 9


def test_inputs_without_common_axes_have_patches_but_no_superpixels():
    class Both(nn.Module):
        def forward(self, image, table):
            return image.sum((1, 2, 3))[:, None] + 3 * table.sum(1, keepdim=True)

    net, x = Both(), (torch.rand(2, 1, 4, 4), torch.rand(2, 5))
    exact = Explanation.from_values((x[0], 3 * x[1]), net, x, name="exact")
    scores = evaluate(net, x, exact, ['faithfulness_estimate(fill="zero")', 'irof(fill="zero")'])
    assert scores.table["value"].to_pylist() == pytest.approx([1.0, 1.0, None, None], abs=1e-5)
    assert "same spatial axes" in scores.table["reason"][2].as_py()


def test_metrics_of_one_order_share_its_forwards(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    given = kit.given(torch.randn_like(x), net, x, "map")
    alone = evaluate(net, x, given, "deletion").forwards
    assert evaluate(net, x, given, ["deletion", "monotonicity"]).forwards == alone
    assert evaluate(net, x, given, ["deletion", "prediction_gap"]).forwards == alone + 2
    assert evaluate(net, x, given, ["deletion", "prediction_gap", "sufficiency"]).forwards == alone + 2
    maps = [given, kit.given(torch.randn_like(x), net, x, "other")]
    one, two = (evaluate(net, x, some, "faithfulness_estimate").forwards for some in (maps[:1], maps))
    assert one == two
