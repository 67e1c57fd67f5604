"""``at=``: what a layer's units carry of the output; ``of=``: what the image does to one unit of a layer."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS
from pellucid.errors import BadRecipe, BadTarget, CannotExplain
from pellucid.models.targets import Class, Latent

AT = [
    "gradient(at='{}')",
    "saliency(at='{}')",
    "input_x_gradient(at='{}')",
    "deconvnet(at='{}')",
    "guided_backprop(at='{}')",
    "smoothgrad(samples=3, at='{}')",
    "smoothgrad(samples=3, method='guided_backprop', at='{}')",
    "vargrad(samples=3, at='{}')",
    "integrated_gradients(steps=7, at='{}')",
    "expected_gradients(samples=5, background=('zero', 'noise'), at='{}')",
]
OF = [
    "gradient", "saliency", "input_x_gradient", "deconvnet", "guided_backprop", "smoothgrad(samples=3)",
    "vargrad(samples=3)", "integrated_gradients(steps=7)", "expected_gradients(samples=5)", "blur_ig(steps=8)",
    "guided_ig(steps=8)", "occlusion(window=3)", "kernel_shap(segments=3, samples=20)", "rise(samples=8)", "deeplift", "lrp",
]  # fmt: skip


def of(method, unit):
    return METHODS.parse(method).replace(of=unit)


@pytest.fixture
def net(nets):
    return nets.lived_in(nets.ResNet(2))


@pytest.mark.parametrize("method", AT)
@pytest.mark.parametrize("layer", ["stem", "norm", "blocks.0", "blocks.1.m"])
def test_values_at_a_layer_have_its_shape_and_row_i_alone_is_row_i_in_a_batch(net, pixels, method, layer):
    x, ids, method = pixels(3, 3, 8, 8), ("a", "b", "c"), method.format(layer)
    together = pellucid.explain(net, x, method, target=[0, 1, 2], ids=ids, batch_size=4)
    assert together.values.shape == (3, 6, *((8, 8) if layer in {"stem", "norm"} else (4, 4)))
    assert float(together.values.abs().max()) > 0
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], method, target=row, ids=ids[row : row + 1])
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-4, atol=1e-6)


def test_a_layer_that_is_overwritten_in_place_shows_its_own_output(pixels):
    """The rest of the net after a convolution is ReLU (in place), then a linear head of known weight."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2)).eval()
    x = pixels(2, 2, 6, 6)
    with torch.no_grad():
        seen = net[0](x)
    slope = net[3].weight[1].view(3, 4, 4).detach() * (seen > 0)
    closed = {
        "gradient": slope,
        "saliency": slope.abs(),
        "input_x_gradient": slope * seen,
        "guided_backprop": slope.clamp(min=0),
        "deconvnet": net[3].weight[1].view(3, 4, 4).detach().clamp(min=0).expand(2, -1, -1, -1),
    }
    for name, expected in closed.items():
        found = pellucid.explain(net, x, METHODS[name](at="0"), target=1)
        torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("layer", ["stem", "norm", "pool", "blocks.0.a", "blocks.0", "blocks.1.m", "blocks.1"])
def test_conductance_at_every_layer_adds_up_to_the_difference_of_the_output(net, pixels, layer):
    """Where other paths pass a layer by, the difference is that of the output with the reference's layer put in."""
    x = pixels(3, 3, 8, 8)
    found = pellucid.explain(net, x, METHODS["integrated_gradients"](at=layer, steps=512), target=1)
    rise = found.output - found.reference_output
    torch.testing.assert_close(found.values.flatten(1).sum(1), rise, rtol=2e-2, atol=2e-2)
    if layer in {"stem", "norm", "pool", "blocks.0", "blocks.1"}:
        with torch.no_grad():
            torch.testing.assert_close(found.reference_output, net(torch.zeros_like(x))[:, 1], rtol=1e-4, atol=1e-5)


def test_expected_gradients_at_a_layer_average_its_conductance_over_the_background(nets, pixels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2)).eval()
    x, backgrounds = pixels(2, 2, 6, 6), pixels(3, 2, 6, 6, seed=5)
    method = METHODS["expected_gradients"](at="1", background=backgrounds, samples=400)
    found = pellucid.explain(net, x, method, target=0)
    weight = net[3].weight[0].view(3, 4, 4).detach()
    with torch.no_grad():
        exact = weight * (net[:2](x) - net[:2](backgrounds).mean(0))
        torch.testing.assert_close(found.reference_output, net(backgrounds)[:, 0].mean().expand(2))
    assert ((found.values - exact).abs() <= 4.5 * found.error + 1e-6).all()


