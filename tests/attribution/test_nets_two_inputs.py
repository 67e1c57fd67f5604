"""Nets of several inputs: one map an input, and what is shared out is shared over all of them."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.testing.zoo import ZOO

COMPLETE = (
    "integrated_gradients", "deeplift", "deeplift_reveal_cancel", "deep_shap", 'kernel_shap(segments="channels")',
    'shapley_sampling(segments="channels", samples=8)', "lrp", "attn_lrp",
)  # fmt: skip


@pytest.mark.parametrize("name", ["two_images", "image_and_vector"])
@pytest.mark.parametrize("method", COMPLETE)
def test_values_add_up_over_both_inputs(name, method):
    net = ZOO[name]
    x = net.inputs()
    e = pellucid.explain(net.model(), x, method, target=[0, 2])
    assert isinstance(e.values, tuple)
    assert [values.shape for values in e.values] == [part.shape for part in x]
    assert all(values.any() for values in e.values)
    total = sum(values.flatten(1).sum(1) for values in e.values)
    for part in (e.absorbed, e.reference_output):
        total = total if part is None else total + part
    size = e.output.abs() + (0 if e.reference_output is None else e.reference_output.abs())
    most = 0.01 if method == "integrated_gradients" else 1e-4
    assert bool(((total - e.output).abs() <= most * size).all())
    torch.testing.assert_close(e.gap, (total - e.output).abs(), rtol=1e-3, atol=1e-6)


class Sum(nn.Module):
    """A linear function of both inputs, by which every method's answer is known."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(12, 2, bias=False), nn.Linear(5, 2, bias=False)

    def forward(self, image, vector):
        return self.a(image.flatten(1)) + self.b(vector)


@pytest.mark.parametrize("method", ["input_x_gradient", *COMPLETE[:3], "lrp"])
def test_on_a_linear_net_every_input_has_its_own_terms(method):
    net, x = Sum(), (torch.randn(2, 1, 3, 4), torch.randn(2, 5))
    e = pellucid.explain(net, x, method, target=1)
    torch.testing.assert_close(e.values[0].flatten(1), x[0].flatten(1) * net.a.weight[1].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(e.values[1], x[1] * net.b.weight[1].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["gradient", *COMPLETE])
def test_an_input_that_the_net_ignores_has_a_map_of_zeros(method):
    net = ZOO["two_images"]
    model, x = net.model(), net.inputs()
    with torch.no_grad():
        model.network.fc1.weight[:, 6:] = 0
    e = pellucid.explain(model, x, method, target=1)
    assert e.values[0].any()
    assert float(e.values[1].abs().max()) <= 1e-6 * float(e.values[0].abs().max())


def test_inputs_of_other_numbers_of_rows_are_refused():
    net = ZOO["two_images"]
    overview, detail = net.inputs()
    with pytest.raises(pellucid.PellucidError, match=r"the inputs have \[2, 1\] rows"):
        pellucid.explain(net.model(), (overview, detail[:1]), "gradient", target=0)
