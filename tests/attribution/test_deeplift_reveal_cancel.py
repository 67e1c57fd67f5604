"""RevealCancel: the toys of the paper in closed form, a naive loop of its equations, and what must change nothing."""

import operator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.attribution.method import METHODS


def difference(weights: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    return layer


@pytest.mark.parametrize(("a", "b"), [(10.0, 6.0), (6.0, 10.0), (3.0, 3.0), (0.0, 2.0)])
def test_a_minimum_made_of_relus_is_shared_evenly(nets, a, b):
    """min(a, b) = a − relu(a − b): Rescale gives all to one of them."""
    net = nets.Call(lambda x, less: x[:, :1] - functional.relu(less(x)), difference([1.0, -1.0]))
    found = explain(net, torch.tensor([[a, b]]), "deeplift_reveal_cancel")
    torch.testing.assert_close(found.values, torch.tensor([[min(a, b) / 2] * 2]))
    if a != b:
        assert 0.0 in explain(net, torch.tensor([[a, b]]), "deeplift").values.tolist()[0]


@pytest.mark.parametrize(("a", "b"), [(10.0, 6.0), (2.0, 7.0)])
def test_a_maximum_made_of_relus_shares_as_a_fair_game_does(nets, a, b):
    net = nets.Call(lambda x, less: x[:, 1:] + functional.relu(less(x)), difference([1.0, -1.0]))
    found = explain(net, torch.tensor([[a, b]]), "deeplift_reveal_cancel")
    wanted = torch.tensor([[(max(a, b) - b + a) / 2, (max(a, b) - a + b) / 2]])  # Shapley values of max(a, b)
    torch.testing.assert_close(found.values, wanted)


def test_what_cancels_within_a_sum_is_told_apart(nets):
    """relu(a − b) with a = b: nothing comes out, and yet each did something to it."""
    net = nets.Call(lambda x, less: functional.relu(less(x)), difference([1.0, -1.0]))
    x = torch.tensor([[4.0, 4.0]])
    torch.testing.assert_close(explain(net, x, "deeplift_reveal_cancel").values, torch.tensor([[2.0, -2.0]]))
    assert float(explain(net, x, "deeplift").values.abs().max()) == 0


def naive(layers: list[nn.Linear], x: Tensor, b: Tensor, target: int) -> Tensor:
    """The paper's equations, unit by unit, for linear layers with ReLUs between them."""
    points = [(x, b)]
    for place, layer in enumerate(layers):
        points.append(tuple(layer(p.relu() if place else p) for p in points[-1]))
    inputs = [tuple(p.relu() if place else p for p in pair) for place, pair in enumerate(points[:-1])]
    up = down = torch.eye(len(points[-1][0]), dtype=x.dtype)[target]
    for place in reversed(range(len(layers))):
        weight, apart = layers[place].weight, inputs[place][0] - inputs[place][1]
        slopes = torch.zeros_like(apart)
        for i in range(len(apart)):
            for j in range(len(weight)):
                sign = weight[j, i] * apart[i]
                slopes[i] += weight[j, i] * (up[j] if sign > 0 else down[j] if sign < 0 else (up[j] + down[j]) / 2)
        if not place:
            return slopes * apart
        up, down = torch.zeros_like(slopes), torch.zeros_like(slopes)
        entered = layers[place - 1].weight * (inputs[place - 1][0] - inputs[place - 1][1])
        for i in range(len(apart)):
            start = points[place][1][i]
            more, less = entered[i].clamp(min=0).sum(), entered[i].clamp(max=0).sum()
            both, one, other = (v.relu() - start.relu() for v in (start + more + less, start + more, start + less))
            whole = both / (more + less)
            up[i] = slopes[i] * ((one + both - other) / 2 / more if more != 0 else whole)
            down[i] = slopes[i] * ((other + both - one) / 2 / less if less != 0 else whole)
    raise AssertionError


def test_a_net_of_linear_layers_equals_a_naive_loop(nets, pixels):
    net = nets.lived_in(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    ).double()
    x = pixels(4, 3, 2, 2).double()
    layers = [part for part in net if isinstance(part, nn.Linear)]
    with torch.no_grad():
        wanted = torch.stack([naive(layers, row.flatten(), torch.full((12,), 0.3).double(), 2) for row in x]).view_as(x)
    found = explain(net, x, "deeplift_reveal_cancel(baseline=0.3)", target=2)
    torch.testing.assert_close(found.values, wanted)
    assert not torch.allclose(found.values, explain(net, x, "deeplift(baseline=0.3)", target=2).values, rtol=0.01)


@pytest.mark.parametrize("spelling", [
    torch.relu, torch.relu_, lambda h: functional.relu(h, inplace=True), lambda h: h.clamp(min=0)])  # fmt: skip
def test_every_spelling_of_a_nonlinearity_reveals_the_same(nets, pixels, spelling):
    parts = nets.lived_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(16, 2)))
    one, other = (nets.Call(lambda x, a, b, f=f: b(f(a(x)).flatten(1)), *parts) for f in (functional.relu, spelling))
    found, wanted = (
        explain(net, pixels(3, 3, 4, 4), "deeplift_reveal_cancel(baseline=0.2)", target=0) for net in (one, other)
    )
    torch.testing.assert_close(found.values, wanted.values)


