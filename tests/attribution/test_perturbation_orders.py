"""Shapley sampling and Owen values: enumeration of orders, efficiency, stated errors, and the stopping rule."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pellucid.attribution import Call, explain
from pellucid.attribution.method import row_seeds
from pellucid.attribution.perturbation import kernel_shap, owen, shapley_sampling
from pellucid.attribution.perturbation.orders import coalitions_in_all, drawn_orders, lattice
from pellucid.attribution.perturbation.stopping import Rule, Tally
from pellucid.errors import BadRecipe, CannotExplain, ShapeError
from pellucid.models import Model, Passes, ReadOut

Game = Callable[[Tensor], Tensor]


def linear(z: Tensor) -> Tensor:
    return z @ torch.arange(1.0, z.shape[1] + 1, dtype=z.dtype)


def largest(z: Tensor) -> Tensor:
    return (z * torch.arange(1.0, z.shape[1] + 1, dtype=z.dtype)).amax(1)


def product(z: Tensor) -> Tensor:
    return z[:, : 1 + z.shape[1] // 2].prod(1) + 0.5 * z[:, -1] * z[:, 0]


def mixed(z: Tensor) -> Tensor:
    return torch.tanh(linear(z) / z.shape[1] - 1) + 0.3 * largest(z) + 2 * z[:, 0] * z[:, 1] - z[:, 2] * z[:, -1]


GAMES = {"linear": linear, "max": largest, "product": product}


class Players(nn.Module):
    """A game on the mean of each column of an image of ones."""

    def __init__(self, *games: Game) -> None:
        super().__init__()
        self.games = games

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([game(x.mean((1, 2))) for game in self.games], 1) + 3


def marginals(game: Game, order: tuple[int, ...]) -> Tensor:
    shown = torch.zeros(1, len(order), dtype=torch.float64)
    added = torch.zeros(len(order), dtype=torch.float64)
    for player in order:
        before = game(shown).item()
        shown[0, player] = 1
        added[player] = game(shown).item() - before
    return added


def over_orders(game: Game, groups: list[int]) -> Tensor:
    """Owen values by their definition: the mean over all orders in which groups stay together."""
    orders = [
        order
        for order in itertools.permutations(range(len(groups)))
        if len(list(itertools.groupby(groups[player] for player in order))) == len(set(groups))
    ]
    return torch.stack([marginals(game, order) for order in orders]).mean(0)


def ends(game: Game, players: int) -> tuple[Tensor, Tensor]:
    both = game(torch.stack([torch.zeros(players), torch.ones(players)]).double())[:, None]
    return both[0], both[1]


def tallied(game: Game, groups: Tensor, pairs: int, seed: int) -> Tally:
    design = drawn_orders(groups, pairs, torch.Generator().manual_seed(seed))
    answers = game(design.members(slice(None)).double())[:, None]
    return Tally.of(design.contributions(answers, *ends(game, len(groups))))


@pytest.mark.parametrize("players", [1, 2, 3, 5])
@pytest.mark.parametrize("game", GAMES)
def test_few_players_get_the_mean_over_all_orders_exactly(game: str, players: int) -> None:
    x = torch.ones(1, 2, 3, players)
    columns = torch.arange(players).expand(3, players)
    e = explain(Players(GAMES[game]), x, shapley_sampling(segments=columns, samples=math.factorial(5)))
    exact = over_orders(GAMES[game], [0] * players)
    torch.testing.assert_close(e.details["effects"][0].double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(e.values.sum((1, 2))[0].double(), exact, atol=1e-5, rtol=1e-5)
    assert (e.error == 0).all()
    assert (e.details["margin"] == 0).all()
    assert e.details["orders"].tolist() == [math.inf]
    assert e.forwards == 2 + 2**players - 2


@pytest.mark.parametrize("groups", [[0, 0, 1, 1, 1, 2], [0, 1, 2, 3], [0, 0, 0, 0], [1, 0, 1, 0, 2]])
@pytest.mark.parametrize("game", [largest, product, mixed])
def test_the_lattice_gives_owen_values_by_their_definition(game: Game, groups: list[int]) -> None:
    design = lattice(torch.tensor(groups))
    answers = game(design.masks.double())[:, None]
    found = design.contributions(answers, *ends(game, len(groups)))[0, :, 0]
    torch.testing.assert_close(found, over_orders(game, groups), atol=1e-12, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_lattice_holds_every_coalition_of_the_tree_once(sizes: list[int]) -> None:
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    design = lattice(groups)
    assert len(design) == len(torch.unique(design.masks, dim=0)) == coalitions_in_all(groups)
    total = torch.cat([design.shares, design.ends]).sum(1)
    torch.testing.assert_close(total[:-2], torch.zeros(len(design)).double(), atol=1e-12, rtol=0.0)
    torch.testing.assert_close(total[-2:], torch.tensor([-1.0, 1.0]).double())
    divided = torch.stack([design.masks[:, groups == group].double().mean(1) % 1 > 0 for group in range(len(sizes))])
    assert (divided.sum(0) <= 1).all()


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5).filter(lambda s: sum(s) > 2), seed=st.integers(0, 99))
def test_drawn_orders_come_in_opposite_pairs_and_keep_groups_together(sizes: list[int], seed: int) -> None:
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[torch.randperm(sum(sizes))]
    design = drawn_orders(groups, 7, torch.Generator().manual_seed(seed))
    players = len(groups)
    assert torch.equal(design.ranks[:7] + design.ranks[7:], torch.full((7, players), players - 1))
    for order in design.ranks.argsort(1).tolist():
        assert len(list(itertools.groupby(int(groups[player]) for player in order))) == len(sizes)
    members = design.members(slice(None))
    assert len(torch.unique(members, dim=0)) == len(members)
    prefixes = design.ranks[:, None] <= torch.arange(players - 1)[:, None]
    assert torch.equal(members[design.places], prefixes)


@pytest.mark.parametrize("game", [largest, product, mixed])
@pytest.mark.parametrize("groups", [[0] * 7, [0, 0, 0, 1, 1, 2, 2]])
def test_drawn_orders_are_right_in_expectation_and_always_add_up(game: Game, groups: list[int]) -> None:
    exact_design = lattice(torch.tensor(groups))
    answers = game(exact_design.masks.double())[:, None]
    exact = exact_design.contributions(answers, *ends(game, 7))[0]
    tally = tallied(game, torch.tensor(groups), 20_000, 0)
    assert (tally.mean - exact).abs().max() < 0.02
    assert ((tally.mean - exact).abs() <= 4 * tally.error + 1e-12).all()
    empty, full = ends(game, 7)
    torch.testing.assert_close(tallied(game, torch.tensor(groups), 3, 1).mean.sum(0), full - empty)


def test_tallies_in_parts_equal_the_tally_of_the_whole() -> None:
    added = torch.randn(30, 5, 2, generator=torch.Generator().manual_seed(0)).double() + 100
    whole, parts = Tally.of(added), Tally.of(added[:7]).with_more(added[7:8]).with_more(added[8:])
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.error, added.std(0) / math.sqrt(30))
    assert parts.count == whole.count == 30


@pytest.mark.parametrize("game", [mixed, largest])
@pytest.mark.parametrize("groups", [[0] * 12, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]])
def test_the_stated_interval_covers_the_truth_95_times_in_a_hundred(groups: list[int], game: Game) -> None:
    own, inside = torch.tensor(groups), []
    design = lattice(own)
    exact = design.contributions(game(design.masks.double())[:, None], *ends(game, 12))[0]
    for seed in range(500):
        tally = tallied(game, own, shapley_sampling().samples // 2, seed)
        inside.append((tally.mean - exact).abs() <= tally.margin)
    assert abs(torch.stack(inside).double().mean() - 0.95) < 0.02


def test_the_error_falls_with_the_root_of_the_orders() -> None:
    few, many = (tallied(mixed, torch.zeros(10).long(), pairs, 0).error.mean() for pairs in (100, 1600))
    assert 3.4 < few / many < 4.6


def test_shapley_sampling_agrees_with_the_kernel_regression() -> None:
    x, columns = torch.ones(1, 1, 2, 9), torch.arange(9).expand(2, 9)
    one = explain(Players(mixed), x, shapley_sampling(segments=columns, samples=100))
    two = explain(Players(mixed), x, kernel_shap(segments=columns, samples=510))
    torch.testing.assert_close(one.values, two.values, atol=1e-4, rtol=1e-4)
    assert one.forwards == two.forwards == 512


def test_a_row_stops_by_its_own_error_and_not_by_its_neighbours() -> None:
    net, columns = Players(lambda z: mixed(z) * (1 + z[:, 0])), torch.arange(14).expand(2, 14)
    x = torch.stack([torch.ones(1, 2, 14), torch.linspace(-1, 1, 14).expand(1, 2, 14), 0.1 * torch.ones(1, 2, 14)])
    method = shapley_sampling(segments=columns, samples=1200, tolerance=0.05)
    together = explain(net, x, method, target=0, ids=["a", "b", "c"], batch_size=64)
    for row, name in enumerate("abc"):
        alone = explain(net, x[row : row + 1], method, target=0, ids=[name], batch_size=7)
        torch.testing.assert_close(alone.values[0], together.values[row], atol=1e-6, rtol=1e-5)
        assert alone.details["orders"][0] == together.details["orders"][row]
    orders = together.details["orders"]
    assert len(set(orders.tolist())) > 1
    assert orders.max() <= 1200
    assert together.gap is not None
    assert together.gap.max() < 1e-4
    assert not together.warnings
    assert together.error is not None
    worst = together.error.amax((1, 2, 3)) * 2  # a column has two pixels
    assert (worst <= 0.05 * (together.output - together.reference_output).abs() * (1 + 1e-5)).all()


def test_an_additive_model_stops_after_the_pilot() -> None:
    x, columns = torch.ones(1, 1, 2, 20), torch.arange(20).expand(2, 20)
    e = explain(Players(linear), x, shapley_sampling(segments=columns, samples=4000, tolerance=0.01))
    assert e.details["orders"].tolist() == [50]
    torch.testing.assert_close(e.details["effects"][0], torch.arange(1.0, 21), atol=1e-4, rtol=1e-5)


def test_a_tolerance_that_is_missed_is_told() -> None:
    x, columns = torch.ones(1, 1, 2, 16), torch.arange(16).expand(2, 16)
    e = explain(Players(mixed), x, shapley_sampling(segments=columns, samples=40, tolerance=1e-4))
    assert e.details["orders"].tolist() == [40]
    assert any("above 0.0001 of |f(x) - f(fill)| in 1 of 1 images after 40 orders" in told for told in e.warnings)


def test_a_stopping_rule_turns_to_every_coalition_once_that_is_cheaper() -> None:
    x, columns = torch.ones(1, 1, 2, 11), torch.arange(11).expand(2, 11)
    e = explain(Players(mixed), x, shapley_sampling(segments=columns, samples=4000, tolerance=1e-5))
    assert e.details["orders"].tolist() == [math.inf]
    assert (e.error == 0).all()
    exact = explain(Players(mixed), x, shapley_sampling(segments=columns, samples=4000))
    torch.testing.assert_close(e.values, exact.values)
    assert e.forwards < exact.forwards + 50 * 10 + 1


def test_stopping_keeps_the_stated_coverage() -> None:
    own, rule = torch.zeros(12).long(), Rule(1000, 0.02)
    empty, full = ends(mixed, 12)
    design = lattice(own)
    exact = design.contributions(mixed(design.masks.double())[:, None], empty, full)[0]
    inside = []
    for seed in range(300):
        generator, pairs, tally = torch.Generator().manual_seed(seed), rule.first(), None
        while pairs:
            drawn = drawn_orders(own, pairs, generator)
            added = drawn.contributions(mixed(drawn.members(slice(None)).double())[:, None], empty, full)
            tally = Tally.of(added) if tally is None else tally.with_more(added)
            pairs = rule.more(tally.count, tally.error, full - empty)
        assert tally is not None
        inside.append((tally.mean - exact).abs() <= tally.margin)
    assert abs(torch.stack(inside).double().mean() - 0.95) < 0.02


def test_one_run_serves_every_target() -> None:
    x, model = torch.ones(1, 1, 2, 13), Model(Players(mixed, largest))
    columns = torch.arange(13).expand(2, 13)

    def call(passes: Passes, read: ReadOut) -> Call:
        return Call(passes, (x,), read, passes.scores((x,), read), row_seeds(0, None, 1))

    method = shapley_sampling(segments=columns, samples=20)
    with Passes(model) as passes:
        both = method.attribute(call(passes, ReadOut(lambda out, _: out)))
        first = method.attribute(call(passes, ReadOut(lambda out, _: out[:, 0])))
    assert both.values[0].shape == (1, 2, 1, 2, 13)
    assert [margin.shape for margin in both.details["margin"].values] == [(1, 13)] * 2
    torch.testing.assert_close(both.values[0][:, 0], first.values[0])


def test_owen_on_images_equals_its_definition_and_gives_groups_their_shapley_value() -> None:
    def game(z: Tensor) -> Tensor:
        return largest(z) + 4 * z[:, 0] * z[:, 3] * z[:, 5] + z[:, 1] * z[:, 2]

    x, columns = torch.ones(2, 1, 3, 6), torch.arange(6).expand(3, 6)
    e = explain(Players(game), x, owen(segments=columns, groups=(1, 2), samples=100), target=0)
    assert e.details["groups"].tolist() == [[0, 0, 0, 1, 1, 1]] * 2
    effects = e.details["effects"].double()
    torch.testing.assert_close(effects[0], over_orders(game, [0, 0, 0, 1, 1, 1]), atol=1e-5, rtol=1e-5)
    assert e.gap is not None
    assert e.gap.max() < 1e-4
    joint = over_orders(lambda z: game(z.repeat_interleave(3, 1)), [0, 0])
    torch.testing.assert_close(effects[1].view(2, 3).sum(1), joint, atol=1e-5, rtol=1e-5)


def test_owen_with_one_group_or_one_segment_a_group_is_shapley() -> None:
    x, columns = torch.ones(1, 1, 2, 6), torch.arange(6).expand(2, 6)
    shapley = explain(Players(mixed), x, shapley_sampling(segments=columns)).values
    for groups in (1, (1, 6)):
        torch.testing.assert_close(explain(Players(mixed), x, owen(segments=columns, groups=groups)).values, shapley)


def test_segments_belong_to_the_cell_in_which_their_centre_lies() -> None:
    labels = torch.zeros(6, 6, dtype=torch.long)
    labels[:2], labels[4:, 4:], labels[2:, 0] = 1, 2, 3
    e = explain(Players(linear), torch.ones(1, 1, 6, 6), owen(segments=labels, groups=3))
    assert e.details["groups"].tolist() == [[4, 1, 8, 6]]


@pytest.mark.parametrize("shape", [(2, 3, 40), (2, 1, 5, 6, 7)])
def test_owen_works_in_one_and_three_axes(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 4), nn.Tanh(), nn.Linear(4, 1))
    e = explain(net, x, owen(segments=12, samples=6))
    assert e.gap is not None
    assert e.gap.max() < 1e-5
    assert e.values.shape == shape


def test_what_would_never_end_is_refused_with_its_cost() -> None:
    net, x = Players(linear), torch.ones(1, 1, 64, 64)
    with pytest.raises(CannotExplain, match=r"about 409,500 forwards an image.*use fewer samples or segments"):
        explain(net, x, shapley_sampling(segments="pixels"))
    with pytest.raises(CannotExplain, match="about 409,500 forwards an image"):
        explain(net, x, owen(segments="pixels"))
    with pytest.raises(ShapeError, match=r'use shapley_sampling.segments="channels"'):
        explain(net, x, owen(segments="channels"))
    with pytest.raises(ShapeError, match=r"groups=\(2, 2, 2\).*does not fit the spatial axes \(64, 64\)"):
        explain(net, x, owen(groups=(2, 2, 2)))
    for wrong in ({"samples": 3}, {"tolerance": 0.0}, {"tolerance": 1.0}):
        with pytest.raises(BadRecipe):
            shapley_sampling(**wrong)
