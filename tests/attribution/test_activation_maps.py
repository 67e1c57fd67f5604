"""Activation maps: a planted detector leads, and what a channel adds is what its removal takes."""

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Model
from pellucid.models.targets import Latent


def planted(detector=3, strength=5.0):
    """Six random channels; one of them finds bright crosses, and the head's class 1 hangs on it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    cross = torch.tensor([[-1.0, 1, -1], [1, 1, 1], [-1, 1, -1]])
    with torch.no_grad():
        net[0].weight.mul_(0.3)
        net[0].weight[detector, 0], net[0].bias[detector] = cross, -3.0
        net[4].weight.mul_(0.1)
        net[4].weight[1, detector] = strength
    return net.eval()


def crossed(places, size=12):
    x = 0.1 * torch.rand(len(places), 1, size, size, generator=torch.Generator().manual_seed(1))
    for row, (y, z) in enumerate(places):
        x[row, 0, y - 1 : y + 2, z] = x[row, 0, y, z - 1 : z + 2] = 1
    return x


@pytest.mark.parametrize("by", ["ablation", "slope"])
def test_the_channel_with_a_planted_detector_ranks_first_and_lights_up_where_the_thing_is(by):
    places = [(3, 4), (8, 7)]
    found = pellucid.activation_maps(planted(), crossed(places), at="1", k=3, by=by, target=1)
    assert found.channels[:, 0].tolist() == [3, 3]
    assert found.maps.shape == (2, 3, 12, 12)
    for row, place in enumerate(places):
        assert np.unravel_index(int(found.maps[row, 0].argmax()), (12, 12)) == place
    assert (found.association[:, 0] > 3 * found.association[:, 1]).all()
    if by == "ablation":
        assert found.favours[:, 0].tolist() == [1, 1]


def test_what_a_channel_adds_is_the_fall_of_the_output_without_it(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(3, 3, 8, 8)
    found = pellucid.activation_maps(net, x, at="blocks.0", k=6, target=[0, 1, 2], batch_size=4)
    with torch.no_grad():
        seen = net.blocks[0](net.pool(net.relu(net.norm(net.stem(x)))))
        whole = net.head(net.blocks[1](seen.clone()).mean((2, 3)))
        for row in range(3):
            for rank, channel in enumerate(found.channels[row].tolist()):
                cut = seen[row : row + 1].clone()
                cut[:, channel] = 0
                fall = whole[row] - net.head(net.blocks[1](cut).mean((2, 3)))[0]
                torch.testing.assert_close(found.association[row, rank], fall[row], rtol=1e-4, atol=1e-5)
                assert int(found.favours[row, rank]) == int(fall.argmax())
    assert (found.association.diff(dim=1) <= 0).all()


def test_where_the_rest_is_linear_slope_and_ablation_agree(pixels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 2)).eval()
    one, two = (pellucid.activation_maps(net, pixels(2, 2, 6, 6), by=by, k=4, target=0) for by in ("ablation", "slope"))
    assert torch.equal(one.channels, two.channels)
    torch.testing.assert_close(one.association, two.association, rtol=1e-4, atol=1e-5)
    assert one.at == "1"
    assert "was chosen" in one.warnings[0]


def test_by_activation_the_brightest_channel_leads_and_nothing_is_said_of_the_output(pixels):
    net, x = planted(), crossed([(3, 4)])
    found = pellucid.activation_maps(net, x, at="1", k=6, by="activation")
    with torch.no_grad():
        means = net[:2](x).mean((2, 3))
    assert found.channels[0].tolist() == means[0].argsort(descending=True).tolist()
    assert found.association is None
    assert found.favours is None


@pytest.mark.parametrize("shape", [(20,), (6, 7, 8)])
def test_sequences_and_volumes_have_maps_of_their_own_size_and_rows_stand_alone(shape, pixels):
    torch.manual_seed(0)
    convolution = nn.Conv1d if len(shape) == 1 else nn.Conv3d
    net = nn.Sequential(convolution(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = pixels(3, 1, *shape)
    net(x)
    together = pellucid.activation_maps(net, x, k=2, target=1)
    assert together.maps.shape == (3, 2, *shape)
    for row in range(3):
        alone = pellucid.activation_maps(net, x[row : row + 1], k=2, target=1)
        assert torch.equal(alone.channels[0], together.channels[row])
        torch.testing.assert_close(alone.association[0], together.association[row], rtol=1e-4, atol=1e-6)
    with pytest.raises(ShapeError, match="are no pictures"):
        together.plot()


def test_the_table_and_the_picture_name_the_channel_and_the_class_it_speaks_for():
    model = Model(planted(), classes=("background", "cross", "other"))
    found = pellucid.activation_maps(model, crossed([(3, 4), (8, 7)]), at="1", k=2)
    rows = found.table.to_pylist()
    assert len(rows) == 4
    assert (rows[0]["image"], rows[0]["rank"], rows[0]["channel"], rows[0]["favours"]) == (0, 1, 3, "cross")
    assert found.plot(row=1).get_suptitle().endswith("image 1, Class(index=1)")
    titles = [axes.get_title() for axes in found.plot(row=1).axes]
    assert titles[0].startswith("channel 3\nadds ")
    assert titles[0].endswith("for cross")


def test_a_unit_of_another_layer_may_be_the_target(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(2, 3, 8, 8)
    found = pellucid.activation_maps(net, x, at="blocks.0", k=6, target=Latent(2, "blocks.1"))
    slope = pellucid.activation_maps(net, x, at="blocks.1", k=6, by="slope", target=Latent(2, "blocks.1"))
    assert float(found.association.abs().max()) > 0
    assert slope.channels[:, 0].tolist() == [2, 2]


def test_a_layer_without_maps_and_senseless_counts_are_refused(pixels):
    net, x = planted(), pixels(1, 1, 6, 6)
    with pytest.raises(CannotExplain, match="needs feature maps"):
        pellucid.activation_maps(net, x, at="4")
    with pytest.raises(ShapeError, match="k=0"):
        pellucid.activation_maps(net, x, k=0)
