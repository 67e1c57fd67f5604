"""DeepLIFT: closed forms, exact sums where hook-based peers break, a naive loop for pooling, and Captum where right."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.errors import GuardError


def test_a_linear_model_gives_weight_times_difference(pixels):
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), pixels(3, 3, 2, 2)
    found = explain(net, x, "deeplift(baseline=0.5)", target=1)
    torch.testing.assert_close(found.values, ((x - 0.5).flatten(1) * net[1].weight[1]).view_as(x).detach())


def test_one_relu_by_hand(nets):
    net = nets.Call(lambda x: functional.relu(x.sum(1, keepdim=True) - 1))
    found = explain(net, torch.tensor([[3.0, 1.0], [0.5, 0.25]]), "deeplift")
    torch.testing.assert_close(found.values, torch.tensor([[9 / 4, 3 / 4], [0.0, 0.0]]))  # 3 / 4 a unit
    assert found.reference_output.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("baseline", ['"zero"', '"mean"', '"blur"', '"noise"', "0.3", "(0.1, -0.2, 0.5)"])
def test_differences_add_up_on_a_resnet_with_one_shared_in_place_relu(nets, pixels, baseline):
    net, x = nets.lived_in(nets.ResNet(8)), pixels(4, 3, 12, 12)
    found = explain(net, x, f"deeplift(baseline={baseline})")
    assert (found.gap < 1e-4 * (found.output - found.reference_output).abs().clamp(min=0.1)).all()
    assert (found.output - found.reference_output).abs().min() > 1e-3


def rescaled(net: nn.Sequential, x: Tensor, b: Tensor, target: int) -> Tensor:
    """Naive Rescale through a Sequential, one operation and one row at a time, on explicit Jacobians."""
    points = [(x, b)]
    for part in net:
        points.append((part(points[-1][0]), part(points[-1][1])))
    multiplier = torch.zeros_like(points[-1][0])
    multiplier[0, target] = 1
    for part, (p, q), (y, z) in reversed(list(zip(net, points[:-1], points[1:], strict=True))):
        if isinstance(part, nn.MaxPool2d):
            multiplier = pooled(part, p, q, y, z, multiplier)
        elif sum(parameter.numel() for parameter in part.parameters()) or isinstance(part, nn.Flatten):
            _, pull = torch.func.vjp(part, p)
            multiplier = pull(multiplier)[0]
        else:
            multiplier = multiplier * torch.where((p - q).abs() > 1e-9, (y - z) / (p - q), 0.0)
    return multiplier * (x - b)


def pooled(part: nn.MaxPool2d, p: Tensor, q: Tensor, y: Tensor, z: Tensor, multiplier: Tensor) -> Tensor:
    found = torch.zeros_like(p)
    for c in range(y.shape[1]):
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                where = p if y[0, c, i, j] >= z[0, c, i, j] else q
                places = [(r, s) for r in range(i * part.stride - part.padding, i * part.stride - part.padding + part.kernel_size)
                          for s in range(j * part.stride - part.padding, j * part.stride - part.padding + part.kernel_size)
                          if 0 <= r < p.shape[2] and 0 <= s < p.shape[3]]  # fmt: skip
                r, s = max(places, key=lambda place: float(where[0, c, place[0], place[1]]))
                apart = p[0, c, r, s] - q[0, c, r, s]
                share = (y - z)[0, c, i, j] / apart if apart != 0 else 1.0
                found[0, c, r, s] += multiplier[0, c, i, j] * share
    return found


@pytest.mark.parametrize(("kernel", "stride", "padding", "width"), [(2, 2, 0, 12), (3, 2, 1, 12), (3, 1, 1, 75)])
def test_max_pool_next_to_relu_equals_a_naive_loop(nets, pixels, kernel, stride, padding, width):
    net = nets.lived_in(nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(kernel, stride, padding), nn.Conv2d(4, 3, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(width, 2))).double()  # fmt: skip
    x = pixels(3, 3, 8, 8).double()
    with torch.no_grad():
        wanted = torch.cat([rescaled(net, row[None], torch.full_like(row[None], 0.2), 1) for row in x])
    found = explain(net, x, "deeplift(baseline=0.2)", target=1)
    torch.testing.assert_close(found.values, wanted)


@given(st.lists(st.integers(-3, 3), min_size=16, max_size=16), st.lists(st.integers(-3, 3), min_size=16, max_size=16))
@settings(max_examples=40, deadline=None)
def test_ties_and_overlaps_of_max_pools_keep_the_sum(image, weights):
    x = torch.tensor(image, dtype=torch.float64).view(1, 1, 4, 4)
    factor = torch.tensor(weights[:9], dtype=torch.float64)
    net = nn.Module()
    net.forward = lambda y: (functional.max_pool2d(functional.relu(y), 2, 1).flatten(1) * factor).sum(1, keepdim=True)
    found = explain(net, x, "deeplift(baseline=1.0)")
    assert found.gap.item() < 1e-6


@pytest.mark.parametrize("pool", [
    lambda h: functional.max_pool2d(h, 3, 2, 1), lambda h: torch.max_pool2d(h, 2), lambda h: functional.adaptive_max_pool2d(h, 2),
    lambda h: functional.max_pool2d(h, 2, return_indices=True)[0], lambda h: functional.adaptive_max_pool2d(h, 1),
    lambda h: functional.max_pool2d(h, kernel_size=2, stride=2, ceil_mode=True), lambda h: functional.max_pool1d(h.flatten(2), 3),
    lambda h: functional.adaptive_max_pool1d(h.flatten(2), 4), lambda h: torch.adaptive_max_pool1d(h.flatten(2), 4)[0],
    lambda h: functional.max_pool3d(h[:, None], (2, 3, 3))])  # fmt: skip
def test_every_spelling_of_max_pool_keeps_the_sum(nets, pixels, pool):
    net = nets.lived_in(nets.Call(lambda x, a: pool(a(x)).flatten(1).sum(1, keepdim=True), nn.Conv2d(3, 4, 3)))
    found = explain(net, pixels(3, 3, 9, 9), "deeplift(baseline=0.1)")
    assert (found.gap < 1e-5 * (1 + found.output.abs())).all()


CURVES = [
    torch.sigmoid, torch.tanh, functional.gelu, functional.silu, functional.softplus, functional.elu, functional.relu6,
    functional.hardtanh, functional.leaky_relu, functional.hardswish, lambda h: h**2, lambda h: h * h, lambda h: h.abs() / (1 + h * h),
    lambda h: h.softmax(1), lambda h: h - functional.log_softmax(h, 1), lambda h: torch.sigmoid(h.mean(1, keepdim=True)) * h,
    lambda h: 1 / (2 + torch.tanh(h)), lambda h: h.clamp(-0.5, 0.5), lambda h: torch.einsum("ni,nj->ni", h, h),
    lambda h: (h[:, :, None] @ h[:, None, :]).sum(2), lambda h: functional.silu(h * 1, inplace=True), lambda h: (h * 1).mul_(h),
    lambda h: (h * 1).div_(2 + h.tanh()), lambda h: 3 - h.exp(), lambda h: -h / 3,
]  # fmt: skip


@pytest.mark.parametrize("curve", CURVES)
def test_every_nonlinearity_keeps_the_sum(nets, pixels, curve):
    net = nets.lived_in(nets.Call(lambda x, a, b: b(curve(a(x.flatten(1)))), nn.Linear(12, 6), nn.Linear(6, 2)))
    found = explain(net, pixels(4, 3, 2, 2), "deeplift(baseline=0.3)", target=1)
    assert (found.gap < 1e-5).all()
    assert (found.output - found.reference_output).abs().max() > 1e-3


def test_a_product_shares_by_the_mean_of_the_other_factor(nets):
    net = nets.Call(lambda x: x[:, :1] * x[:, 1:])
    found = explain(net, torch.tensor([[3.0, 5.0]]), "deeplift(baseline=1.0)")
    torch.testing.assert_close(found.values, torch.tensor([[2.0 * 3.0, 4.0 * 2.0]]))  # Δa b̄, Δb ā


def test_where_the_input_hardly_differs_the_multiplier_is_the_gradient(nets):
    net = nets.Call(lambda x: torch.sigmoid(x[:, :1] - x[:, 1:]))
    found = explain(net, torch.tensor([[2.0, 2.0]]), "deeplift")
    torch.testing.assert_close(found.values, torch.tensor([[0.5, -0.5]]))  # σ'(0) = 1/4, times ±2


def test_what_leaves_the_graph_is_refused_and_not_shared_out(nets, pixels):
    net = nets.lived_in(
        nets.Call(lambda x, a: a(x.flatten(1)) * x.detach().flatten(1).sum(1, keepdim=True), nn.Linear(12, 2))
    )
    with pytest.raises(GuardError, match="add up"):
        explain(net, pixels(3, 3, 2, 2), "deeplift(baseline=0.4)", target=0)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_moved_row_axis_changes_nothing(nets, pixels, rows):
    moved = nets.lived_in(nets.Call(lambda x, a: a(torch.tanh(x.flatten(1).T).softmax(0).T), nn.Linear(12, 2)))
    kept = nets.Call(lambda x, a: a(torch.tanh(x.flatten(1)).softmax(1)), *moved.parts)
    x = pixels(rows, 3, 2, 2)
    found, wanted = (explain(net, x, 'deeplift(baseline="mean")', target=0) for net in (moved, kept))
    torch.testing.assert_close(found.values, wanted.values)
    assert float(found.gap.max()) < 1e-6


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_equal_to_captum_where_no_pool_follows_a_relu(nets, pixels):
    from captum.attr import DeepLift

    net = nets.lived_in(nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 5), nn.ELU(), nn.Linear(5, 2))).double()  # fmt: skip
    x = pixels(3, 3, 8, 8).double()
    wanted = DeepLift(net).attribute(x.clone(), torch.full_like(x, 0.25), target=1).detach()
    torch.testing.assert_close(explain(net, x, "deeplift(baseline=0.25)", target=1).values, wanted)
