"""Features of layers: pooled as they say, the same for a row alone, with slopes that are derivatives."""

import pytest
import torch
from torch import nn

from pellucid.concepts import layer_features, layer_maps, layer_slopes
from pellucid.concepts.features import Pictures
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Passes
from pellucid.models.targets import Class, LogOdds


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


class Tokens(nn.Module):
    """Patches and a class token, mixed by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(2, 6, 4, stride=4)
        self.mix = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2)
        self.first = nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, x):
        h = self.patch(x).flatten(2).mT
        h = self.norm(self.mix(torch.cat([self.first.expand(len(h), -1, -1), h], 1)))
        return self.head(h[:, 0] + h.mean(1))


def test_a_feature_is_the_mean_over_the_places_of_its_channel(net):
    x = torch.randn(7, 2, 8, 8)
    found = layer_features(net, x, ["1", "3", "5"])
    with torch.no_grad():
        assert torch.allclose(found["1"], net[:2](x).mean((2, 3)).double(), atol=1e-6)
        assert torch.allclose(found["3"], net[:4](x).mean((2, 3)).double(), atol=1e-6)
        assert torch.allclose(found["5"], net[:6](x).double(), atol=1e-6)
        assert torch.equal(layer_features(net, x, ["3"], pool="places")["3"], net[:4](x).flatten(1).double())
        assert torch.allclose(layer_maps(net, x, "3"), net[:4](x), atol=1e-6)


def test_a_row_alone_has_the_same_features_and_slopes_as_in_a_batch(net):
    x = torch.randn(9, 2, 8, 8)
    whole, slopes = layer_features(net, x, ["3"]), layer_slopes(net, x, ["3"], Class(1))
    assert torch.allclose(layer_features(net, x, ["3"], batch_size=2)["3"], whole["3"], atol=1e-6)
    assert torch.allclose(layer_features(net, x[4:5], ["3"])["3"], whole["3"][4:5], atol=1e-6)
    assert torch.allclose(layer_slopes(net, x[4:5], ["3"], Class(1))["3"], slopes["3"][4:5], atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "places"])
def test_a_slope_is_the_change_of_the_output_when_the_feature_moves(net, pool):
    net = net.double()
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    slopes = layer_slopes(net, x, ["0"], LogOdds(2), pool=pool)["0"]
    direction = torch.randn(slopes.shape[1], dtype=torch.float64)
    step = direction.view(1, -1, 1, 1) if pool == "mean" else direction.view(1, 5, 8, 8)
    with Passes(layer_model := _model(net)) as passes:
        here = passes.outputs((x,), "0")
        read = LogOdds(2).freeze(layer_model, passes.outputs((x,)))
        up, down = (passes.scores((x,), read, placed={"0": here + sign * 1e-5 * step}) for sign in (1, -1))
    assert torch.allclose(slopes @ direction, (up - down) / 2e-5, rtol=1e-4, atol=1e-6)


def _model(net):
    from pellucid.models import Model

    return Model(net)


def test_patches_are_pooled_without_the_class_token():
    torch.manual_seed(0)
    net, x = Tokens(), torch.randn(3, 2, 16, 16)
    with torch.no_grad():
        h = net.patch(x).flatten(2).mT
        out = net.norm(net.mix(torch.cat([net.first.expand(3, -1, -1), h], 1)))
    assert torch.allclose(layer_features(net, x, ["norm"])["norm"], out[:, 1:].mean(1).double(), atol=1e-6)
    assert torch.allclose(layer_features(net, x, ["norm"], pool="token")["norm"], out[:, 0].double(), atol=1e-6)
    assert layer_maps(net, x, "norm").shape == (3, 6, 4, 4)
    mean, token = (layer_slopes(net, x, ["norm"], Class(0), pool=pool)["norm"] for pool in ("mean", "token"))
    weight = net.head.weight[0].detach().double()
    assert torch.allclose(mean, (weight * 16 / 17).expand(3, -1), atol=1e-6)
    assert torch.allclose(token, (weight * 18 / 17).expand(3, -1), atol=1e-6)


def test_images_may_come_from_a_set_of_which_some_are_asked(rim):
    chosen = rim.ids[3:6]
    found = layer_features(rim.model, rim.images, ["stages.1"], ids=chosen)["stages.1"]
    assert torch.equal(found, layer_features(rim.model, rim.images.tensor(chosen), ["stages.1"])["stages.1"])


def test_what_cannot_be_read_is_refused_in_a_sentence(net):
    x = torch.randn(2, 2, 8, 8)
    with pytest.raises(CannotExplain, match="no layer 'nine'"):
        layer_features(net, x, ["nine"])
    with pytest.raises(CannotExplain, match="has no tokens"):
        layer_features(net, x, ["1"], pool="token")
    with pytest.raises(ShapeError, match="3 ids were given for 2 images"):
        Pictures.of(x, ["a", "b", "c"])
    with pytest.raises(ShapeError, match="no images"):
        layer_features(net, x[:0], ["1"])
