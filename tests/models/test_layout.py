"""Channels last in memory: used only where the network is known not to care."""

import pytest
import torch
from torch import nn

from pellucid.models import Model, Passes


class Net(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(144, 2)
        self.read, self.strides = read, []

    def forward(self, x):
        self.strides.append(x.stride())
        return self.head(self.read(self.convolution(x)))


def viewed(maps):
    return maps.view(len(maps), -1)


def as_it_lies(maps):
    return torch.as_strided(maps, (len(maps), 144), (144, 1))


def noisy(maps):
    return maps.flatten(1) + 1e-3 * torch.rand(len(maps), 144)


def flat(maps):
    return maps.flatten(1)


def images(rows):
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def outputs(net, x, **settings):
    with Passes(Model(net.eval()), **settings) as passes:
        return passes.outputs((x,))


@pytest.mark.parametrize(("read", "last"), [(flat, True), (viewed, False), (as_it_lies, False)])
def test_outputs_are_the_same_and_only_networks_of_plain_operations_get_channels_last(read, last):
    torch.manual_seed(0)
    net, x = Net(read), images(24)
    with torch.inference_mode():
        plain = net.eval()(x)
    net.strides.clear()
    found = outputs(net, x, batch_size=8)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
    assert [strides[1] == 1 for strides in net.strides[-2:]] == [last, last]
    assert found.is_contiguous()


def test_a_network_that_draws_random_numbers_gets_its_rows_as_they_are():
    net = Net(noisy)
    outputs(net, images(24), batch_size=8)
    assert [strides[1] == 1 for strides in net.strides[-2:]] == [False, False]


def test_few_rows_and_networks_without_neighbours_keep_their_layout():
    net = Net(flat)
    outputs(net, images(4))
    assert net.strides == [(192, 64, 8, 1)]
    pointwise = Net(flat)
    pointwise.convolution, pointwise.head = nn.Conv2d(3, 4, 1), nn.Linear(256, 2)
    outputs(pointwise, images(24))
    assert pointwise.strides == [(192, 64, 8, 1)]


def test_a_layer_that_is_read_is_contiguous_and_equal():
    torch.manual_seed(0)
    net, x = Net(flat).eval(), images(16)
    with Passes(Model(net)) as passes:
        found = passes.outputs((x,), "convolution")
    assert found.is_contiguous()
    torch.testing.assert_close(found, net.convolution(x).detach(), rtol=1e-5, atol=1e-6)
