"""EigenCAM: the first component of the whole decomposition, found small, with a sign that does not depend on luck."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution.cam_eigen import first_component


def activations(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(maps, centred):
    """Return the first component of every row by the full decomposition, up to its sign."""
    flat = maps.flatten(2).double()
    flat = flat - flat.mean(2, keepdim=True) if centred else flat
    _, sizes, right = torch.linalg.svd(flat, full_matrices=True)
    share = sizes[:, 0] ** 2 / (sizes**2).sum(1)
    return (sizes[:, :1] * right[:, 0]).float().view(-1, 1, *maps.shape[2:]), share.float()


@pytest.mark.parametrize("shape", [(3, 4, 30), (3, 30, 7), (3, 5, 4, 6), (2, 40, 3, 3), (2, 6, 3, 4, 2)])
@pytest.mark.parametrize("centred", [False, True])
def test_it_is_the_first_component_of_the_full_decomposition(shape, centred):
    maps = activations(*shape)
    found, share = first_component(maps, centred=centred)
    expected, expected_share = whole(maps, centred)
    turned = torch.where((found * expected).flatten(1).sum(1) < 0, -1.0, 1.0).view(-1, *[1] * (maps.ndim - 1))
    torch.testing.assert_close(found, turned * expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(share, expected_share)


@pytest.mark.parametrize("shape", [(2, 96, 10, 10), (2, 70, 5, 4, 4), (1, 80, 66)])
@pytest.mark.parametrize("centred", [False, True])
def test_so_is_what_iteration_finds_in_large_layers(shape, centred):
    maps = activations(*shape, seed=3).relu()
    found, share = first_component(maps, centred=centred)
    expected, expected_share = whole(maps, centred)
    turned = torch.where((found * expected).flatten(1).sum(1) < 0, -1.0, 1.0).view(-1, *[1] * (maps.ndim - 1))
    torch.testing.assert_close(found, turned * expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(share, expected_share)


def test_a_large_layer_without_a_first_direction_still_has_a_component():
    level = torch.eye(80).view(1, 80, 8, 10)
    found, share = first_component(level, centred=False)
    torch.testing.assert_close(found.square().sum(), torch.tensor(1.0))
    torch.testing.assert_close(share, torch.tensor([1 / 80]))
    empty, nothing = first_component(torch.zeros(1, 80, 8, 10), centred=False)
    assert not empty.any()
    assert not nothing.any()


@pytest.mark.parametrize("centred", [False, True])
def test_its_sign_goes_with_the_mean_activation_whatever_the_sign_of_the_layer(centred):
    maps = activations(20, 6, 5, 5)
    found = first_component(maps, centred=centred)[0]
    mean = maps.mean(1, keepdim=True)
    mean = mean - mean.mean((2, 3), keepdim=True) if centred else mean
    assert bool(((found * mean).flatten(1).sum(1) > 0).all())
    torch.testing.assert_close(first_component(-maps, centred=centred)[0], -found)
    assert bool((first_component(maps.abs(), centred=False)[0] >= -1e-6).all())


def test_a_component_at_right_angles_to_the_mean_still_has_one_sign():
    pattern = activations(1, 1, 4, 4)
    found = first_component(torch.cat([pattern, -pattern], 1), centred=False)[0]
    assert float(found.flatten()[found.abs().argmax()]) > 0
    torch.testing.assert_close(found.abs(), pattern.abs() * 2**0.5)
    torch.testing.assert_close(first_component(torch.cat([-pattern, pattern], 1), centred=False)[0], found)


def test_feature_maps_of_one_pattern_are_that_pattern():
    pattern, loads = activations(1, 1, 4, 4).abs(), torch.tensor([1.0, 2.0, -0.5]).view(1, 3, 1, 1)
    found, share = first_component(loads * pattern, centred=False)
    torch.testing.assert_close(found, pattern * loads.norm())
    torch.testing.assert_close(share, torch.ones(1))


@pytest.mark.parametrize(("value", "centred"), [(0.0, False), (0.0, True), (0.1, True)])
def test_what_is_constant_has_nothing_that_stands_out(value, centred):
    found, share = first_component(torch.full((2, 3, 5, 5), value), centred=centred)
    assert bool((found == 0).all())
    assert bool((share == 0).all())


class Net(nn.Module):
    def __init__(self, rank):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential((nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](2, 5, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.body(x).flatten(2).mean(2))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", ["eigencam(at='body')", "eigencam(at='body', centred=True)"])
def test_row_i_alone_equals_row_i_in_a_batch_whatever_the_class(rank, method):
    net, x = Net(rank), activations(3, 2, *[5] * rank, seed=1)
    together = pellucid.explain(net, x, method, target=0, batch_size=2)
    assert together.values.shape == (3, 1, *[5] * rank)
    assert together.backwards == 0
    torch.testing.assert_close(together.values, first_component(net.body(x), centred="centred" in method)[0].detach())
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], method, target=2)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.details["share"][row], alone.details["share"][0])
