import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS, gradient, path  # noqa: F401
from pellucid.attribution.packing import packs
from pellucid.errors import BadRecipe
from pellucid.models import Model, Passes

EVERY = [
    "gradient",
    "saliency",
    "input_x_gradient",
    "gradient(at='0')",
    "input_x_gradient(at='2')",
    "smoothgrad(samples=5)",
    "smoothgrad(samples=3, reduce='square')",
    "smoothgrad(samples=3, method='input_x_gradient')",
    "vargrad(samples=4)",
]


def smooth_net(rank):
    torch.manual_seed(0)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        convolution(2, 3, 3), nn.Tanh(), convolution(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.LazyLinear(3)
    )


def images(rank, rows=3):
    return torch.randn((rows, 2, *[6] * rank), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradient_equals_finite_differences(rank):
    net, x = smooth_net(rank).double(), images(rank).double()
    net(x)
    found = pellucid.explain(net, x, "gradient", target=1).values
    steps = torch.eye(x[0].numel(), dtype=torch.float64).view(-1, *x.shape[1:]) * 1e-5
    with torch.no_grad():
        for row in range(len(x)):
            slopes = (net(x[row] + steps)[:, 1] - net(x[row] - steps)[:, 1]) / 2e-5
            torch.testing.assert_close(found[row].flatten(), slopes, rtol=1e-5, atol=1e-8)


def test_on_a_linear_model_the_gradient_is_the_weight_and_its_kin_follow():
    weight = torch.randn(2, 12, generator=torch.Generator().manual_seed(2))
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    net[1].weight.data = weight
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    kernel = weight[1].view(3, 2, 2).expand(4, -1, -1, -1)
    closed = {
        "gradient": kernel,
        "saliency": kernel.abs(),
        "input_x_gradient": kernel * x,
        "smoothgrad(samples=7)": kernel,
        "smoothgrad(samples=7, reduce='square')": kernel**2,
        "smoothgrad(samples=7, reduce='magnitude')": kernel.abs(),
        "vargrad(samples=7)": torch.zeros_like(x),
    }
    for method, expected in closed.items():
        torch.testing.assert_close(pellucid.explain(net, x, method, target=1).values, expected, msg=method)


def test_vargrad_is_never_negative_where_the_naive_formula_is():
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 1))
    net[1].weight.data *= 1e4
    e = pellucid.explain(net, torch.randn(1, 1, 3, 3), "vargrad(samples=50)")
    assert torch.equal(e.values, torch.zeros_like(e.values))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", EVERY)
def test_row_i_alone_equals_row_i_in_a_batch_with_its_noise(method, rank):
    net, x, ids = smooth_net(rank), images(rank), ("a", "b", "c")
    net(x)
    together = pellucid.explain(net, x, method, target=[0, 1, 2], ids=ids, seed=5, batch_size=4)
    for row in range(3):
        alone = pellucid.explain(
            net, x[row : row + 1], method, target=row, ids=ids[row : row + 1], seed=5, batch_size=2
        )
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-5, atol=1e-7)
        if together.error is not None:
            torch.testing.assert_close(together.error[row], alone.error[0], rtol=1e-4, atol=1e-7)


def test_without_ids_every_row_has_the_same_stream_and_with_ids_its_own():
    net, x = smooth_net(2), images(2, rows=1).expand(2, -1, -1, -1)
    net(x)
    same = pellucid.explain(net, x, "smoothgrad(samples=2)").values
    own = pellucid.explain(net, x, "smoothgrad(samples=2)", ids=("a", "b")).values
    torch.testing.assert_close(same[0], same[1])
    assert not torch.allclose(own[0], own[1])
    other_seed = pellucid.explain(net, x, "smoothgrad(samples=2)", ids=("a", "b"), seed=1).values
    assert not torch.allclose(own, other_seed)


