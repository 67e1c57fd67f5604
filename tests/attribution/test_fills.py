import pytest
import torch
from scipy import ndimage

from pellucid.attribution.fills import BLUR, FILLS, gaussian_blur, reference
from pellucid.errors import BadRecipe, ShapeError

SHAPES = [(3, 2, 9), (3, 2, 8, 11), (3, 2, 5, 6, 7)]


def images(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", [*FILLS, 0.25, (0.5, -1.0)])
def test_a_fill_has_the_images_shape_and_row_i_alone_is_row_i_in_a_batch(fill, shape):
    x = images(shape)
    together = reference(fill, (x,), (1, 2, 3))[0]
    alone = torch.cat([reference(fill, (x[i : i + 1],), (i + 1,))[0] for i in range(3)])
    assert together.shape == x.shape
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", sorted(set(FILLS) - {"zero"}))
def test_a_constant_image_is_its_own_fill(fill, shape):
    x = torch.full(shape, 0.7)
    torch.testing.assert_close(reference(fill, (x,), (0, 0, 0))[0], x)


def test_closed_forms_of_the_named_fills():
    x = torch.tensor([[[[1.0, 2, 3], [4, 100, 6], [7, 8, 9]]]])
    expected = {"zero": 0, "mean": 140 / 9, "minimum": 1, "maximum": 100, "edge_mean": 5}
    for fill, value in expected.items():
        torch.testing.assert_close(reference(fill, (x,), (0,))[0], torch.full_like(x, value))
    window = reference("local_mean", (x,), (0,))[0]
    assert window[0, 0, 0, 0] == pytest.approx((1 + 2 + 4 + 100) / 4)
    assert window[0, 0, 1, 1] == pytest.approx(140 / 9)


def test_gaussian_blur_equals_scipy_away_from_the_rim():
    x = images((1, 1, 40, 40))
    ours = gaussian_blur(x, 1.5)[0, 0, 8:-8, 8:-8]
    theirs = ndimage.gaussian_filter(x[0, 0].double().numpy(), 1.5, truncate=4)[8:-8, 8:-8]
    torch.testing.assert_close(ours, torch.from_numpy(theirs).float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reference("blur", (x,), (0,))[0], gaussian_blur(x, BLUR * 40))


def test_noise_has_the_rows_own_channel_mean_and_spread_and_follows_the_seed():
    x = images((2, 2, 64, 64)) * torch.tensor([1.0, 5.0]).view(1, 2, 1, 1) + 3
    drawn = reference("noise", (x,), (4, 4))[0]
    torch.testing.assert_close(drawn.mean((2, 3)), x.mean((2, 3)), atol=0.3, rtol=0)
    torch.testing.assert_close(drawn.std((2, 3)), x.std((2, 3)), rtol=0.06, atol=0)
    same = reference("noise", (x[:1].expand(2, -1, -1, -1),), (4, 4))[0]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(drawn[0], reference("noise", (x[:1],), (5,))[0][0])


def test_several_inputs_of_different_rank_are_filled_each_on_its_own():
    filled = reference("mean", (images((2, 1, 6)), images((2, 3, 4, 4))), (0, 0))
    assert [tuple(tensor.shape) for tensor in filled] == [(2, 1, 6), (2, 3, 4, 4)]


def test_what_cannot_be_filled_is_refused_in_a_sentence():
    with pytest.raises(BadRecipe, match="no fill 'grey'; there are zero, mean, blur"):
        reference("grey", (images((1, 2, 4)),), (0,))
    with pytest.raises(BadRecipe, match="not finite"):
        reference(float("nan"), (images((1, 2, 4)),), (0,))
    with pytest.raises(ShapeError, match="3 numbers and the images 2 channels"):
        reference((1.0, 2.0, 3.0), (images((1, 2, 4)),), (0,))
    with pytest.raises(ShapeError, match="needs spatial axes"):
        reference("blur", (torch.zeros(1, 4),), (0,))
