"""Truth: on linear nets the exact attribution is best, its negative worst, and chance in between."""

import pytest
import torch
from torch import nn

from pellucid.attribution import Explanation
from pellucid.errors import BadRecipe
from pellucid.evaluation import METRICS, evaluate

FAITHFULNESS = sorted(
    name for name, metric in METRICS.items() if metric.profile.family == "faithfulness" and name != "impact_score"
)
"""All but the one that says yes or no."""
SHAPES = [(2, 40), (2, 9, 8), (1, 5, 4, 6)]


@pytest.mark.parametrize("shape", SHAPES, ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", FAITHFULNESS)
def test_exact_is_best_negated_is_worst_and_random_lies_between(name, shape, kit):
    net, x = kit.linear(shape), torch.rand(6, *shape)
    exact = kit.exact(net, x)
    maps = {"exact": exact, "random": torch.randn_like(exact), "negated": -exact}
    metric = METRICS.parse(name)
    metric = metric.replace(fill="mean") if "fill" in metric.settings else metric
    scores = evaluate(net, x, [kit.given(v, net, x, n) for n, v in maps.items()], [metric])
    sign = 1 if metric.profile.direction == "higher" else -1
    best, middle, worst = (sign * torch.tensor(kit.column(scores, name, n)) for n in maps)
    assert (best > worst).all()
    assert (best >= middle - 1e-9).all()
    assert (middle >= worst - 1e-9).all()
    assert float(best.mean()) > float(middle.mean()) > float(worst.mean()) - 1e-9


@pytest.mark.parametrize("name", ["faithfulness_correlation", "sensitivity_n"])
def test_correlations_are_one_for_exact_and_near_chance_for_random(name, kit):
    net, x = kit.linear((3, 10, 10)), torch.rand(40, 3, 10, 10)
    exact = kit.exact(net, x)
    maps = {"exact": exact, "negated": -exact, "random": torch.randn_like(exact)}
    scores = evaluate(
        net, x, [kit.given(v, net, x, n) for n, v in maps.items()], name, ids=[str(row) for row in range(40)]
    )
    assert kit.column(scores, name, "exact") == pytest.approx([1.0] * 40, abs=1e-5)
    assert kit.column(scores, name, "negated") == pytest.approx([-1.0] * 40, abs=1e-5)
    assert abs(float(torch.tensor(kit.column(scores, name, "random")).mean())) < 0.08
    assert set(kit.column(scores, name, "random", "chance")) == {0.0}


def test_infidelity_forgives_scale_but_not_sign(kit):
    net, x = kit.linear((2, 8, 8)), torch.rand(3, 2, 8, 8)
    exact = kit.exact(net, x)
    maps = {"exact": exact, "scaled": 1000 * exact, "negated": -exact}
    scores = evaluate(net, x, [kit.given(v, net, x, n) for n, v in maps.items()], "infidelity")
    assert kit.column(scores, "infidelity", "exact") == pytest.approx([0.0] * 3, abs=1e-6)
    assert kit.column(scores, "infidelity", "scaled") == pytest.approx([0.0] * 3, abs=1e-6)
    assert kit.column(scores, "infidelity", "negated") == pytest.approx([1.0] * 3, abs=1e-6)


def _naive_curve(net, image, values, fill, counts, target):
    order = values.sum(0).flatten().argsort(descending=True).tolist()
    curve = []
    for count in counts:
        changed = image.clone().flatten(1)
        for position in order[:count]:
            changed[:, position] = fill.flatten(1)[:, position]
        curve.append(float(net(changed.reshape(1, *image.shape))[0, target]))
    return torch.tensor(curve, dtype=torch.float64)


def test_deletion_equals_a_loop_over_pixels_and_starts_at_the_untouched_image(kit):
    net, x = kit.convolutional().eval(), torch.rand(1, 2, 10, 10)
    values = torch.randn_like(x)
    with torch.no_grad():
        target = int(net(x).argmax())
        fill = x.mean((2, 3), keepdim=True).expand_as(x)
        curve = _naive_curve(net, x[0], values[0], fill[0], range(0, 101, 10), target)
    scores = evaluate(
        net, x, kit.given(values, net, x, "map"), ["deletion(steps=10)", "pixel_flipping(steps=3, until=0.3)"]
    )
    expected = float(torch.trapezoid(curve, dx=0.1))
    assert kit.column(scores, "deletion", "map") == pytest.approx([expected], abs=1e-6)
    fall = float(curve[0] - torch.trapezoid(curve[:4], dx=1 / 3))
    assert kit.column(scores, "pixel_flipping", "map") == pytest.approx([fall], abs=1e-6)


def test_insertion_of_all_and_deletion_of_the_least_relevant_are_the_same_curve(kit):
    net, x = kit.convolutional().eval(), torch.rand(2, 2, 10, 10)
    values = torch.randn_like(x)
    both = [kit.given(values, net, x, "map"), kit.given(-values, net, x, "negated")]
    scores = evaluate(net, x, both, ['insertion(fill="mean")', "deletion"])
    assert kit.column(scores, "insertion", "map") == pytest.approx(kit.column(scores, "deletion", "negated"), abs=1e-6)


@pytest.mark.parametrize("name", ["deletion", "insertion", "pixel_flipping"])
def test_area_does_not_grow_with_the_number_of_steps(name, kit):
    net, x = kit.linear((1, 16, 16)), torch.rand(2, 1, 16, 16)
    given = kit.given(kit.exact(net, x), net, x, "exact")
    scores = evaluate(net, x, given, [f"{name}(steps={steps})" for steps in (16, 64)])
    coarse, fine = scores.table["value"].to_pylist()[:2], scores.table["value"].to_pylist()[2:]
    assert coarse == pytest.approx(fine, rel=0.03, abs=0.01)


def test_all_channels_of_a_position_go_together(kit):
    seen = []

    def watch(images):
        seen.append(images.clone())
        return images.flatten(1).sum(1, keepdim=True)

    x = torch.rand(1, 3, 4, 4) + 1
    evaluate(watch, x, kit.given(torch.rand(1, 3, 4, 4), watch, x, "map"), 'deletion(fill="zero", steps=4)')
    hidden = torch.cat(seen)[:, :] == 0
    assert hidden.any()
    assert torch.equal(hidden.all(1), hidden.any(1))


def test_a_constant_map_has_no_correlation_and_says_so(kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(2, 1, 6, 6)
    scores = evaluate(
        net, x, kit.given(torch.ones_like(x), net, x, "flat"), ["sensitivity_n", "faithfulness_correlation"]
    )
    assert scores.table["value"].null_count == 4
    assert all("do not change" in reason for reason in scores.table["reason"].to_pylist())


def test_a_model_that_never_changes_gives_no_correlation(kit):
    def deaf(images):
        return images.new_ones(len(images), 2)

    x = torch.rand(2, 1, 6, 6)
    scores = evaluate(deaf, x, kit.given(torch.rand_like(x), deaf, x, "map"), ["sensitivity_n", "infidelity"])
    assert scores.table["value"].null_count == 4


def test_the_score_read_is_the_explanations_own_target(kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(3, 1, 6, 6)
    other = (net(x).argmax(1) + 1) % 3
    values = net[1].weight[other].reshape(x.shape) * (x - x.mean((2, 3), keepdim=True))
    told = kit.given(values, net, x, "other class", target=other.tolist())
    untold = kit.given(values, net, x, "predicted class")
    scores = evaluate(net, x, [told, untold], "sensitivity_n")
    assert kit.column(scores, "sensitivity_n", "other class") == pytest.approx([1.0] * 3, abs=1e-5)
    assert max(kit.column(scores, "sensitivity_n", "predicted class")) < 0.9
    assert kit.column(scores, "sensitivity_n", "other class", "target") == [f"Class(index=({int(c)},))" for c in other]


def test_a_coarse_map_is_scored_and_its_step_recorded(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    scores = evaluate(net, x, kit.given(torch.rand(2, 5, 4, 4), net, x, "cam"), ["deletion", "sensitivity_n"])
    assert scores.table["value"].null_count == 0
    assert all("upsample(shape=(8, 8))" in step for step in scores.table["step"].to_pylist())


def test_a_net_of_two_inputs_is_scored_over_both():
    class Both(nn.Module):
        def forward(self, image, table):
            return image.sum((1, 2, 3))[:, None] + 3 * table.sum(1, keepdim=True)

    net, x = Both(), (torch.rand(2, 1, 4, 4), torch.rand(2, 5))
    exact = Explanation.from_values((x[0], 3 * x[1]), net, x, name="exact")
    scores = evaluate(net, x, exact, ['sensitivity_n(fill="zero")'])
    assert scores.table["value"].to_pylist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_an_unknown_fill_or_an_impossible_share_is_refused():
    for text in ('deletion(fill="purple")', "faithfulness_correlation(share=1.5)", "sensitivity_n(shares=())"):
        with pytest.raises(BadRecipe):
            METRICS.parse(text)
