"""Captum: where it is right, pellucid says the same; where it is measurably wrong, a closed form says who is right."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid import explain
from pellucid.attribution import METHODS

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def captum(peer):
    return peer("captum.attr")


@pytest.fixture
def net(settled) -> nn.Module:
    return settled(
        nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 3),
        )
    )  # fmt: skip


class Game(nn.Module):
    """Six players, one a column, who are worth something alone, in pairs and in a triple."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f = x.mean((1, 2)).unbind(1)
        return torch.stack([2 * a - b + 3 * c * d + a * e * f, f + a * b], 1)


COLUMNS = torch.arange(6).repeat(6, 1)


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("saliency", lambda attr, net, x: attr.Saliency(net).attribute(x, target=1)),
        ("gradient", lambda attr, net, x: attr.Saliency(net).attribute(x, target=1, abs=False)),
        ("input_x_gradient", lambda attr, net, x: attr.InputXGradient(net).attribute(x, target=1)),
        ("integrated_gradients(steps=24)",
         lambda attr, net, x: attr.IntegratedGradients(net).attribute(x, target=1, n_steps=24, method="gausslegendre")),
        ("guided_backprop", lambda attr, net, x: attr.GuidedBackprop(net).attribute(x, target=1)),
        ("deconvnet", lambda attr, net, x: attr.Deconvolution(net).attribute(x, target=1)),
        ("deeplift", lambda attr, net, x: attr.DeepLift(net).attribute(x, target=1)),
        ("gradcam(at=\"4\")",
         lambda attr, net, x: attr.LayerGradCam(net, net[4]).attribute(x, target=1, relu_attributions=False)),
    ],
)  # fmt: skip
def test_backward_methods_agree(captum, net, pixels, method, theirs):
    x = pixels(3, 2, 8, 8)
    wanted = theirs(captum, net, x.clone().requires_grad_()).detach().float()
    torch.testing.assert_close(explain(net, x, method, target=1).values, wanted, rtol=1e-4, atol=1e-6)


