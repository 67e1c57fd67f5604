"""LRP: a net by hand, books that balance, rules against naive loops."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.attribution import lrp as _lrp  # noqa: F401  # registers the method
from pellucid.attribution.backward import Books, Composite, alpha_beta, flat, gamma, plus, relevance_rules
from pellucid.attribution.backward.shares import epsilon
from pellucid.errors import BadRecipe, CannotExplain, GuardError, ShapeError
from pellucid.models import Model, Passes
from pellucid.models.targets import Class

COMPOSITES = {
    "epsilon": "lrp",
    "plus": 'lrp(composite="epsilon_plus_flat")',
    "gamma": 'lrp(composite="epsilon_gamma_box", low=-4.0, high=4.0)',
    "alpha": 'lrp(composite="epsilon_alpha2_beta1_flat")',
}


def relevance(net: nn.Module, x: Tensor, composite: Composite, target: int = 0) -> tuple[Tensor, Tensor]:
    """Return relevance and what was taken, for any composite."""
    model = Model.of(net)
    with Passes(model) as way:
        output = way.outputs((x,))
        read = Class(target).freeze(model, output)
        books = Books(len(x), x.device)
        numbers = torch.arange(len(x)).to(x)[:, None]
        values = way.gradient((x, numbers), read, rules=relevance_rules(composite, books), known=output[:, target])[2][
            0
        ]
    return values, books.absorbed.to(x)


def test_a_net_of_three_layers_by_hand(nets):
    first, second, third = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        first.bias.copy_(torch.tensor([0.0, 1.0]))
        second.weight.copy_(torch.tensor([[2.0, 1.0], [-1.0, 0.0]]))
        second.bias.copy_(torch.tensor([1.0, 0.0]))
        third.weight.copy_(torch.tensor([[1.0, 5.0]]))
        third.bias.copy_(torch.tensor([2.0]))
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
    # x = (3, 1): h = (4, 3), g = relu(12, -4) = (12, 0), f = 14
    # third: bias takes 2, R_g = (12, 0); second: 12 = 8 + 3 + bias 1, R_h = (8, 3)
    # first: 4 = 3 + 1 gives (6, 2); 3 = 3 - 1 + bias 1 gives (3, -1) and the bias takes 1
    found = explain(net, torch.tensor([[3.0, 1.0]]), "lrp(epsilon=1e-9)")
    torch.testing.assert_close(found.values, torch.tensor([[9.0, 1.0]]))
    torch.testing.assert_close(found.absorbed, torch.tensor([4.0]))
    assert found.output.item() == 14.0


@pytest.mark.parametrize("method", COMPOSITES.values(), ids=COMPOSITES)
@pytest.mark.parametrize("blocks", [1, 4, 8])
def test_the_books_balance_over_residual_blocks_with_batch_norm(nets, pixels, method, blocks):
    net, x = nets.lived_in(nets.ResNet(blocks)), pixels(4, 3, 12, 12)
    found = explain(net, x, method, target=1)
    total = found.values.flatten(1).sum(1) + found.absorbed
    torch.testing.assert_close(total, found.output, rtol=1e-4, atol=1e-5)
    assert found.values.abs().amax() > 1e-3


def test_eight_functional_residual_blocks_without_biases_hand_everything_to_the_pixels(nets, pixels):
    net = nets.lived_in(nets.ResNet(8, normed=False))
    with torch.no_grad():
        for part in net.modules():
            if getattr(part, "bias", None) is not None:
                part.bias.zero_()
    found = explain(net, pixels(4, 3, 12, 12), "lrp", target=0)
    torch.testing.assert_close(found.values.flatten(1).sum(1), found.output, rtol=1e-4, atol=1e-6)
    assert (found.absorbed.abs() < 1e-4 * found.output.abs()).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_batch_norm_is_folded_into_the_operation_before_it(nets, pixels, transposed):
    conv = nn.ConvTranspose2d(4, 6, 3, groups=2) if transposed else nn.Conv2d(4, 6, 3, groups=2)
    norm = nn.BatchNorm2d(6)
    net = nets.lived_in(nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), nn.Linear(384 if transposed else 96, 2)))
    x = pixels(2, 4, 6, 6)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    fused = type(conv)(4, 6, 3, groups=2)
    with torch.no_grad():
        if transposed:
            fused.weight.copy_((conv.weight.view(2, 2, 3, 3, 3) * scale.view(2, 1, 3, 1, 1)).view_as(conv.weight))
        else:
            fused.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
        fused.bias.copy_((conv.bias - norm.running_mean) * scale + norm.bias)
    merged = nn.Sequential(fused, *list(net)[2:])
    for method in ("lrp", COMPOSITES["plus"], COMPOSITES["gamma"]):
        torch.testing.assert_close(
            explain(net, x, method, target=0).values, explain(merged, x, method, target=0).values, rtol=1e-4, atol=1e-5
        )


def test_batch_norm_that_follows_no_weights_lets_its_shift_absorb(nets, pixels):
    norm = nn.BatchNorm1d(12)
    net = nets.lived_in(nets.Call(lambda x, n, a: a(n(x.flatten(1).abs())), norm, nn.Linear(12, 1, bias=False)))
    x = pixels(3, 3, 2, 2)
    found = explain(net, x, "lrp(epsilon=1e-9)")
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    torch.testing.assert_close(
        found.absorbed, (shift * net.parts[1].weight[0]).sum().expand(3).detach(), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        found.values.flatten(1), (x.flatten(1).abs() * scale * net.parts[1].weight[0]).detach(), rtol=1e-4, atol=1e-5
    )


def test_a_convolution_that_is_used_twice_equals_two_convolutions(nets, pixels):
    once, copy = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    copy.load_state_dict(once.state_dict())
    head = nn.Linear(3, 2)
    twice = nets.Call(lambda x, a, h: h(a(functional.relu(a(x))).mean((2, 3))), once, head).eval()
    apart = nets.Call(lambda x, a, b, h: h(b(functional.relu(a(x))).mean((2, 3))), once, copy, head).eval()
    x = pixels(2, 3, 6, 6)
    for method in COMPOSITES.values():
        torch.testing.assert_close(
            explain(twice, x, method, target=0).values, explain(apart, x, method, target=0).values
        )


def naive(rule: str, x: Tensor, weight: Tensor, bias: Tensor, strength: float) -> Tensor:
    """Relevance of one linear layer with the sum of its outputs as relevance, number by number."""
    found = torch.zeros_like(x)
    for n in range(len(x)):
        for j in range(len(weight)):
            products = x[n] * weight[j]
            z = float(products.sum() + bias[j])
            up, down = products.clamp(min=0), products.clamp(max=0)
            bias_up, bias_down = float(bias[j].clamp(min=0)), float(bias[j].clamp(max=0))
            if rule == "plus":
                found[n] += up / (up.sum() + bias_up) * z
            elif rule == "alpha":
                found[n] += (2 * up / (up.sum() + bias_up) - down / (down.sum() + bias_down)) * z
            elif z > 0:
                favoured = products + strength * up
                found[n] += favoured / (favoured.sum() + bias[j] + strength * bias_up) * z
            else:
                favoured = products + strength * down
                found[n] += favoured / (favoured.sum() + bias[j] + strength * bias_down) * z
    return found


@pytest.mark.parametrize("rule", ["plus", "alpha", "gamma"])
@pytest.mark.parametrize("strength", [0.25, 2.0])
def test_signed_inputs_equal_a_naive_loop(nets, pixels, rule, strength):
    layer = nets.lived_in(nn.Linear(7, 5)).double()
    x = pixels(4, 7).double()
    x[0, 0] = 0
    net = nn.Sequential(layer, nn.Flatten())
    total = nn.Module()
    total.forward = lambda y: net(y).sum(1, keepdim=True)
    found, _ = relevance(total, x, Composite(dense={"plus": plus, "alpha": alpha_beta, "gamma": gamma(strength)}[rule]))
    torch.testing.assert_close(
        found, naive(rule, x, layer.weight.detach(), layer.bias.detach(), strength), rtol=1e-3, atol=1e-6
    )


def test_epsilon_takes_more_the_larger_it_is_and_books_it(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(1)), pixels(2, 3, 8, 8)
    small, large = (explain(net, x, f"lrp(epsilon={size})", target=0) for size in (1e-6, 0.3))
    assert not torch.allclose(small.values, large.values, rtol=0.01)
    assert large.gap.max() < 1e-5


def test_scaling_the_activations_of_a_layer_does_not_change_epsilon_relevance(nets, pixels):
    small = nets.lived_in(nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2)))
    large = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2))
    large.load_state_dict(small.state_dict())
    with torch.no_grad():
        large[1].weight.mul_(2.0**-20), large[1].bias.mul_(2.0**-20), large[3].weight.mul_(2.0**20)
    x = pixels(3, 3, 2, 2)
    a, b = (explain(net, x, "lrp(epsilon=0.01)", target=0).values for net in (small, large))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("curve", [torch.sigmoid, functional.gelu, functional.leaky_relu, torch.tanh, functional.softplus,
                                   lambda h: h * torch.sigmoid(h.mean(1, keepdim=True)), lambda h: 0.5 * h + 1, lambda h: 1 - h,
                                   lambda h: functional.pad(h, (1, 0), value=2.0)[:, :8], lambda h: torch.addmm(h, h, torch.eye(8)),
                                   lambda h: torch.nn.functional.softplus(h * 1, 1.0, 20.0).relu_(), lambda h: (h * 1).add_(3)])  # fmt: skip
def test_activations_products_and_constants_balance(nets, pixels, curve):
    net = nets.lived_in(nets.Call(lambda x, a, b: b(curve(a(x.flatten(1)))), nn.Linear(12, 8), nn.Linear(8, 2)))
    found = explain(net, pixels(4, 3, 2, 2), "lrp", target=1)
    assert (found.gap < 1e-5 * (1 + found.output.abs())).all()


def test_zero_pixels_are_safe_and_get_a_flat_share(nets, pixels):
    net = nets.lived_in(nets.ResNet(1))
    x = pixels(2, 3, 8, 8)
    x[:, :, :4] = 0
    assert (explain(net, x, "lrp", target=0).values[:, :, :3] == 0).all()
    assert (explain(net, x, COMPOSITES["plus"], target=0).values[:, :, :3] != 0).any()
    assert explain(net, torch.zeros(1, 3, 8, 8), COMPOSITES["alpha"], target=0).gap.item() < 1e-5


def test_each_input_has_its_own_first_layer_and_padding_does_not_hide_it(nets, pixels):
    net = nets.lived_in(nets.Call(
        lambda x, y, a, b, c: c(torch.cat([a(functional.pad(x, (1, 1, 1, 1))).mean((2, 3)), b(y[:, 1:].flip(1))], 1)),
        nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(8, 2)))  # fmt: skip
    x, y = pixels(2, 3, 6, 6), pixels(2, 5)
    x[:], y[:] = 0, 0
    found = explain(net, (x, y), COMPOSITES["plus"], target=0)
    assert (found.values[0] != 0).all()
    assert (found.values[1][:, 1:] != 0).all()
    assert (found.values[1][:, 0] == 0).all()
    assert (found.gap < 1e-5).all()


def test_a_step_that_rescales_the_input_is_refused_by_first_layer_rules_only(nets, pixels):
    net = nets.lived_in(
        nets.Call(lambda x, a, b: b(a((x - 0.5) / 0.2).relu().mean((2, 3))), nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    )
    x = pixels(2, 3, 6, 6)
    with pytest.raises(CannotExplain, match="Normalise"):
        explain(net, x, COMPOSITES["plus"], target=0)
    assert (explain(net, x, "lrp", target=0).gap < 1e-4).all()


def test_a_network_in_which_no_layer_sees_the_pixels_is_refused(nets, pixels):
    net = nets.lived_in(nets.Call(lambda x, a: a(x.flatten(1).relu()), nn.Linear(12, 2)))
    with pytest.raises(CannotExplain, match="sees the pixels"):
        explain(net, pixels(2, 3, 2, 2), COMPOSITES["plus"], target=0)


def test_the_box_needs_its_bounds_and_they_must_fit(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(1)), pixels(2, 3, 8, 8)
    with pytest.raises(BadRecipe, match="low= and high="):
        explain(net, x, 'lrp(composite="epsilon_gamma_box", low=0.0)')
    with pytest.raises(BadRecipe, match="only mean something"):
        explain(net, x, "lrp(low=0.0, high=1.0)")
    with pytest.raises(ShapeError, match="2 numbers and the input 3 channels"):
        explain(net, x, 'lrp(composite="epsilon_gamma_box", low=(0.0, 0.0), high=1.0)')
    assert any("outside" in warning for warning in
               explain(net, x, 'lrp(composite="epsilon_gamma_box", low=0.0, high=1.0)').warnings)  # fmt: skip


def test_an_input_that_is_overwritten_afterwards_is_refused(nets, pixels):
    def overwrites(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        h = a(x.flatten(1))
        out = b(h)
        h.add_(1)
        return out

    net = nets.lived_in(nets.Call(overwrites, nn.Linear(12, 8), nn.Linear(8, 2)))
    with pytest.raises(GuardError, match="overwritten"):
        explain(net, pixels(2, 3, 2, 2), "lrp", target=0)


def test_epsilon_and_flat_as_closed_forms(nets, pixels):
    layer = nets.lived_in(nn.Linear(6, 1)).double()
    x = pixels(3, 6).double()
    found, taken = relevance(layer, x, Composite(dense=epsilon))
    torch.testing.assert_close(found, x * layer.weight.detach(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(taken, layer.bias.detach().expand(3), rtol=1e-4, atol=1e-5)
    level, _ = relevance(layer, x, Composite(first=flat))
    torch.testing.assert_close(level, (layer(x).detach() / 6).expand(3, 6), rtol=1e-5, atol=1e-8)
