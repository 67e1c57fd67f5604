"""The gradient-weighted class activation maps beside Grad-CAM: closed forms, axioms, and naive loops."""

from itertools import product

import pytest
import torch
from torch import nn

import pellucid
from pellucid.errors import CannotExplain

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
WEIGHTED = ["gradcam", "gradcam_plus_plus", "hirescam", "layercam", "xgradcam"]


class Net(nn.Module):
    """Feature maps, and a head that is linear after a mean or a flattening, or bent."""

    def __init__(self, rank=2, head="pool", last=nn.ReLU):
        super().__init__()
        torch.manual_seed(0)
        convolution = CONVOLUTIONS[rank - 1]
        self.body = nn.Sequential(convolution(2, 4, 3, padding=1), nn.Tanh(), convolution(4, 5, 3, padding=1), last())
        width = 5 * (4**rank if head == "flatten" else 1)
        pool = nn.Identity() if head == "flatten" else POOLS[rank - 1](1)
        bend = convolution(5, 5, 3, padding=1) if head == "bent" else nn.Identity()
        self.neck = nn.Sequential(bend, nn.Softplus() if head == "bent" else nn.Identity(), pool, nn.Flatten(1))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.neck(self.body(x)))

    def at_body(self, x, target):
        """Return activations and slopes by plain autograd."""
        maps = self.body(x).detach().requires_grad_()
        score = self.head(self.neck(maps))[:, target].sum()
        return maps.detach(), torch.autograd.grad(score, maps)[0]


def images(rank=2, rows=3):
    return torch.randn((rows, 2, *[4] * rank), generator=torch.Generator().manual_seed(1))


def cam(net, x, method, target=1, **more):
    return pellucid.explain(net, x, f"{method}(at='body')", target=target, **more)


def published(method, activations, slopes):
    """Compute the published formula of one row, place by place."""
    channels, space = len(activations), [range(size) for size in activations.shape[1:]]
    out = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for k, places in product(range(channels), [list(product(*space))]):
        a = {place: float(activations[k][place]) for place in places}
        g = {place: float(slopes[k][place]) for place in places}
        total = sum(a.values())
        for place in places:
            if method == "gradcam":
                weight = sum(g.values()) / len(places)
            elif method == "gradcam_plus_plus":
                alpha = {p: g[p] ** 2 / (2 * g[p] ** 2 + total * g[p] ** 3) if g[p] else 0.0 for p in places}
                weight = sum(alpha[p] * max(g[p], 0.0) for p in places)
            elif method == "xgradcam":
                weight = sum(a[p] / total * g[p] for p in places) if total else 0.0
            else:
                weight = {"hirescam": g[place], "layercam": max(g[place], 0.0)}[method]
            out[place] += weight * a[place]
    return out.float()


