"""Expressive gradients: the fusion by hand, its sum, and what it reduces to."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS
from pellucid.attribution.expressive import laid_over
from pellucid.errors import CannotExplain, ShapeError


def eg(net, x, **settings):
    return pellucid.explain(net, x, METHODS["expressive_gradients"](**settings), target=1)


@pytest.fixture
def net(nets):
    return nets.lived_in(nets.ResNet(2))


@pytest.mark.parametrize(
    "settings", [{}, {"steps": 9}, {"baseline": "noise"}, {"steps": 5, "baseline": (0.1, 0.2, 0.3)}]
)
def test_with_the_input_alone_it_is_integrated_gradients_exactly(net, pixels, settings):
    x = pixels(3, 3, 8, 8)
    found = eg(net, x, at=(), **settings)
    same = pellucid.explain(net, x, METHODS["integrated_gradients"](**settings), target=1)
    assert torch.equal(found.values, same.values)
    assert torch.equal(found.reference_output, same.reference_output)


def test_the_fusion_is_the_mean_of_the_maps_of_image_and_layers(net, pixels):
    x, layers = pixels(2, 3, 8, 8), ("pool", "blocks.1")
    found = eg(net, x, at=layers, steps=6)
    expected = pellucid.explain(net, x, "integrated_gradients(steps=6)", target=1).values
    for layer in layers:
        inner = pellucid.explain(net, x, METHODS["integrated_gradients"](steps=6, at=layer), target=1).values.sum(1)
        double = nn.functional.interpolate(inner[:, None], (8, 8), mode="bilinear") / 4
        expected = expected + double / 3
    torch.testing.assert_close(found.values, expected / 3, rtol=1e-4, atol=1e-5)


def test_values_add_up_to_the_difference_of_the_output(net, pixels):
    x = pixels(4, 3, 8, 8)
    found = eg(net, x, baseline="mean")
    rise = found.output - found.reference_output
    with torch.no_grad():
        whole = net(x)[:, 1] - net(x.mean((2, 3), keepdim=True).expand_as(x))[:, 1]
    torch.testing.assert_close(rise, whole, rtol=1e-4, atol=1e-5)
    allowed = 1e-2 * torch.maximum(rise.abs(), 0.05 * (found.output.abs() + found.reference_output.abs()))
    assert bool((found.gap <= allowed + 1e-6).all())


@pytest.mark.parametrize(("coarse", "fine"), [((3,), (7,)), ((4, 4), (8, 12)), ((2, 3, 2), (5, 7, 2)), ((5,), (5,))])
def test_laying_a_map_over_the_image_keeps_its_sum_its_sign_and_its_order(coarse, fine, pixels):
    values = pixels(2, 1, *coarse).abs()
    over = laid_over(values, fine)
    assert over.shape == (2, 1, *fine)
    assert float(over.min()) >= 0
    torch.testing.assert_close(over.flatten(1).sum(1), values.flatten(1).sum(1))
    if coarse == fine:
        torch.testing.assert_close(over, values)
    even = laid_over(torch.ones(1, 1, *coarse), tuple(2 * size for size in coarse))
    torch.testing.assert_close(even, torch.full_like(even, 0.5 ** len(coarse)))
    with pytest.raises(ShapeError, match="it is finer"):
        laid_over(values, tuple(size - 1 for size in coarse))


def test_layers_are_chosen_by_resolution_and_named(pixels):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(),
        nn.Conv2d(2, 2, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2),
    ).eval()  # fmt: skip
    found = eg(net, pixels(1, 1, 16, 16), steps=2)
    assert found.details["at"] == ("5", "7")
    assert any("('5', '7') was chosen" in warning for warning in found.warnings)
    flat = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)).eval()
    assert eg(flat, pixels(1, 1, 4, 4), steps=2).details["at"] == ("1",)


@pytest.mark.parametrize("shape", [(1, 24), (1, 8, 8), (1, 6, 8, 8)])
def test_row_i_alone_is_row_i_in_a_batch_in_one_two_and_three_dimensions(shape, pixels):
    dims = len(shape) - 1
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    torch.manual_seed(0)
    net = nn.Sequential(convolution(1, 3, 3, stride=2), nn.ReLU(True), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = pixels(3, *shape)
    net(x)
    together = pellucid.explain(
        net, x, "expressive_gradients(baseline='noise')", target=0, ids=("a", "b", "c"), batch_size=4
    )
    assert together.values.shape == x.shape
    for row in range(3):
        ids = ("abc"[row],)
        alone = pellucid.explain(net, x[row : row + 1], "expressive_gradients(baseline='noise')", target=0, ids=ids)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-4, atol=1e-6)


def test_it_prints_parses_and_refuses_layers_without_a_map(net, pixels):
    method = METHODS.parse("expressive_gradients(at=['pool', 'blocks.1'], steps=4)")
    assert str(method) == 'expressive_gradients(at=("pool", "blocks.1"), steps=4)'
    assert METHODS.parse(str(method)) == method
    with pytest.raises(CannotExplain, match="needs feature maps"):
        eg(net, pixels(1, 3, 8, 8), at=("head",), steps=2)


def test_inputs_of_one_space_share_the_layers_and_others_are_refused(nets, pixels):
    torch.manual_seed(0)
    net = nets.Call(
        lambda a, b, conv, head: head(torch.relu(conv(a) + b.mean((1, 2, 3), keepdim=True)).mean((2, 3))),
        nn.Conv2d(1, 3, 3, stride=2), nn.Linear(3, 2),
    ).eval()  # fmt: skip
    x = (pixels(2, 1, 8, 8), pixels(2, 2, 8, 8, seed=4))
    found = eg(net, x, steps=256)
    assert [values.shape for values in found.values] == [(2, 1, 8, 8), (2, 2, 8, 8)]
    total = sum(values.flatten(1).sum(1) for values in found.values)
    torch.testing.assert_close(total, found.output - found.reference_output, rtol=2e-2, atol=1e-2)
    with pytest.raises(ShapeError, match=r"say at=\(\)"):
        eg(net, (x[0], pixels(2, 2, 6, 6)), steps=2)
