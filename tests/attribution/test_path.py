import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS, path
from pellucid.attribution.fills import reference
from pellucid.errors import BadRecipe


class Scalar(nn.Module):
    """One output from the flattened image by a formula."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x):
        return self.formula(x.flatten(1))[:, None]


def relu_net(inplace=False):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(inplace), nn.Conv2d(6, 4, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(16, 3)
    )


def images(rows=3):
    return torch.randn((rows, 2, 6, 6), generator=torch.Generator().manual_seed(1))


def ig(model, x, **settings):
    return pellucid.explain(model, x, METHODS["integrated_gradients"](**settings))


def test_a_linear_model_is_exact_with_one_step_from_any_baseline():
    w = torch.randn(8, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    for baseline in ("zero", "mean", "noise", 0.5, (1.0, -1.0)):
        b = reference(baseline, (x,), pellucid.attribution.method.row_seeds(0, None, 3))[0]
        for settings in ({"steps": 1}, {}):
            e = ig(Scalar(lambda v: v @ w + 3), x, baseline=baseline, **settings)
            torch.testing.assert_close(e.values, w.view(2, 4) * (x - b), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(e.reference_output, b.flatten(1) @ w + 3)
            assert float(e.gap.max()) < 1e-5


def test_a_quadratic_form_gives_the_aumann_shapley_shares():
    a = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    a = a + a.T
    x = torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(1))
    e = ig(Scalar(lambda v: (v @ a * v).sum(1) / 2), x, steps=1)
    torch.testing.assert_close(e.values, x * (x @ a) / 2, rtol=1e-5, atol=1e-5)


def test_a_product_game_shares_equally_and_enough_gauss_points_are_exact():
    x = torch.tensor([[[2.0, 3.0, 5.0, 0.5]]])
    e = ig(Scalar(lambda v: v.prod(1)), x, steps=2)
    torch.testing.assert_close(e.values, torch.full_like(x, 15.0 / 4))


def test_the_maximum_belongs_to_the_largest_pixel_on_a_line_from_zero():
    x = torch.tensor([[[1.0, 4.0, 2.0]]])
    torch.testing.assert_close(ig(Scalar(lambda v: v.amax(1)), x).values, torch.tensor([[[0.0, 4.0, 0.0]]]))


def test_the_maximum_of_two_crossing_lines_is_shared_at_the_crossing():
    e = ig(Scalar(lambda v: torch.maximum(v[:, 0], v[:, 1] - 1)), torch.tensor([[[1.0, 3.0]]]), steps=1000)
    torch.testing.assert_close(e.values, torch.tensor([[[0.5, 1.5]]]), rtol=2e-3, atol=0)


def test_values_equal_a_naive_loop_over_the_quadrature():
    net, x = relu_net(), images()
    nodes, weights = np.polynomial.legendre.leggauss(12)
    b = x.mean((2, 3), keepdim=True).expand_as(x)
    expected = torch.zeros_like(x)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (b + node * (x - b)).float().requires_grad_()
        expected += weight * torch.autograd.grad(net(point)[:, 1].sum(), point)[0]
    found = pellucid.explain(net, x, "integrated_gradients(steps=12, baseline='mean')", target=1, batch_size=5)
    torch.testing.assert_close(found.values, expected * (x - b), rtol=1e-4, atol=1e-6)
    assert found.backwards == 3 * 12


def test_an_in_place_relu_gives_the_same_values():
    torch.testing.assert_close(
        ig(relu_net(inplace=True), images(), steps=9).values, ig(relu_net(), images(), steps=9).values
    )


def test_adaptive_steps_reach_the_tolerance_row_by_row_and_finished_rows_leave():
    hard = Scalar(lambda v: 10 * torch.sigmoid(60 * (v.mean(1) - 0.31)) + v.sum(1))
    x = torch.stack([torch.full((1, 4), 0.02), torch.full((1, 4), 1.0), torch.full((1, 4), 0.35)])
    e = ig(hard, x)
    taken = e.details["steps"].tolist()
    assert taken[0] == path.FEWEST < taken[1] <= path.MOST
    allowed = 1e-2 * torch.maximum(
        (e.output - e.reference_output).abs(), 0.05 * (e.output.abs() + e.reference_output.abs())
    )
    assert bool((e.gap <= allowed + 1e-6).all())
    assert e.warnings == ()
    assert e.backwards == sum(2 * steps - path.FEWEST for steps in taken)
    for row in range(3):
        alone = ig(hard, x[row : row + 1])
        assert alone.details["steps"].tolist() == [taken[row]]
        torch.testing.assert_close(alone.values[0], e.values[row], rtol=1e-5, atol=1e-7)


def test_a_gap_that_stays_is_said():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, g):
            return g[:, None].expand(-1, 3) * 2

    e = ig(Scalar(Broken.apply), torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert "1024 steps did not bring the completeness gap of 1 row(s) (0)" in e.warnings[0]
    assert float(e.gap) == pytest.approx(6)


def test_explicit_steps_are_exactly_that_and_the_line_is_never_materialised():
    net, largest = relu_net(), []
    net.register_forward_hook(lambda module, inputs, output: largest.append(len(output)))
    e = pellucid.explain(net, images(2), "integrated_gradients(steps=1000)", batch_size=7)
    assert e.backwards == 2000
    assert max(largest) == 7


@pytest.mark.parametrize("settings", [{}, {"steps": 11}, {"steps": 5, "at": "0"}, {"baseline": "noise"}, {"at": "2"}])
def test_row_i_alone_equals_row_i_in_a_batch(settings):
    net, x, ids = relu_net(), images(), ("a", "b", "c")
    method = METHODS["integrated_gradients"](**settings)
    together = pellucid.explain(net, x, method, target=[0, 1, 2], ids=ids, batch_size=4)
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], method, target=row, ids=ids[row : row + 1])
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.reference_output[row], alone.reference_output[0])


def test_several_inputs_share_one_completeness():
    class Two(nn.Module):
        def forward(self, a, b):
            return (a.flatten(1).sum(1) * b.flatten(1).mean(1))[:, None]

    a, b = torch.randn(2, 1, 3, 3), torch.randn(2, 2, 4)
    e = ig(Two(), (a, b), steps=2)
    for values in e.values:
        torch.testing.assert_close(values.flatten(1).sum(1), e.output / 2)
    assert float(e.gap.max()) < 1e-5


def test_at_a_layer_the_line_runs_between_its_outputs_and_shares_out_the_same_difference():
    net, x = relu_net(inplace=True), images()
    for layer in ("0", "1", "2"):
        e = ig(net, x, at=layer, baseline="mean")
        assert e.values.shape == net[: int(layer) + 1](x).shape
        whole = ig(net, x, baseline="mean", steps=2)
        torch.testing.assert_close(e.reference_output, whole.reference_output)
        assert float(e.gap.max()) < 2e-2 * float((e.output - e.reference_output).abs().max())


def test_at_a_layer_that_others_pass_by_the_rest_of_the_net_sees_the_image():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Identity()

        def forward(self, x):
            return (x.flatten(1) * self.branch(x).flatten(1)).sum(1, keepdim=True)

    x = torch.randn(2, 1, 3)
    e = ig(Skip(), x, at="branch", steps=3, baseline=0.5)
    torch.testing.assert_close(e.values, x * (x - 0.5))
    torch.testing.assert_close(e.reference_output, 0.5 * x.flatten(1).sum(1))


def test_the_reference_is_named_in_the_result_and_an_unknown_one_is_refused():
    assert ig(relu_net(), images(1), steps=1).details["baseline"].startswith("zero")
    with pytest.raises(BadRecipe, match="no fill 'black'"):
        METHODS.parse("integrated_gradients(baseline='black')")
    with pytest.raises(BadRecipe, match="steps does not fit"):
        METHODS.parse("integrated_gradients(steps=0)")


@pytest.mark.peers
def test_parity_with_captum_under_the_same_quadrature():
    attr = pytest.importorskip("captum.attr")
    net, x = relu_net(), images()
    for steps, target in itertools.product((3, 20), (0, 2)):
        theirs = attr.IntegratedGradients(net).attribute(x, target=target, n_steps=steps, method="gausslegendre")
        ours = pellucid.explain(net, x, f"integrated_gradients(steps={steps})", target=target).values
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-6)
    layer = attr.LayerIntegratedGradients(net, net[2]).attribute(x, target=1, n_steps=20, method="gausslegendre")
    ours = pellucid.explain(net, x, "integrated_gradients(steps=20, at='2')", target=1).values
    torch.testing.assert_close(ours, layer.float(), rtol=1e-4, atol=1e-6)