@pytest.mark.parametrize("method", OF)
@pytest.mark.parametrize("unit", ["blocks.0[2]", "blocks.0[2, 1, 3]"])
def test_of_a_unit_equals_the_network_cut_off_there(nets, pixels, method, unit):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(2, 3, 8, 8)

    def upto(images, *_):
        seen = net.blocks[0](net.pool(net.relu(net.norm(net.stem(images)))))
        return (seen[:, 2, 1, 3] if "," in unit else seen[:, 2].mean((1, 2)))[:, None]

    cut = nets.Call(upto, net).eval()
    found = pellucid.explain(net, x, of(method, unit), batch_size=5)
    same = pellucid.explain(cut, x, method, batch_size=5)
    torch.testing.assert_close(found.output, same.output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.values, same.values, rtol=1e-3, atol=1e-5)
    assert found.target == Latent.named(unit)


def test_at_and_of_together_ask_what_one_layer_does_to_a_unit_of_another(net, pixels):
    x = pixels(2, 3, 8, 8)
    found = pellucid.explain(net, x, "integrated_gradients(at='stem', of='blocks.0[1]', steps=256)")
    torch.testing.assert_close(
        found.values.flatten(1).sum(1), found.output - found.reference_output, rtol=2e-2, atol=2e-2
    )
    with pytest.raises(CannotExplain, match=r"does not depend on layer 'blocks\.1'"):
        pellucid.explain(net, x, "gradient(at='blocks.1', of='blocks.0[1]')")


def test_a_unit_prints_parses_and_is_spelt_in_one_way():
    method = METHODS.parse("saliency(of='layer3.relu[12,4, 5]')")
    assert str(method) == 'saliency(of="layer3.relu[12, 4, 5]")'
    assert METHODS.parse(str(method)) == method
    assert Latent.named("layer3[12]") == Latent(12, "layer3")
    for text in ("layer3", "layer3[]", "layer3[-1]", "[3]", "layer3[a]"):
        with pytest.raises(BadRecipe, match="names no unit"):
            METHODS["saliency"](of=text)


def test_a_unit_keeps_its_place_when_rows_are_cut(net, pixels):
    found = pellucid.explain(net, pixels(3, 3, 8, 8), "gradient(of='stem[2, 1, 3]')")
    assert found[[0]].target == found.target == Latent((2, 1, 3), "stem")


def test_a_unit_and_another_target_are_refused_and_the_same_one_is_not(net, pixels):
    x = pixels(1, 3, 8, 8)
    pellucid.explain(net, x, "gradient(of='stem[1]')", target=Latent(1, "stem"))
    with pytest.raises(BadTarget, match="leave one out"):
        pellucid.explain(net, x, "gradient(of='stem[1]')", target=Class(0))
    with pytest.raises(BadTarget, match=r"6 × 8 × 8 units"):
        pellucid.explain(net, x, "gradient(of='stem[6]')")
    with pytest.raises(CannotExplain, match="no layer 'trunk'"):
        pellucid.explain(net, x, "gradient(of='trunk[6]')")


def test_a_layer_that_is_called_twice_is_refused_by_name(net, pixels):
    for method in ("gradient(at='relu')", "guided_backprop(at='relu')", "integrated_gradients(at='relu', steps=2)",
                   "expected_gradients(at='relu', samples=2)", "smoothgrad(at='relu', samples=2)",
                   "gradient(of='relu[1]')"):  # fmt: skip
        with pytest.raises(CannotExplain, match="layer 'relu' is called more than once"):
            pellucid.explain(net, pixels(1, 3, 8, 8), method)


def test_sampled_methods_hand_the_layer_on_and_refuse_what_would_be_ignored(net, pixels):
    x = pixels(2, 3, 8, 8)
    for name in ("smoothgrad", "vargrad"):
        there = pellucid.explain(net, x, f"{name}(samples=4, at='stem')", target=0)
        inner = pellucid.explain(net, x, METHODS[name](samples=4, method='gradient(at="stem")'), target=0)
        torch.testing.assert_close(there.values, inner.values)
        with pytest.raises(BadRecipe, match=rf"write {name}\(of="):
            METHODS[name](method="gradient(of='stem[1]')")
        with pytest.raises(BadRecipe, match="takes no layer or names another"):
            METHODS[name](method="gradient(at='norm')", at="stem")
        with pytest.raises(BadRecipe, match="takes no layer or names another"):
            METHODS[name](method="blur_ig", at="stem")


def test_two_inputs_reach_a_layer_and_a_unit(pixels):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.join = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)

        def forward(self, image, other):
            return self.join(torch.relu(self.one(image).mean((2, 3)) + other.mean((2, 3))))

    torch.manual_seed(0)
    net, x = Two().eval(), (pixels(2, 1, 5, 5), pixels(2, 2, 5, 5, seed=3))
    at = pellucid.explain(net, x, "integrated_gradients(at='one', steps=512)", target=1)
    assert at.values.shape == (2, 2, 3, 3)
    assert float(at.gap.max()) < 1e-3
    for method in OF:
        found = pellucid.explain(net, x, of(method, "join[2]"))
        torch.testing.assert_close(found.output, net(*x)[:, 2].detach())
        assert [values.shape for values in found.tensors] == [tensor.shape for tensor in x]