def test_smoothgrad_equals_a_naive_loop_with_noise_scaled_by_the_rows_range():
    net, x = smooth_net(2), images(2, rows=2) * torch.tensor([1.0, 10.0]).view(2, 1, 1, 1)
    net(x)
    e = pellucid.explain(net, x, "smoothgrad(samples=6, sigma=0.2)", target=0, ids=("a", "b"))
    variance = pellucid.explain(net, x, "vargrad(samples=6, sigma=0.2)", target=0, ids=("a", "b"))
    for row, name in enumerate(("a", "b")):
        stream = torch.Generator().manual_seed(pellucid.attribution.method.row_seeds(0, (name,), 1)[0])
        spread = 0.2 * (x[row].max() - x[row].min())
        maps = []
        for _ in range(6):
            noisy = (x[row] + spread * torch.randn(x[row].shape, generator=stream))[None].requires_grad_()
            maps.append(torch.autograd.grad(net(noisy)[0, 0], noisy)[0][0].numpy())
        np.testing.assert_allclose(e.values[row], np.mean(maps, 0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(e.error[row], np.std(maps, 0, ddof=1) / 6**0.5, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(variance.values[row], np.var(maps, 0, ddof=1), rtol=1e-3, atol=1e-7)


def test_no_noise_is_the_base_method():
    net, x = smooth_net(2), images(2)
    net(x)
    for base in ("gradient", "input_x_gradient", "integrated_gradients(steps=8)"):
        calm = pellucid.explain(net, x, METHODS["smoothgrad"](samples=3, sigma=0.0, method=base))
        torch.testing.assert_close(calm.values, pellucid.explain(net, x, base).values, rtol=1e-5, atol=1e-7)


BASES = ("guided_backprop", "deeplift", "gradcam", "occlusion(window=3)", "kernel_shap(segments=3, samples=8)")


@pytest.mark.parametrize("base", BASES)
def test_any_method_can_be_averaged_over_noise(base):
    torch.manual_seed(0)
    net, x, ids = (
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)),
        images(2),
        ("a", "b", "c"),
    )
    calm = pellucid.explain(net, x, METHODS["smoothgrad"](samples=1, sigma=0.0, method=base))
    if "kernel_shap" not in base:  # its coalitions are drawn anew for every sample
        torch.testing.assert_close(calm.values, pellucid.explain(net, x, base).values, rtol=1e-4, atol=1e-6)
    noisy = METHODS["smoothgrad"](samples=3, method=base)
    together = pellucid.explain(net, x, noisy, target=1, ids=ids, batch_size=4)
    alone = pellucid.explain(net, x[1:2], noisy, target=1, ids=("b",))
    torch.testing.assert_close(alone.values[0], together.values[1], rtol=1e-4, atol=1e-5)


def test_the_class_is_chosen_before_the_noise():
    class Step(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([2 * total, -3 * total + 1e-3], 1)

    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 10, -10
    assert torch.equal(pellucid.explain(Step(), x, "smoothgrad(samples=9)").values, torch.full_like(x, -3))


def test_an_in_place_relu_after_a_layer_does_not_change_what_is_read_at_it():
    net, x = smooth_net(2), images(2)
    net(x)
    plain = nn.Sequential(net[0], nn.ReLU(), *net[2:])
    in_place = nn.Sequential(net[0], nn.ReLU(inplace=True), *net[2:])
    for method in ("gradient(at='0')", "input_x_gradient(at='0')"):
        torch.testing.assert_close(
            pellucid.explain(in_place, x, method).values, pellucid.explain(plain, x, method).values
        )
    with torch.no_grad(), Passes(Model(in_place)) as passes:
        torch.testing.assert_close(passes.outputs((x,), "0"), net[0](x))


def test_at_a_layer_that_returns_its_input_only_its_own_path_counts():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Identity()

        def forward(self, x):
            return (x.flatten(1) * self.branch(x).flatten(1)).sum(1, keepdim=True)

    x = images(1)
    torch.testing.assert_close(pellucid.explain(Skip(), x, "gradient(at='branch')").values, x)


def test_a_batch_is_never_larger_than_asked_and_sampling_costs_no_extra_forwards():
    net, x, seen = smooth_net(2), images(2), []
    net(x)
    net.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    e = pellucid.explain(net, x, "smoothgrad(samples=7)", batch_size=4)
    assert max(seen) <= 4
    assert (e.forwards, e.backwards) == (3 + 21, 21)


def test_packs_cover_every_row_and_repeat_once_in_row_order():
    with Passes(Model(nn.Identity()), batch_size=4) as passes:
        found = [(row, turn) for pack in packs(passes, (torch.zeros(3, 1, 2),), 3, rows=[2, 0])
                 for row, turn in zip(pack.owner.tolist(), pack.turn.tolist(), strict=True)]  # fmt: skip
    assert found == [(row, turn) for row in (2, 0) for turn in range(3)]


def test_several_inputs_get_one_map_each():
    class Two(nn.Module):
        def forward(self, a, b):
            return (a.flatten(1).sum(1) * b.flatten(1).mean(1))[:, None]

    a, b = torch.randn(2, 1, 3, 3), torch.randn(2, 2, 4)
    e = pellucid.explain(Two(), (a, b), "smoothgrad(samples=4, sigma=0.0)")
    torch.testing.assert_close(e.values[0], b.flatten(1).mean(1).view(2, 1, 1, 1).expand_as(a))
    assert [tuple(error.shape) for error in e.error] == [tuple(a.shape), tuple(b.shape)]


def test_bad_settings_are_refused_as_they_are_written():
    for text, said in {
        "smoothgrad(samples=0)": "samples does not fit",
        "vargrad(samples=1)": "samples does not fit",
        "smoothgrad(method='gradiant')": "did you mean gradient",
        "smoothgrad(sigma=-1)": "sigma does not fit",
    }.items():
        with pytest.raises(BadRecipe, match=said):
            METHODS.parse(text)
    assert str(METHODS.parse("smoothgrad(method='gradient(at=\"3\")')")) == 'smoothgrad(method="gradient(at=\\"3\\")")'


@pytest.mark.peers
def test_parity_with_captum_of_gradients_and_layers():
    attr = pytest.importorskip("captum.attr")
    net, x = smooth_net(2), images(2)
    net(x)
    torch.testing.assert_close(
        pellucid.explain(net, x, "saliency", target=2).values,
        attr.Saliency(net).attribute(x.clone().requires_grad_(), target=2),
    )
    layer = attr.LayerGradientXActivation(net, net[2]).attribute(x, target=2)
    torch.testing.assert_close(pellucid.explain(net, x, "input_x_gradient(at='2')", target=2).values, layer.detach())
