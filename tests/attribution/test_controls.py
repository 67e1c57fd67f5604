import numpy as np
import pytest
import torch
from scipy import ndimage

import pellucid
from pellucid.attribution import METHODS
from pellucid.attribution.controls import edges
from pellucid.attribution.fills import reference
from pellucid.attribution.method import row_seeds
from pellucid.errors import ShapeError

SHAPES = [(3, 2, 9), (3, 2, 7, 8), (3, 2, 5, 6, 7)]


def images(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def net(x):
    return torch.stack([x.flatten(1).sum(1), x.flatten(1).amax(1)], 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["random_map", "edge_map"])
def test_a_control_has_the_images_shape_costs_no_pass_and_knows_no_neighbours(method, shape):
    x, ids = images(shape), ("a", "b", "c")
    e = pellucid.explain(net, x, method, ids=ids)
    assert e.values.shape == x.shape
    assert (e.forwards, e.backwards) == (3, 0)
    assert METHODS[method].taxonomy.family == "control"
    alone = pellucid.explain(net, x[1:2], method, ids=ids[1:2])
    torch.testing.assert_close(alone.values[0], e.values[1])


def test_the_random_map_is_standard_normal_and_shares_no_stream_with_the_noise_fill():
    x = images((2, 3, 40, 40))
    e = pellucid.explain(net, x, "random_map", ids=("a", "b"))
    assert abs(float(e.values.mean())) < 0.05
    assert float(e.values.std()) == pytest.approx(1, abs=0.05)
    noise = reference("noise", (x,), row_seeds(0, ("a", "b"), 2))[0]
    pairs = [(e.values[0], e.values[1]), (e.values[0], noise[0])]
    for one, other in pairs:
        assert abs(float(np.corrcoef(one.flatten(), other.flatten())[0, 1])) < 0.06


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_equal_scipys_sobel_up_to_its_scale(shape):
    x = images(shape)
    rank = len(shape) - 2
    total = np.zeros(shape)
    for axis in range(rank):
        for row, channel in np.ndindex(*shape[:2]):
            total[row, channel] += (ndimage.sobel(x[row, channel].double().numpy(), axis) / (2 * 4 ** (rank - 1))) ** 2
    np.testing.assert_allclose(edges(x), np.sqrt(total), rtol=1e-4, atol=1e-6)


def test_a_constant_image_has_no_edges_and_a_ramp_has_its_slope():
    assert torch.equal(edges(torch.full((1, 1, 5, 5), 3.0)), torch.zeros(1, 1, 5, 5))
    ramp = (2.0 * torch.arange(6)).expand(1, 1, 6, 6)
    torch.testing.assert_close(edges(ramp)[..., 1:-1, 1:-1], torch.full((1, 1, 4, 4), 2.0))


def test_an_edge_map_of_a_table_is_refused():
    with pytest.raises(ShapeError, match="needs spatial axes"):
        pellucid.explain(lambda x: x.sum(1, keepdim=True), torch.zeros(2, 4), "edge_map")
