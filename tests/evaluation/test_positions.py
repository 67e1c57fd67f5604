import pytest
import torch

from pellucid.evaluation.positions import Grid, orders, place


def test_a_map_is_read_as_the_sum_over_its_channels():
    x = torch.rand(2, 3, 4, 5)
    placed = place((x,), Grid.of((x,)))
    assert torch.allclose(placed.values, x.sum(1).flatten(1))
    assert placed.step == 'pool_channels(how="sum")'


@pytest.mark.parametrize("shape", [(8,), (8, 6), (8, 6, 4)])
def test_a_coarse_map_is_interpolated_and_the_step_is_on_record(shape):
    x = torch.rand(2, 3, *shape)
    coarse = torch.ones(2, 7, *[side // 2 for side in shape])
    placed = place((coarse,), Grid.of((x,)))
    assert torch.allclose(placed.values, torch.full((2, x[0, 0].numel()), 7.0))
    assert f"upsample(shape=({shape[0]}" in placed.step


def test_a_map_of_other_axes_has_no_place_and_says_why():
    grid = Grid.of((torch.rand(2, 3, 8, 8),))
    assert "(16,)" in place((torch.rand(2, 16),), grid).reason
    assert "2 maps" in place((torch.rand(2, 3, 8, 8),) * 2, grid).reason


def test_several_inputs_lie_one_after_the_other():
    image, table = torch.rand(2, 3, 4, 4), torch.rand(2, 5)
    grid = Grid.of((image, table))
    placed = place((image, table), grid)
    assert placed.values.shape == (2, 21)
    back = grid.split(placed.values)
    assert torch.allclose(back[0][:, 0], image.sum(1))
    assert torch.equal(back[1], table)


def test_ties_fall_in_a_drawn_order_that_other_images_do_not_change():
    flat = torch.zeros(3, 100)
    alone = orders(flat[:1], [5])
    together = orders(flat, [5, 6, 5])
    assert torch.equal(alone[0], together[0])
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[0], torch.arange(100, dtype=torch.int32))
    assert torch.equal(together.sort(1).values, torch.arange(100, dtype=torch.int32).expand(3, 100))


def test_larger_values_go_first_and_only_ties_are_drawn():
    values = torch.tensor([[1.0, 5.0, 1.0, 9.0, 1.0]])
    order = orders(values, [0])[0].tolist()
    assert order[3] == 0
    assert order[1] == 1
    assert sorted((order[0], order[2], order[4])) == [2, 3, 4]