def test_a_batch_norm_reveals_what_its_convolution_with_it_folded_in_does(nets, pixels):
    torch.manual_seed(0)
    convolution, norm, head = nets.lived_in(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 2))
    ).eval()
    norm.weight.data[1:3] *= -1
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = nn.Conv2d(3, 4, 3)
    folded.weight.data = (convolution.weight * scale.view(-1, 1, 1, 1)).detach()
    folded.bias.data = ((convolution.bias - norm.running_mean) * scale + norm.bias).detach()
    ours = nets.Call(lambda x, a, n, b: b(n(a(x)).relu().flatten(1)), convolution, norm, head)
    same = nets.Call(lambda x, a, b: b(a(x).relu().flatten(1)), folded, head)
    found, wanted = (
        explain(net, pixels(3, 3, 4, 4), "deeplift_reveal_cancel(baseline=0.2)", target=0) for net in (ours, same)
    )
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("joined", [
    lambda h, s: h + s, lambda h, s: h.add(s), lambda h, s: h.add_(s), torch.add, operator.iadd])  # fmt: skip
def test_a_residual_sum_carries_the_parts_of_both(nets, pixels, joined):
    """One linear layer [W₁ + W₂ seen apart] against two whose outputs are added."""
    parts = nets.lived_in(nn.Sequential(nn.Linear(12, 6), nn.Linear(12, 6), nn.Linear(6, 2)))
    split = nets.Call(lambda x, a, b, c: c(joined(a(x[:, :12]), b(x[:, 12:])).relu()), *parts)
    both = nn.Linear(24, 6)
    both.weight.data = torch.cat([parts[0].weight, parts[1].weight], 1).detach()
    both.bias.data = (parts[0].bias + parts[1].bias).detach()
    whole = nets.Call(lambda x, a, c: c(a(x).relu()), both, parts[2])
    found, wanted = (
        explain(net, pixels(4, 24), "deeplift_reveal_cancel(baseline=0.2)", target=1) for net in (split, whole)
    )
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-5)


def test_a_term_taken_away_lowers_by_what_raised_it(nets, pixels):
    parts = nets.lived_in(nn.Sequential(nn.Linear(12, 6), nn.Linear(12, 6), nn.Linear(6, 2)))
    turned = nn.Linear(12, 6)
    turned.weight.data, turned.bias.data = -parts[1].weight.detach(), -parts[1].bias.detach()
    less = nets.Call(lambda x, a, b, c: c((a(x) - b(x)).relu()), *parts)
    more = nets.Call(lambda x, a, b, c: c((a(x) + b(x)).relu()), parts[0], turned, parts[2])
    found, wanted = (
        explain(net, pixels(4, 12), "deeplift_reveal_cancel(baseline=0.2)", target=1) for net in (less, more)
    )
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "turned",
    [
        lambda h: 1 - h,
        lambda h: torch.sub(1 - h, 0.5) + 0.5,
        lambda h: h.neg() + 1,
        lambda h: 3 * h / -3 + 1,
        lambda h: (h * 1).mul_(-1).add_(1),
    ],
)
def test_a_layer_taken_from_a_constant_is_turned_over(nets, pixels, turned):
    parts = nets.lived_in(nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 2)))
    other = nn.Linear(12, 6)
    other.weight.data, other.bias.data = -parts[0].weight.detach(), 1 - parts[0].bias.detach()
    net = nets.Call(lambda x, a, b: b(turned(a(x)).relu()), *parts)
    same = nets.Call(lambda x, a, b: b(a(x).relu()), other, parts[1])
    found, wanted = (
        explain(way, pixels(4, 12), "deeplift_reveal_cancel(baseline=0.2)", target=1) for way in (net, same)
    )
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-5)


