"""Score-CAM and Ablation-CAM: naive loops, closed forms, and forwards in bounded batches."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import pellucid
from pellucid.errors import CannotExplain
from pellucid.models import Model, Passes, ReadOut
from pellucid.models.targets import Class, Latent

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MODES = ("linear", "bilinear", "trilinear")
CHANNELS = 5


class Net(nn.Module):
    """A map at half the grain of the image, whose channel 2 is silent and, where asked, a bent head."""

    def __init__(self, rank=2, *, bent=True):
        super().__init__()
        torch.manual_seed(0)
        convolution = CONVOLUTIONS[rank - 1]
        self.body = nn.Sequential(convolution(2, CHANNELS, 3, padding=1, stride=2), nn.ReLU())
        self.bend = nn.Softplus() if bent else nn.Identity()
        self.head = nn.Linear(CHANNELS, 3)
        self.most = 0
        with torch.no_grad():
            self.body[0].bias[2] = -100.0

    def after(self, maps):
        return self.head(self.bend(maps.flatten(2).mean(2) * 3))

    def forward(self, x):
        self.most = max(self.most, len(x))
        return self.after(self.body(x))


def images(rank=2, rows=3):
    return torch.randn((rows, 2, *[6] * rank), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def published_scorecam(net, x, target, fill=0.0):
    """Compute one row's map channel by channel."""
    maps = net.body(x)[0]
    scores, used = [], []
    for channel in maps:
        low, high = channel.min(), channel.max()
        if low == high:
            continue
        wide = functional.interpolate(
            channel[None, None], size=x.shape[2:], mode=MODES[x.ndim - 3], align_corners=False
        )
        mask = (wide - wide.min()) / (wide.max() - wide.min())
        scores.append(float(net(x * mask + fill * (1 - mask))[0, target]))
        used.append(channel)
    weights = torch.tensor([math.exp(score) for score in scores])
    return sum(weight * channel for weight, channel in zip(weights / weights.sum(), used, strict=True))


@torch.no_grad()
def published_ablationcam(net, x, target):
    """Compute one row's map channel by channel."""
    maps = net.body(x)
    whole, out = net.after(maps)[0, target], torch.zeros(maps.shape[2:])
    for channel in range(CHANNELS):
        without = maps.clone()
        without[:, channel] = 0
        out += (whole - net.after(without)[0, target]) / whole.abs() * maps[0, channel]
    return out


@pytest.mark.parametrize(
    ("method", "published"), [("scorecam", published_scorecam), ("ablationcam", published_ablationcam)]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_map_is_the_published_formula_before_its_relu_alone_and_in_a_batch(method, published, rank):
    net, x = Net(rank).eval(), images(rank)
    together = pellucid.explain(net, x, f"{method}(at='body')", target=[0, 1, 2], batch_size=2)
    assert together.values.shape == (3, 1, *[3] * rank)
    assert together.backwards == 0
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], f"{method}(at='body')", target=row)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-4, atol=1e-6)
        expected = published(net, x[row : row + 1], row)
        torch.testing.assert_close(together.values[row, 0], expected, rtol=1e-4, atol=1e-6)


def test_scorecam_hides_behind_the_fill_that_it_is_given():
    net, x = Net(), images(rows=1)
    e = pellucid.explain(net, x, "scorecam(at='body', fill=0.7)", target=1)
    torch.testing.assert_close(e.values[0, 0], published_scorecam(net, x, 1, fill=0.7), rtol=1e-4, atol=1e-6)