def test_windows_and_segments_agree(captum, net, pixels):
    x, labels = pixels(2, 2, 8, 8), torch.arange(64).view(8, 8) // 9
    wanted = captum.Occlusion(net).attribute(x, target=1, sliding_window_shapes=(2, 4, 4), strides=(2, 2, 2))
    found = explain(net, x, "occlusion(window=4, stride=2)", target=1).values * 32
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)
    wanted = captum.FeatureAblation(net).attribute(x, target=1, feature_mask=labels[None, None])
    sizes = torch.bincount(labels.flatten())[labels] * 2
    ablation = METHODS["ablation"](segments=labels)
    torch.testing.assert_close(explain(net, x, ablation, target=1).values * sizes, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", [0, 1])
def test_small_games_agree(captum, pixels, target):
    game, x = Game(), pixels(2, 1, 6, 6)
    setting = {"target": target, "feature_mask": COLUMNS[None, None]}
    wanted = captum.ShapleyValues(game).attribute(x, **setting)[:, 0, 0]
    for name in ("shapley_sampling", "kernel_shap"):
        found = explain(game, x, METHODS[name](segments=COLUMNS), target=target).details["effects"]
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    sampled = captum.KernelShap(game).attribute(x[:1], **setting, n_samples=4000)[0, 0, 0]
    torch.testing.assert_close(sampled, wanted[0], rtol=0.1, atol=0.05)


def test_lime_agrees_where_the_surrogate_can_be_exact(captum, settled, pixels):
    """Kernels, distances and penalties differ: on a linear model without a penalty none of them matters."""
    net, x = settled(nn.Sequential(nn.Flatten(), nn.Linear(36, 2))), pixels(1, 1, 6, 6)
    linear = captum.Lime(net, interpretable_model=_LeastSquares())
    wanted = linear.attribute(x, target=1, feature_mask=COLUMNS[None, None], n_samples=200)[0, 0, 0]
    found = explain(net, x, METHODS["lime"](segments=COLUMNS, samples=200, ridge=1e-9), target=1)
    torch.testing.assert_close(found.details["effects"][0], wanted, rtol=1e-3, atol=1e-4)


class _LeastSquares:
    def fit(self, data, **_settings):
        parts = [(x, y.view(-1), weights.view(-1)) for x, y, weights in data]
        x, y, weights = (torch.cat(column) for column in zip(*parts, strict=True))
        design = torch.cat([x, torch.ones(len(x), 1)], 1) * weights.sqrt()[:, None]
        solved = torch.linalg.lstsq(design, y[:, None] * weights.sqrt()[:, None]).solution[:, 0]
        self.coefficients = solved[:-1]

    def representation(self):
        return self.coefficients[None]


def test_the_trapezoid_of_captum_loses_one_part_in_n(captum, settled, pixels):
    """IG of a linear model is w·(x − b), exactly, whatever the rule and the steps."""
    net, x = settled(nn.Sequential(nn.Flatten(), nn.Linear(8, 1))), pixels(2, 2, 4)
    exact = x * net[1].weight.detach().view(1, 2, 4)
    for steps in (10, 50):
        theirs = captum.IntegratedGradients(net).attribute(x, target=0, n_steps=steps, method="riemann_trapezoid")
        torch.testing.assert_close(theirs.float(), exact * (1 - 1 / steps), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(explain(net, x, f"integrated_gradients(steps={steps})", target=0).values, exact)


def rescaled(net: nn.Sequential, x: Tensor, b: Tensor, target: int) -> Tensor:
    """Return DeepLIFT of convolution, ReLU, 2 × 2 maxima and a linear head, value by value from its definition."""
    convolution, *_, head = net
    low, high = convolution(b), convolution(x)
    pooled, base = functional.max_pool2d(high.relu(), 2), functional.max_pool2d(low.relu(), 2)
    onto = (head.weight[target].view(pooled.shape[1:]) * (pooled - base))[0]
    relevance = torch.zeros_like(high[0])
    for channel, row, column in torch.cartesian_prod(*map(torch.arange, onto.shape)):
        cells = (channel, slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        up = pooled[0, channel, row, column] >= base[0, channel, row, column]
        winner = ((high if up else low)[0].relu()[cells]).flatten().argmax()
        place = (channel, 2 * row + winner // 2, 2 * column + winner % 2)
        apart = high[0].relu()[place] - low[0].relu()[place]
        relevance[place] = onto[channel, row, column] / apart if apart != 0 else 0
    apart = high - low
    slope = torch.where(apart == 0, 0, (high.relu() - low.relu()) / apart)
    return torch.nn.grad.conv2d_input(x.shape, convolution.weight, relevance[None] * slope) * (x - b)


def test_deeplift_of_captum_goes_astray_where_a_maximum_follows_a_relu(captum, settled, pixels):
    net = settled(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)))
    net = net.double()
    x, b = pixels(1, 1, 8, 8).double(), pixels(1, 1, 8, 8, seed=2).double()
    ours = explain(net, x, METHODS["deep_shap"](background=b), target=1).values  # one reference: DeepLIFT from it
    theirs = captum.DeepLift(net).attribute(x, b, target=1).detach()
    assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] < 0.99
    rise = (net(x) - net(b))[0, 1].detach()
    torch.testing.assert_close(ours.sum(), rise)
    assert abs(theirs.sum() - rise) > 1e-3
    torch.testing.assert_close(ours, rescaled(net, x, b, 1).detach(), rtol=1e-5, atol=1e-8)


def test_deeplift_of_captum_lets_rows_of_a_softmax_depend_on_each_other(captum, settled, pixels):
    net = settled(nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3), nn.Softmax(1)))
    x = pixels(4, 2, 4)
    alone = captum.DeepLift(net).attribute(x[:1], target=0)
    together = captum.DeepLift(net).attribute(x, target=0)[:1]
    assert float((alone - together).abs().max()) > 1e-3 * float(alone.abs().max())
    found = explain(net, x, "deeplift", target=0)
    torch.testing.assert_close(explain(net, x[:1], "deeplift", target=0).values, found.values[:1])
    rise = (net(x) - net(torch.zeros_like(x)))[:, 0].detach()
    torch.testing.assert_close(found.values.flatten(1).sum(1), rise, rtol=1e-4, atol=1e-6)


def test_deeplift_of_captum_cannot_see_functional_relus(captum):
    """f = relu(x₁ + x₂) at (3, −1) against (−1, −1): only x₁ differs, so it takes all of f(x) − f(b) = 2."""

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.relu(x.sum(1, keepdim=True))

    x, b = torch.tensor([[3.0, -1.0]]), torch.tensor([[-1.0, -1.0]])
    theirs = captum.DeepLift(Functional()).attribute(x, b, target=0).detach()
    torch.testing.assert_close(theirs, torch.tensor([[4.0, 0.0]]))  # slope 1 × difference 4: the plain gradient
    ours = explain(Functional(), x, "deeplift(baseline=-1.0)", target=0).values
    torch.testing.assert_close(ours, torch.tensor([[2.0, 0.0]]))


def test_guided_backprop_of_captum_cannot_see_functional_relus(captum):
    """f = −relu(x): what arrives at the ReLU is −1, which guided backpropagation holds back."""

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -functional.relu(x).sum(1, keepdim=True)

    x = torch.tensor([[2.0, 1.0]])
    theirs = captum.GuidedBackprop(Functional()).attribute(x.clone().requires_grad_(), target=0)
    torch.testing.assert_close(theirs, torch.tensor([[-1.0, -1.0]]))
    assert not explain(Functional(), x, "guided_backprop", target=0).values.any()