def test_parts_are_carried_through_moves_and_averages(nets, pixels):
    parts = nets.lived_in(nn.Sequential(nn.Conv2d(3, 4, 2), nn.Linear(36, 2)))

    def moved(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        h = torch.cat([a(x)[:, :2], a(x)[:, torch.tensor([2, 3])]], 1).permute(0, 2, 3, 1).reshape(len(x), -1, 4)
        return b(functional.dropout(h, training=False).transpose(1, 2).relu().flatten(1))

    net, same = (nets.Call(way, *parts) for way in (moved, lambda x, a, b: b(a(x).relu().flatten(1))))
    found, wanted = (
        explain(way, pixels(3, 3, 4, 4), "deeplift_reveal_cancel(baseline=0.1)", target=0) for way in (net, same)
    )
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-6)


def test_what_is_joined_keeps_its_own_parts(nets, pixels):
    """A dense block: the image itself, which has no parts, a constant, and what convolutions made."""
    parts = nets.lived_in(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Linear(128, 2)))
    still = pixels(3, 1, 4, 4, seed=7)
    net = nets.Call(lambda x, a, b: b(torch.cat([x, a(x), still[: len(x)]], 1).relu().flatten(1)), *parts)
    same = nets.Call(
        lambda x, a, b: b(torch.cat([x.relu(), a(x).relu(), still[: len(x)].relu()], 1).flatten(1)), *parts
    )
    x = pixels(3, 3, 4, 4)
    found, wanted = (explain(way, x, "deeplift_reveal_cancel(baseline=0.1)", target=0) for way in (net, same))
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found.values, explain(net, x, "deeplift(baseline=0.1)", target=0).values, rtol=0.01)


@pytest.mark.parametrize("baseline", ['"zero"', '"blur"', "0.3"])
def test_differences_add_up_on_a_resnet_and_rows_do_not_meet(nets, pixels, baseline):
    net, x = nets.lived_in(nets.ResNet(8)), pixels(4, 3, 12, 12)
    found = explain(net, x, f"deeplift_reveal_cancel(baseline={baseline})", target=(0, 1, 2, 0))
    assert (found.gap < 1e-5 * found.values.abs().flatten(1).sum(1)).all()
    alone = explain(net, x[2:3], f"deeplift_reveal_cancel(baseline={baseline})", target=2)
    torch.testing.assert_close(alone.values[0], found.values[2], rtol=1e-3, atol=1e-5)


def test_rescale_everywhere_is_deeplift_and_each_setting_changes_its_own_layers(nets, pixels):
    net = nets.lived_in(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 2))
    )
    x, method = pixels(3, 3, 4, 4), METHODS["deeplift_reveal_cancel"]
    maps = {(c, d): explain(net, x, method(convolution=c, dense=d, baseline=0.2), target=1).values
            for c in ("rescale", "reveal_cancel") for d in ("rescale", "reveal_cancel")}  # fmt: skip
    torch.testing.assert_close(maps["rescale", "rescale"], explain(net, x, "deeplift(baseline=0.2)", target=1).values)
    kinds = list(maps.values())
    assert all(not torch.allclose(kinds[i], kinds[j], rtol=0.01) for i in range(4) for j in range(i))
    shallow = nn.Sequential(nn.Conv2d(3, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    dense, plain = (explain(shallow, x, f"deeplift_reveal_cancel(convolution='rescale', dense='{d}')", target=1).values
                    for d in ("rescale", "reveal_cancel"))  # fmt: skip
    torch.testing.assert_close(dense, plain)


def test_past_a_maximum_the_slopes_of_rescale_serve(nets, pixels):
    net = nets.lived_in(nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)))
    found, wanted = (
        explain(net, pixels(3, 3, 4, 4), f"{name}(baseline=0.2)", target=0)
        for name in ("deeplift_reveal_cancel", "deeplift")
    )
    torch.testing.assert_close(found.values, wanted.values)


def test_parts_of_a_tensor_that_was_written_over_are_not_used(nets, pixels):
    """The sigmoid's operand is a linear layer's output no more."""
    parts = nets.lived_in(nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 2)))

    def over(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        h = a(x)
        h.mul_(h.clone().tanh())
        return b(h.sigmoid())

    found = explain(nets.Call(over, *parts), pixels(3, 12), "deeplift_reveal_cancel(baseline=0.2)", target=0)
    assert (found.gap < 1e-5 * (1 + found.values.abs().sum(1))).all()