def test_a_constant_added_to_the_score_leaves_scorecam_as_it_is():
    net, x = Net(), images()
    plain = pellucid.explain(net, x, "scorecam(at='body')", target=1).values
    with torch.no_grad():
        net.head.bias += 200
    torch.testing.assert_close(
        pellucid.explain(net, x, "scorecam(at='body')", target=1).values, plain, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ablation_weights_are_the_channels_shares_of_a_pooled_linear_head(sign):
    net, x = Net(bent=False), images()
    with torch.no_grad():
        net.head.bias.fill_(sign * 20)
    e = pellucid.explain(net, x, "ablationcam(at='body')", target=1)
    assert bool((e.output * sign > 0).all())
    maps = net.body(x).detach()
    shares = 3 * maps.flatten(2).mean(2) * net.head.weight[1].detach() / e.output.abs()[:, None]
    torch.testing.assert_close(e.values, torch.einsum("nk,nkyx->nyx", shares, maps)[:, None], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_channels_go_through_in_bounded_batches_and_silent_ones_are_not_asked(method):
    net, x = Net(), images()
    e = pellucid.explain(net, x, f"{method}(at='body')", target=1, batch_size=2)
    assert net.most == 2
    asked = 3 * (CHANNELS - 1)
    assert e.forwards == 3 + 3 + asked
    wide = pellucid.explain(net, x, f"{method}(at='body')", target=1, batch_size=64)
    torch.testing.assert_close(wide.values, e.values, rtol=1e-4, atol=1e-6)


class Placed(nn.Module):
    """A layer whose feature maps are the images, and a linear head over their mean."""

    def __init__(self, bias=1.0):
        super().__init__()
        self.body = nn.Identity()
        self.head = nn.Linear(2, 1)
        with torch.no_grad():
            self.head.weight.fill_(1.0)
            self.head.bias.fill_(bias)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def test_activations_that_differ_by_rounding_alone_mask_nothing():
    x = torch.full((1, 2, 4, 4), 3.0)
    x[0, 0, 0, 0] = x[0, 0, 0, 0].nextafter(torch.tensor(4.0))
    e = pellucid.explain(Placed(), x, "scorecam(at='body')")
    assert bool((e.values == 0).all())
    assert e.forwards == 2


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_activations_mask_nothing_and_give_zeros(value):
    x = torch.full((2, 2, 4, 4), value)
    x[1, 0, 0, 0] = 5.0
    e = pellucid.explain(Placed(), x, "scorecam(at='body')")
    assert bool((e.values[0] == 0).all())
    torch.testing.assert_close(e.values[1, 0], x[1, 0])


def test_silent_activations_give_ablationcam_zeros_also_where_the_output_is_zero():
    x = torch.zeros(2, 2, 4, 4)
    for bias in (1.0, 0.0):
        assert bool((pellucid.explain(Placed(bias), x, "ablationcam(at='body')").values == 0).all())


def test_ablationcam_refuses_a_drop_relative_to_nothing():
    x = torch.ones(1, 2, 4, 4)
    with pytest.raises(CannotExplain, match="the target's value is 0 in some row"):
        pellucid.explain(Placed(bias=-2.0), x, "ablationcam(at='body')")


def test_an_input_that_the_mask_cannot_be_laid_over_is_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(2, 3, 3)
            self.head = nn.Linear(3 + 4, 2)

        def forward(self, x, table):
            return self.head(torch.cat([self.body(x).mean((2, 3)), table], 1))

    with pytest.raises(CannotExplain, match="and input 1 \\(3, 4\\): their axes do not match"):
        pellucid.explain(Two(), (images(), torch.zeros(3, 4)), "scorecam(at='body')", target=0)
    found = pellucid.explain(Two(), (images(), torch.zeros(3, 4)), "ablationcam(at='body')", target=0)
    assert bool((found.values != 0).any())


def test_the_target_may_be_the_layer_that_is_silenced():
    net, x = Net(), images()
    e = pellucid.explain(net, x, "ablationcam(at='body')", target=Latent(1, layer="body"))
    torch.testing.assert_close(e.values, net.body(x)[:, 1:2].detach())


def test_values_placed_at_a_layer_are_what_the_forward_goes_on_with():
    net, x = Net().eval(), images()
    maps = torch.rand(3, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(2))
    with Passes(Model(net), batch_size=2) as passes:
        outputs = passes.outputs((x,), placed={"body": maps})
        torch.testing.assert_close(outputs, net.after(maps))
        torch.testing.assert_close(passes.outputs((x,), "body", placed={"body": maps}), maps)
        read = Class(1).freeze(passes.model, outputs)
        torch.testing.assert_close(passes.scores((x,), read, placed={"body": maps}), outputs[:, 1])
        assert passes.forwards == 9
        assert isinstance(read, ReadOut)