def test_deeplift_of_captum_raises_where_a_relu_is_used_twice(captum, settled, pixels):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(4, 6), nn.Linear(6, 6), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.b(self.relu(self.a(x)))).sum(1, keepdim=True)

    net, x = settled(Twice()), pixels(3, 4)
    with pytest.raises((RuntimeError, AssertionError)):
        captum.DeepLift(net).attribute(x, target=0)
    rise = (net(x) - net(torch.zeros_like(x)))[:, 0].detach()
    torch.testing.assert_close(explain(net, x, "deeplift", target=0).values.sum(1), rise, rtol=1e-4, atol=1e-6)


class Skip(nn.Module):
    """Two convolutions with a sum round the second, and no bias anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(before, 6, 3, padding=1, bias=False) for before in (1, 6))
        self.relu, self.last = nn.ReLU(), nn.ReLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.a(x))
        return self.head(self.pool(self.last(self.b(h) + h)).view(len(x), -1))


def test_lrp_of_captum_makes_relevance_at_a_sum(captum, settled, pixels):
    """Without a bias, relevance has nowhere to go but to the pixels: its sum is the output."""
    net, x = settled(Skip()), pixels(1, 1, 8, 8)
    output = net(x)[0, 1].detach()
    torch.testing.assert_close(explain(net, x, "lrp", target=1).values.sum(), output, rtol=1e-3, atol=1e-5)
    theirs = captum.LRP(net).attribute(x.clone().requires_grad_(), target=1).sum().detach()
    assert abs(float(theirs / output) - 1) > 0.2


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.relu, self.pool, self.head = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.relu(self.norm(self.a(x)))).view(len(x), -1))


def test_lrp_agrees_behind_a_batch_norm_and_only_ours_says_what_the_shifts_took(captum, settled, pixels):
    """Convolution, BatchNorm z ↦ s·z + t, ReLU, linear head v: pixels hold Σ v·s·z and the shifts Σ v·t, where s·z + t > 0."""
    net, x = settled(Normed()), pixels(1, 1, 8, 8)
    norm, head = net.norm, net.head.weight[1].view(1, 6, 1, 1)
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).view(1, 6, 1, 1)
    z, y = net.a(x) * scale, norm(net.a(x))
    pixels_hold, shifts_hold = ((head * part * (y > 0)).mean((2, 3)).sum().detach() for part in (z, y - z))
    ours = explain(net, x, "lrp", target=1)
    torch.testing.assert_close(ours.values.sum(), pixels_hold, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.absorbed[0], shifts_hold, rtol=1e-3, atol=1e-4)
    theirs = captum.LRP(net).attribute(x.clone().requires_grad_(), target=1).detach()
    torch.testing.assert_close(ours.values, theirs, rtol=1e-3, atol=1e-5)


def test_vargrad_of_captum_is_a_difference_of_squares(captum, settled, pixels):
    """The gradient of a linear model does not vary: its variance is 0."""
    net, x = settled(nn.Sequential(nn.Flatten(), nn.Linear(8, 1))), pixels(1, 2, 4)
    net[1].weight.data.mul_(1000)
    torch.manual_seed(0)
    tunnel = captum.NoiseTunnel(captum.Saliency(net))
    theirs = tunnel.attribute(x.requires_grad_(), nt_type="vargrad", nt_samples=7, target=0, abs=False)
    assert bool((theirs != 0).any())
    assert not explain(net, x.detach(), "vargrad(samples=7)", target=0).values.any()


def test_deeplift_of_captum_takes_the_first_rows_gradient_at_a_maximum_for_all(captum):
    """Two places whose changes cancel in front of a maximum: what they get hangs on the first row of the batch."""
    add = nn.Conv2d(1, 1, (2, 1), bias=False)
    nn.init.ones_(add.weight)
    net = nn.Sequential(add, nn.MaxPool2d((1, 2)), nn.Flatten()).eval()
    row = torch.tensor([[[[1.0, -1.0], [-1.0, -1.0]]]])
    other = torch.tensor([[[[1.0, 4.0], [1.0, 4.0]]]])
    alone = captum.DeepLift(net).attribute(row, target=0)
    together = captum.DeepLift(net).attribute(torch.cat([other, row]), target=0)[1:]
    assert not torch.allclose(alone, together)
    ours = explain(net, torch.cat([other, row]), "deeplift", target=0)
    torch.testing.assert_close(ours.values[1:], explain(net, row, "deeplift", target=0).values)
    assert float(ours.gap.max()) < 1e-5
