"""Blur and guided integrated gradients: paths that are not straight, against closed forms and naive walks."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pellucid
from pellucid.attribution import METHODS
from pellucid.attribution.fills import gaussian_blur
from pellucid.attribution.guided_path import advance
from pellucid.errors import BadRecipe, ShapeError


class Scalar(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x):
        return self.formula(x.flatten(1))[:, None]


def relu_net(nets):
    return nets.lived_in(nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)))  # fmt: skip


def allowed(found):
    before, after = found.reference_output, found.output
    return 1e-2 * torch.maximum((after - before).abs(), 0.05 * (after.abs() + before.abs())) + 1e-6


@pytest.mark.parametrize("shape", [(12,), (6, 8), (4, 5, 6)])
@pytest.mark.parametrize("steps", [1, 5])
def test_blur_ig_of_a_linear_model_is_weight_times_what_the_widest_blur_took(pixels, shape, steps):
    x = pixels(3, 2, *shape)
    w = pixels(x[0].numel(), seed=3)
    found = pellucid.explain(Scalar(lambda v: v @ w), x, f"blur_ig(steps={steps}, max_sigma=0.3)")
    wanted = w.view_as(x[0]) * (x - gaussian_blur(x, 0.3 * min(shape)))
    torch.testing.assert_close(found.values, wanted, rtol=1e-4, atol=1e-5)
    assert float(found.gap.max()) < 1e-4


def test_blur_ig_of_a_quadratic_model_adds_up_whatever_the_steps(pixels):
    x = pixels(3, 1, 6, 6)
    for steps in (1, 7):
        found = pellucid.explain(Scalar(lambda v: v.square().sum(1)), x, f"blur_ig(steps={steps})")
        blurred = gaussian_blur(x, 1.2)
        torch.testing.assert_close(found.reference_output, blurred.square().flatten(1).sum(1))
        assert float(found.gap.max()) < 1e-4


def test_blur_ig_equals_a_naive_walk(nets, pixels):
    net, x = relu_net(nets), pixels(3, 2, 6, 6)
    wanted = torch.zeros_like(x)
    knots = [gaussian_blur(x, (1 - k / 9) * 0.25 * 6) for k in range(10)]
    for a, b in itertools.pairwise(knots):
        middle = ((a + b) / 2).requires_grad_()
        wanted += (b - a) * torch.autograd.grad(net(middle)[:, 1].sum(), middle)[0]
    found = pellucid.explain(net, x, "blur_ig(steps=9, max_sigma=0.25)", target=1, batch_size=4)
    torch.testing.assert_close(found.values, wanted, rtol=1e-4, atol=1e-6)
    assert found.backwards == 27


def test_what_blurring_leaves_reads_zero(pixels):
    x = torch.ones(1, 1, 8, 8)
    found = pellucid.explain(Scalar(lambda v: v.sum(1)), x, "blur_ig(steps=4)")
    assert float(found.values.abs().max()) < 1e-5


@pytest.mark.parametrize("text", ["blur_ig", "guided_ig"])
def test_without_steps_the_gap_is_in_the_tolerance_or_the_row_is_named(nets, pixels, text):
    net, x = relu_net(nets), pixels(3, 2, 6, 6)
    found = pellucid.explain(net, x, text, target=1)
    assert ((found.gap <= allowed(found)) | (found.details["steps"] == 1024)).all()
    assert (found.warnings == ()) == bool((found.gap <= allowed(found)).all())


@pytest.mark.parametrize("text", ["blur_ig(steps=7)", "blur_ig", "guided_ig(steps=25)", "guided_ig(steps=9, baseline='noise')"])  # fmt: skip
def test_row_i_alone_equals_row_i_in_a_batch(nets, pixels, text):
    net, x, ids = relu_net(nets), pixels(3, 2, 6, 6), ("a", "b", "c")
    together = pellucid.explain(net, x, text, target=[0, 1, 2], ids=ids, batch_size=2)
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], text, target=row, ids=ids[row : row + 1])
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-4, atol=1e-5)


def test_no_batch_grows_with_steps(nets, pixels):
    net, largest = relu_net(nets), []
    net.register_forward_hook(lambda module, inputs, output: largest.append(len(output)))
    for text in ("blur_ig(steps=100)", "guided_ig(steps=50)"):
        pellucid.explain(net, pixels(5, 2, 6, 6), text, batch_size=3)
    assert max(largest) == 3


def test_guided_ig_of_a_linear_model_is_weight_times_difference(pixels):
    x, w = pixels(3, 2, 4), pixels(8, seed=2)
    for steps in (1, 30):
        found = pellucid.explain(Scalar(lambda v: v @ w), x, f"guided_ig(steps={steps}, baseline=0.5)")
        torch.testing.assert_close(found.values, w.view(2, 4) * (x - 0.5), rtol=1e-4, atol=1e-6)


def test_guided_ig_on_a_free_path_gives_a_product_to_the_factor_that_goes_last():
    # f = a² b, at (1, 1): both slopes are 0 at the start, they tie and go together; from then on |2ab| > |a²|, so b goes first
    found = pellucid.explain(
        Scalar(lambda v: v[:, 0] ** 2 * v[:, 1]),
        torch.ones(1, 1, 2),
        "guided_ig(steps=500, fraction=0.1, max_distance=1.0)",
    )
    a, b = found.values.flatten().tolist()
    assert a == pytest.approx(1.0, abs=0.02)
    assert b == pytest.approx(0.0, abs=0.02)
    assert float(found.gap) < 1e-2


def test_without_leeway_guided_ig_is_integrated_gradients(nets, pixels):
    net, x = relu_net(nets), pixels(2, 2, 6, 6)
    guided = pellucid.explain(net, x, "guided_ig(steps=400, max_distance=0.0)", target=0).values
    straight = pellucid.explain(net, x, "integrated_gradients(steps=400)", target=0).values
    assert (guided - straight).abs().max() < 0.01 * straight.abs().max()


def walked(net: nn.Module, x: Tensor, target: int, steps: int, fraction: float, leeway: float) -> Tensor:
    """One row, one group at a time, from zero, as the paper describes it; no ties expected."""
    progress, total, size = torch.zeros(x.numel()).double(), torch.zeros(x.numel()).double(), x.numel()
    way = x.flatten().double()

    def slope(p: Tensor) -> Tensor:
        point = (p * way).view_as(x).float()[None].requires_grad_()
        return torch.autograd.grad(net(point)[0, target], point)[0].flatten().double()

    for step in range(1, steps + 1):
        goal, here = step / steps, slope(progress)
        low, high = (goal - leeway if step < steps else 1.0), min(1.0, goal + leeway)
        moved = progress.clamp(min=low)
        while (lacking := goal * way.abs().sum() - (moved * way.abs()).sum()) > 1e-12:
            open_ = [i for i in range(size) if moved[i] < high]
            chosen = sorted(open_, key=lambda i: float(here[i].abs()))[: int(fraction * (size - 1)) + 1]
            available = sum(float((high - moved[i]) * way[i].abs()) for i in chosen)
            share = min(1.0, float(lacking) / available)
            for i in chosen:
                moved[i] += share * (high - moved[i])
            if share < 1:
                break
        for place in (0.125, 0.375, 0.625, 0.875):
            total += (moved - progress) * way * slope(progress + place * (moved - progress)) / 4
        progress = moved
    return total.view_as(x).float()


def test_guided_ig_equals_a_naive_walk(nets, pixels):
    net = nets.lived_in(nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.Softplus(), nn.Linear(6, 3)))
    x = pixels(2, 2, 4, 4)
    for fraction, leeway in ((0.25, 0.1), (0.1, 0.5)):
        text = f"guided_ig(steps=12, fraction={fraction}, max_distance={leeway})"
        found = pellucid.explain(net, x, text, target=1)
        wanted = torch.stack([walked(net, row, 1, 12, fraction, leeway) for row in x])
        torch.testing.assert_close(found.values, wanted, rtol=1e-3, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 12), st.integers(2, 20), st.floats(0, 1), st.integers(0, 10_000), st.booleans()
)
def test_every_step_reaches_its_goal_within_the_span_and_never_goes_back(size, group, steps, leeway, seed, tied):
    stream = torch.Generator().manual_seed(seed)
    way, progress = torch.rand(2, size, generator=stream).double(), torch.zeros(2, size).double()
    for step in range(1, steps + 1):
        goal = step / steps
        span = (goal - leeway if step < steps else 1.0, min(1.0, goal + leeway))
        steep = torch.randint(2, (2, size), generator=stream).double() if tied else torch.rand(2, size, generator=stream).double()  # fmt: skip
        moved = advance(progress, way, steep, span, goal, group)
        assert (moved >= progress - 1e-12).all()
        assert (moved >= span[0] - 1e-12).all()
        assert (moved <= max(span[1], float(progress.max())) + 1e-12).all()
        torch.testing.assert_close((moved * way).sum(1), goal * way.sum(1), rtol=1e-9, atol=1e-12)
        progress = moved
    torch.testing.assert_close(progress, torch.ones_like(progress))


def test_equally_steep_elements_move_alike():
    moved = advance(torch.zeros(1, 4), torch.ones(1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), (0.0, 1.0), 0.3, 1)
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0.4, 0.4, 0.4]]))


def test_guided_ig_adds_up_on_a_relu_net_whose_kinks_the_path_follows(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(2, 3, 12, 12)
    found = pellucid.explain(net, x, "guided_ig(steps=60)", target=1)
    assert (found.gap <= 1e-2 * (found.output - found.reference_output).abs()).all()
    assert found.backwards == 2 * 60 * 5


def test_a_row_equal_to_its_reference_reads_zero_beside_others(nets, pixels):
    net, x = relu_net(nets), pixels(2, 2, 6, 6)
    x[0] = 0
    found = pellucid.explain(net, x, "guided_ig(steps=20)", target=0)
    assert float(found.values[0].abs().max()) == 0
    assert float(found.values[1].abs().max()) > 0


def test_several_inputs_share_one_completeness(nets, pixels):
    net = nets.Call(lambda a, b: (a.flatten(1).sum(1) * b.flatten(1).mean(1))[:, None])
    a, b = pixels(2, 1, 3, 3), pixels(2, 2, 4, seed=2)
    for text in ("blur_ig(steps=20)", "guided_ig(steps=200)"):
        found = pellucid.explain(net, (a, b), text)
        assert found.values[1].shape == b.shape
        assert float(found.gap.max()) < 1e-2


def test_what_has_no_space_cannot_be_blurred_and_bad_settings_are_refused(nets, pixels):
    with pytest.raises(ShapeError, match="spatial axes"):
        pellucid.explain(nets.Call(lambda x: x.sum(1, keepdim=True)), pixels(2, 5), "blur_ig")
    for text in (
        "blur_ig(steps=0)",
        "blur_ig(max_sigma=0.0)",
        "guided_ig(fraction=0.0)",
        "guided_ig(max_distance=2.0)",
    ):
        with pytest.raises(BadRecipe, match="does not fit"):
            METHODS.parse(text)
