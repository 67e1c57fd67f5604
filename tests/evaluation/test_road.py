"""ROAD: the imputation equals a direct solution, tells nothing of what it hides, and the metric needs no luck."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pellucid.attribution import Explanation
from pellucid.evaluation import METRICS, evaluate
from pellucid.evaluation.imputation import Imputation, around, impute


def _published(image, hidden):
    """Solve the neighbour equations of one 2-D image directly: weights 1/6 and 1/12, less what lies outside."""
    height, width = image.shape
    system, right = np.eye(height * width), image.flatten().astype(float)
    for y, x in np.argwhere(hidden):
        row = y * width + x
        system[row], right[row] = 0, 0
        for down in (-1, 0, 1):
            for along in (-1, 0, 1):
                inside = 0 <= y + down < height and 0 <= x + along < width
                if (down or along) and inside:
                    weight = 1 / 12 if down and along else 1 / 6
                    system[row, (y + down) * width + x + along] -= weight
                    system[row, row] += weight
    return np.linalg.solve(system, right).reshape(height, width)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_imputation_equals_the_direct_solution_of_the_published_equations(share):
    x = torch.rand(2, 3, 12, 9)
    hidden = torch.rand(2, 1, 12, 9) < share
    found = impute(x, hidden)
    for row in range(2):
        for channel in range(3):
            direct = _published(x[row, channel].numpy(), hidden[row, 0].numpy())
            assert found[row, channel].numpy() == pytest.approx(direct, abs=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(17,), (6, 7), (4, 3, 5), (2, 3, 2, 3)]), st.floats(0.05, 0.95), st.integers(0, 99))
def test_every_hidden_pixel_is_the_weighted_mean_of_its_neighbours_in_any_dimension(shape, share, seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 2, *shape, generator=random, dtype=torch.float64)
    hidden = torch.rand(1, 1, *shape, generator=random) < share
    hidden.flatten()[0] = False
    filled = impute(x, hidden)
    mean = around(filled) / around(torch.ones_like(filled))
    assert torch.where(hidden, (filled - mean).abs(), 0.0).max() < 1e-3
    assert torch.equal(torch.where(hidden, x, filled), x)


def test_what_is_hidden_has_no_say_in_what_takes_its_place():
    x = torch.rand(2, 1, 10, 10)
    hidden = torch.rand(2, 1, 10, 10) < 0.6
    other = torch.where(hidden, 100 * torch.rand_like(x), x)
    assert torch.equal(torch.where(hidden, impute(x, hidden), 0.0), torch.where(hidden, impute(other, hidden), 0.0))


def test_a_row_is_imputed_the_same_alone_and_among_harder_ones():
    x = torch.rand(3, 1, 16, 16)
    hidden = torch.stack([torch.rand(1, 16, 16) < share for share in (0.05, 0.5, 0.98)])
    together = impute(x, hidden)
    for row in range(3):
        assert torch.allclose(impute(x[row : row + 1], hidden[row : row + 1]), together[row : row + 1], atol=1e-6)


def test_constants_come_back_whole_and_nothing_left_gives_zeros():
    x = torch.full((1, 1, 8, 8), 3.0)
    assert torch.allclose(impute(x, torch.rand(1, 1, 8, 8) < 0.8), x)
    assert torch.equal(impute(x, torch.ones(1, 1, 8, 8, dtype=torch.bool)), torch.zeros_like(x))


def test_a_hole_hardly_shows_while_a_mean_fill_shows_at_once():
    """A detector of holes sees how much rougher the rim of a square is than the same rim of the untouched image."""
    places = torch.linspace(0, 6, 24)
    x = (places.sin()[:, None] + places.cos() + 0.02 * torch.randn(24, 24))[None, None]
    hidden = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    hidden[..., 4:10, 4:10] = True
    noise = Imputation(0.01).noise((x,), (0,))[0]

    def rim(image):
        return float((image[..., 4, 4:10] - image[..., 3, 4:10]).abs().mean())

    imputed = torch.where(hidden, impute(x, hidden) + noise, x)
    assert rim(torch.where(hidden, x.mean(), x)) > 3 * rim(imputed)
    assert rim(imputed) < 2.5 * rim(x)


def test_noise_is_the_rows_own_and_in_parts_of_its_range():
    x = torch.rand(4, 1, 32, 32) * torch.tensor([1.0, 10.0, 1.0, 1.0]).view(4, 1, 1, 1)
    noise = Imputation(0.05).noise((x,), (3, 5, 3, 9))[0]
    assert noise.flatten(1).std(1).tolist() == pytest.approx([0.05, 0.5, 0.05, 0.05], rel=0.1)
    assert torch.allclose(noise[0] / noise[2], (x[0].max() - x[0].min()) / (x[2].max() - x[2].min()))


@pytest.mark.parametrize("order", ["both", "morf", "lerf"])
def test_exact_is_best_and_negated_worst_on_a_linear_net(order, kit):
    net, x = kit.linear((3, 10, 10)), torch.rand(8, 3, 10, 10)
    exact = kit.exact(net, x)
    maps = {"exact": exact, "random": torch.randn_like(exact), "negated": -exact}
    scores = evaluate(net, x, [kit.given(v, net, x, n) for n, v in maps.items()], f'road(order="{order}")')
    best, middle, worst = (torch.tensor(kit.column(scores, "road", name)) for name in maps)
    assert (best > middle).all()
    assert (middle > worst).all()


def test_random_maps_score_nought_with_both_orders(kit):
    net, x = kit.linear((1, 12, 12)), torch.rand(150, 1, 12, 12)
    maps = kit.given(torch.randn_like(x), net, x, "random")
    scores = evaluate(net, x, maps, "road(shares=(0.3, 0.6))", ids=[str(row) for row in range(150)])
    values = torch.tensor(kit.column(scores, "road", "random"))
    assert abs(float(values.mean())) < 3 * float(values.std()) / 150**0.5
    assert set(kit.column(scores, "road", "random", "chance")) == {0.0}


def test_both_orders_are_half_the_sum_of_the_two(kit):
    net, x = kit.convolutional().eval(), torch.rand(3, 2, 10, 10)
    given_map = kit.given(torch.randn_like(x), net, x, "map")
    orders = [f'road(order="{order}")' for order in ("both", "morf", "lerf")]
    scores = evaluate(net, x, given_map, orders)
    both, morf, lerf = torch.tensor(scores.table["value"].to_pylist()).reshape(3, 3)
    assert torch.allclose(both, (morf + lerf) / 2, atol=1e-5)


def test_all_orders_and_methods_share_the_imputed_images_of_their_own_map_only(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    maps = [kit.given(torch.randn_like(x), net, x, name) for name in ("one", "two")]
    alone = evaluate(net, x, maps[:1], "road").forwards
    assert alone == 2 + 2 * 10
    assert evaluate(net, x, maps[:1], ["road", 'road(order="morf")', 'road(order="lerf")']).forwards == alone
    assert evaluate(net, x, maps, "road").forwards == 2 + 4 * 10


def test_inputs_without_neighbours_have_no_score_and_the_reason():
    net, x = nn.Linear(5, 3).requires_grad_(False), torch.rand(2, 5)
    explained = Explanation.from_values(torch.rand(2, 5), net, x, name="map")
    scores = evaluate(net, x, explained, "road")
    assert scores.table["value"].null_count == 2
    assert "neighbours" in scores.table["reason"][0].as_py()


def test_the_setting_is_part_of_the_value_and_of_its_definition():
    assert str(METRICS.parse("road(shares=(0.5,))")) == "road(shares=(0.5,))"
    assert METRICS.parse("road").definition != METRICS.parse("road(sigma=0.0)").definition
