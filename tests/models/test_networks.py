import pytest
import torch

from pellucid.errors import ShapeError
from pellucid.models import Model, Passes, residual_net


@pytest.mark.parametrize(("dims", "size"), [(1, (40,)), (2, (20, 36)), (3, (8, 12, 10))])
def test_the_reference_net_takes_one_to_three_axes(dims, size):
    net = residual_net(classes=4, channels=2, dims=dims, width=4, depth=3)
    x = torch.rand(3, 2, *size)
    assert net(x).shape == (3, 4)
    model = Model(net, embedding="pool")
    assert model.capabilities.spatial_rank == dims
    with Passes(model) as passes:
        assert passes.outputs((x,), layer="pool").shape == (3, 16)


def test_every_stage_after_the_first_halves_the_image_and_doubles_the_channels():
    net = residual_net(classes=2, channels=1, width=3, depth=3)
    shapes = []
    for stage in net.stages:
        stage.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    net(torch.rand(2, 1, 32, 48))
    assert shapes == [(3, 16, 24), (6, 8, 12), (12, 4, 6)]


def test_a_residual_sum_carries_the_signal_past_the_convolutions():
    net = residual_net(classes=2, channels=1, width=2, depth=1, stem_stride=1).eval()
    block = net.stages[0]
    torch.nn.init.zeros_(block.second[0].weight)
    h = torch.rand(1, 2, 5, 5)
    assert torch.allclose(block(h), h)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"dims": 4}, "1, 2 or 3 spatial axes"), ({"width": 0}, "width must be"), ({"depth": -1}, "depth must be")],
)
def test_a_net_that_cannot_be_is_refused(settings, says):
    with pytest.raises(ShapeError, match=says):
        residual_net(**{"classes": 2, **settings})