@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("last", [nn.ReLU, nn.Tanh])
def test_the_map_is_the_published_formula_before_its_relu(method, rank, last):
    net, x = Net(rank, "bent", last), images(rank)
    activations, slopes = net.at_body(x, 1)
    e = cam(net, x, method)
    assert e.values.shape == (3, 1, *[4] * rank)
    for row in range(3):
        expected = published(method, activations[row], slopes[row])
        torch.testing.assert_close(e.values[row, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["pool", "flatten"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("last", [nn.ReLU, nn.Tanh])
def test_hirescam_adds_up_to_the_logit_less_the_bias_where_the_head_is_linear(head, rank, last):
    net, x = Net(rank, head, last), images(rank)
    e = cam(net, x, "hirescam", target=[0, 1, 2])
    torch.testing.assert_close(e.values.flatten(1).sum(1) + net.head.bias.detach(), e.output)


def test_hirescam_gives_every_place_its_own_share_of_a_flattened_linear_head():
    net, x = Net(2, "flatten"), images()
    e = cam(net, x, "hirescam", target=2)
    shares = net.head.weight[2].view(1, 5, 4, 4) * net.body(x)
    torch.testing.assert_close(e.values, shares.sum(1, keepdim=True).detach())
    coarse = cam(net, x, "gradcam", target=2)
    assert not torch.allclose(coarse.values.flatten(1).sum(1), e.values.flatten(1).sum(1), rtol=0.05)


def test_hirescam_adds_up_for_a_region_of_a_segmentation_too():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Conv2d(2, 4, 3, padding=1)
            self.logits = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.logits(self.body(x))

    net, box = Dense(), pellucid.targets.Region(1, box=((0, 0), (3, 2)))
    e = cam(net, images(), "hirescam", target=box)
    torch.testing.assert_close(e.values.flatten(1).sum(1) + net.logits.bias[1].detach(), e.output)
    assert bool((e.values[:, :, 3:] == 0).all())


def test_hirescam_is_gradcam_on_a_pooled_linear_head_and_so_is_xgradcam():
    net, x = Net(), images()
    maps = [cam(net, x, method).values for method in ("gradcam", "hirescam", "xgradcam")]
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])


def test_xgradcam_conserves_the_sum_of_activation_times_slope_within_every_channel():
    net, x = Net(2, "bent"), images()
    activations, slopes = net.at_body(x, 1)
    e = cam(net, x, "xgradcam")
    torch.testing.assert_close(e.values.flatten(1).sum(1), (activations * slopes).flatten(1).sum(1))
    torch.testing.assert_close(e.values.flatten(1).sum(1), cam(net, x, "hirescam").values.flatten(1).sum(1))


def test_xgradcam_meets_its_sensitivity_axiom_on_a_linear_head():
    """The share of a channel is what the output loses when that channel is removed."""
    net, x = Net(2, "flatten"), images()
    activations, slopes = net.at_body(x, 1)
    full = net.head(activations.flatten(1))[:, 1]
    weights = (activations * slopes).flatten(2).sum(2) / activations.flatten(2).sum(2).clamp(min=1e-30)
    shares = weights[..., None, None] * activations
    torch.testing.assert_close(cam(net, x, "xgradcam").values, shares.sum(1, keepdim=True))
    for channel in range(5):
        without = activations.clone()
        without[:, channel] = 0
        lost = (full - net.head(without.flatten(1))[:, 1]).detach()
        torch.testing.assert_close(shares[:, channel].flatten(1).sum(1), lost, rtol=1e-4, atol=1e-6)


def test_layercam_keeps_only_what_the_output_rises_with_at_every_place():
    net, x = Net(2, "bent"), images()
    activations, slopes = net.at_body(x, 1)
    assert bool((slopes < 0).any())
    e = cam(net, x, "layercam")
    torch.testing.assert_close(e.values, (slopes.clamp(min=0) * activations).sum(1, keepdim=True))
    assert bool((e.values >= 0).all())


def test_gradcam_plus_plus_has_its_closed_form_on_a_pooled_linear_head():
    net, x = Net(), images()
    activations = net.body(x).detach()
    weight = net.head.weight[1].detach().clamp(min=0)
    closed = weight / (2 + weight * activations.flatten(2).mean(2))
    expected = torch.einsum("nk,nkyx->nyx", closed, activations)[:, None]
    torch.testing.assert_close(cam(net, x, "gradcam_plus_plus").values, expected)


def test_gradcam_plus_plus_does_not_overflow_where_the_exponential_of_the_score_would():
    net, x = Net(), images()
    with torch.no_grad():
        net.head.bias += 1000
    plain = cam(Net(), x, "gradcam_plus_plus").values
    torch.testing.assert_close(cam(net, x, "gradcam_plus_plus").values, plain)


class Placed(nn.Module):
    """A layer whose feature maps are the images, and a linear head over their mean."""

    def __init__(self, weight):
        super().__init__()
        self.body = nn.Identity()
        self.head = nn.Linear(len(weight), 1, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([weight]))

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_activations_give_a_finite_constant_map_and_silent_ones_zeros(method, value):
    x = torch.full((2, 2, 4, 4), value)
    e = pellucid.explain(Placed([1.0, 0.5]), x, f"{method}(at='body')", target=0)
    assert float(e.values.std()) < 1e-6
    assert bool((e.values == 0).all()) == (value == 0)


def test_gradcam_plus_plus_refuses_negative_activations_that_turn_its_weights_round():
    x = torch.full((1, 2, 4, 4), -1.0)
    assert bool(
        pellucid.explain(Placed([1.0, 1.0]), x, "gradcam_plus_plus(at='body')", target=0).values.isfinite().all()
    )
    for weight in (2.0, 5.0):
        with pytest.raises(
            CannotExplain, match="denominator of a weight to zero or below; choose a layer after its ReLU"
        ):
            pellucid.explain(Placed([weight, 1.0]), x, "gradcam_plus_plus(at='body')", target=0)


@pytest.mark.parametrize("method", WEIGHTED)
def test_negative_activations_are_told_of_where_sums_of_them_are_divided_by(method):
    told = cam(Net(2, last=nn.Tanh), images(), method).warnings
    assert any("supposes a layer after its ReLU" in said for said in told) == (
        method in {"gradcam_plus_plus", "xgradcam"}
    )
    assert cam(Net(), images(), method).warnings == ()


def test_xgradcam_refuses_activations_that_cancel():
    x = images()
    x = x - x.mean((2, 3), keepdim=True)
    with pytest.raises(CannotExplain, match="cancel to a sum of zero over space"):
        pellucid.explain(Placed([1.0, 1.0]), x, "xgradcam(at='body')", target=0)


@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_row_i_alone_equals_row_i_in_a_batch(method, rank):
    net, x = Net(rank, "bent"), images(rank)
    together = cam(net, x, method, target=[0, 1, 2], batch_size=2)
    for row in range(3):
        alone = cam(net, x[row : row + 1], method, target=row)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", WEIGHTED)
def test_every_member_costs_one_backward_and_names_the_layer_that_it_chose(method):
    net, x = Net(), images()
    e = pellucid.explain(net, x, method)
    assert e.backwards == 3
    assert e.details["at"] in e.warnings[0]
    assert pellucid.methods()[method].family == "cam"
    assert pellucid.methods()[method].warning


@pytest.mark.parametrize("method", [*WEIGHTED, "eigencam", "scorecam", "ablationcam"])
def test_a_layer_of_numbers_of_tokens_or_of_infinities_is_refused(method):
    net = Net()
    with pytest.raises(CannotExplain, match="needs feature maps"):
        pellucid.explain(net, images(), f"{method}(at='head')", target=0)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Flatten(2)

        def forward(self, x):
            return self.body(x).mT.mean(1)

    with pytest.raises(CannotExplain, match=r"gives 2 tokens \(N, 2, 16\), and no patch convolution"):
        pellucid.explain(Tokens(), images(), f"{method}(at='body')", target=0)

    class Endless(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Identity()

        def forward(self, x):
            return torch.atan(self.body(x)).mean((2, 3))

    class Overflow(nn.Sequential):
        def forward(self, x):
            return super().forward(x / 0.0)

    with pytest.raises(CannotExplain, match=r"layer '1\.body' gives NaN or infinity"):
        pellucid.explain(Overflow(nn.Identity(), Endless()), images().abs() + 1, f"{method}(at='1.body')", target=0)
