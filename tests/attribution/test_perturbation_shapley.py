"""KernelSHAP: exact Shapley values by enumeration, efficiency, standard errors, and Captum."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from torch import Tensor, nn

from pellucid.attribution import explain
from pellucid.attribution.perturbation import kernel_shap
from pellucid.attribution.perturbation.fitters import constrained_least_squares
from pellucid.attribution.perturbation.samplers import shapley_design, with_more_pairs
from pellucid.errors import CannotExplain
from pellucid.models.targets import Region

Game = Callable[[Tensor], Tensor]


def linear(z: Tensor) -> Tensor:
    return z @ torch.arange(1.0, z.shape[1] + 1, dtype=z.dtype)


def largest(z: Tensor) -> Tensor:
    return (z * torch.arange(1.0, z.shape[1] + 1, dtype=z.dtype)).amax(1)


def product(z: Tensor) -> Tensor:
    return z[:, : 1 + z.shape[1] // 2].prod(1) + 0.5 * z[:, -1] * z[:, 0]


GAMES = {"linear": linear, "max": largest, "product": product}


class Players(nn.Module):
    """A game on the mean of each column of an image of ones."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.game = game

    def forward(self, x: Tensor) -> Tensor:
        return self.game(x.mean((1, 2)))[:, None] + 3


def shapley(game: Game, players: int) -> Tensor:
    """Shapley values by their definition."""
    values = torch.zeros(players, dtype=torch.float64)
    for player in range(players):
        others = [other for other in range(players) if other != player]
        for size in range(players):
            weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            for subset in itertools.combinations(others, size):
                without = torch.zeros(1, players, dtype=torch.float64)
                without[0, list(subset)] = 1
                joined = without.clone()
                joined[0, player] = 1
                values[player] += weight * (game(joined) - game(without)).item()
    return values


@pytest.mark.parametrize("players", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("game", GAMES)
def test_complete_designs_give_the_exact_shapley_values(game: str, players: int) -> None:
    x = torch.ones(1, 2, 3, players)
    columns = torch.arange(players).expand(3, players)
    e = explain(Players(GAMES[game]), x, kernel_shap(segments=columns, samples=max(2, 2**players - 2)))
    torch.testing.assert_close(e.details["effects"][0].double(), shapley(GAMES[game], players), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(e.values.sum((1, 2))[0].double(), shapley(GAMES[game], players), atol=1e-4, rtol=1e-4)
    assert e.error is not None
    assert (e.error == 0).all()
    assert e.forwards == 2 + 2**players - 2


@settings(max_examples=30, deadline=None)
@given(players=st.integers(2, 14), extra=st.integers(0, 400), seed=st.integers(0, 99))
def test_designs_weigh_sizes_by_the_kernel_and_stay_in_budget(players: int, extra: int, seed: int) -> None:
    samples = min(2 * players + extra, 2**players - 2)
    design = shapley_design(players, samples, torch.Generator().manual_seed(seed))
    assert len(design) <= samples
    assert len(torch.unique(design.masks, dim=0)) == len(design)
    sizes = design.masks.sum(1)
    assert sizes.min() > 0
    assert sizes.max() < players
    complements = {tuple(row) for row in (~design.masks).tolist()}
    assert complements == {tuple(row) for row in design.masks.tolist()}
    if int(design.draws.sum()) != 0 or len(design) == 2**players - 2:
        torch.testing.assert_close(design.weights.sum(), torch.tensor(1.0).double())
    masses = torch.tensor([1 / (k * (players - k)) for k in range(1, players)], dtype=torch.float64)
    if len(design) == 2**players - 2:
        found = torch.stack([design.weights[sizes == k].sum() for k in range(1, players)])
        torch.testing.assert_close(found, masses / masses.sum())


def test_sampled_sizes_follow_the_kernel() -> None:
    players, found = 12, torch.zeros(11, dtype=torch.float64)
    for seed in range(200):
        design = shapley_design(players, 100, torch.Generator().manual_seed(seed))
        found += torch.stack([design.weights[design.masks.sum(1) == k].sum() for k in range(1, players)]) / 200
    masses = torch.tensor([1 / (k * (players - k)) for k in range(1, players)], dtype=torch.float64)
    torch.testing.assert_close(found, masses / masses.sum(), atol=0.01, rtol=0.0)


def _fitted(samples: int, seed: int, players: int = 12) -> tuple[Tensor, Tensor]:
    def play(z: Tensor) -> Tensor:
        return (largest(z.double()) + 4 * product(z.double()))[:, None]

    design = shapley_design(players, samples, torch.Generator().manual_seed(seed))
    ends = play(torch.stack([torch.zeros(players), torch.ones(players)]))
    fit = constrained_least_squares(design, play(design.masks), ends[0], ends[1])
    return fit.effects[:, 0], fit.error[:, 0]


def test_the_standard_error_covers_the_exact_values() -> None:
    exact, none = _fitted(2**12 - 2, 0)
    assert (none == 0).all()
    for samples in (80, 300):
        runs = [_fitted(samples, seed) for seed in range(150)]
        inside = torch.stack([(effects - exact).abs() < 1.96 * error for effects, error in runs]).double().mean()
        assert 0.9 < inside <= 1
        spread = torch.stack([effects for effects, _ in runs]).std(0).mean()
        stated = torch.stack([error for _, error in runs]).mean()
        assert 0.75 < stated / spread < 1.4


def test_more_samples_come_nearer_to_the_exact_values() -> None:
    exact, _ = _fitted(2**12 - 2, 0)
    far, near = (sum((_fitted(n, seed)[0] - exact).norm() for seed in range(20)) for n in (60, 600))
    assert near < 0.4 * far


class Linear(nn.Module):
    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, size, size, generator=torch.Generator().manual_seed(5)))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1).sum(1, keepdim=True) - 1


@pytest.mark.parametrize("size", [4, 8, 24])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_a_linear_model_get_weight_times_pixel(channels: int, size: int) -> None:
    net = Linear(channels, size)
    x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(6))
    e = explain(net, x, kernel_shap(segments="pixels"))
    torch.testing.assert_close(e.values.sum(1), (x * net.weight).sum(1).detach(), atol=1e-4, rtol=1e-4)


def test_values_sum_to_the_difference_to_the_fill() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    x = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(7))
    e = explain(net, x, 'kernel_shap(segments="grid(4, 4)", samples=60, fill="blur")', target=1)
    assert e.gap is not None
    assert e.reference_output is not None
    assert (e.gap < 1e-4).all()
    torch.testing.assert_close(e.values.flatten(1).sum(1), e.output - e.reference_output, atol=1e-4, rtol=1e-4)


@pytest.mark.peers
def test_a_linear_model_gives_what_captum_gives() -> None:
    from captum.attr import KernelShap

    net = Linear(1, 6)
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(8))
    columns = torch.arange(6).expand(6, 6).contiguous()
    e = explain(net, x, kernel_shap(segments=columns))
    torch.manual_seed(0)
    theirs = KernelShap(net).attribute(x, feature_mask=columns[None, None], n_samples=200, target=0)
    torch.testing.assert_close(e.values * 6, theirs, atol=1e-3, rtol=1e-3)


def test_too_few_samples_are_refused_with_how_many_would_do() -> None:
    with pytest.raises(CannotExplain, match="at least 128 samples"):
        explain(Linear(1, 8), torch.ones(1, 1, 8, 8), kernel_shap(segments="pixels", samples=100))


def test_pixels_of_a_large_image_are_refused_with_the_cost() -> None:
    with pytest.raises(CannotExplain, match="100,852 forwards"):
        explain(Linear(1, 224), torch.ones(1, 1, 224, 224), kernel_shap(segments="pixels"))


def _games(count: int, players: int) -> Callable[[Tensor], Tensor]:
    """Return random games with pairs, a maximum and a product, ``(n, players)`` to ``(n, count)``."""
    stream = torch.Generator().manual_seed(0)
    own, scale = torch.randn(count, players, generator=stream).double(), torch.rand(count, players, generator=stream)
    pairs = 0.6 * torch.randn(count, players, players, generator=stream).double()

    def play(masks: Tensor) -> Tensor:
        z = masks.double()
        joint = torch.einsum("mi,nij,mj->mn", z, pairs, z)
        return z @ own.T + joint + 4 * (z[:, None] * scale).amax(2) + 3 * z[:, :4].prod(1, keepdim=True)

    return play


@pytest.mark.parametrize("samples", [100, 400])
def test_the_stated_interval_covers_the_truth_95_times_in_a_hundred(samples: int) -> None:
    players, play, inside = 12, _games(100, 12), []
    ends = play(torch.stack([torch.zeros(players), torch.ones(players)]))
    whole = shapley_design(players, 2**players - 2, torch.Generator())
    exact = constrained_least_squares(whole, play(whole.masks), *ends).effects
    for seed in range(25):
        design = shapley_design(players, samples, torch.Generator().manual_seed(seed))
        fit = constrained_least_squares(design, play(design.masks), *ends)
        margin = fit.error * float(student.ppf(0.975, int(design.draws.sum()) - 1))
        inside.append((fit.effects - exact).abs() <= margin)
    assert abs(torch.stack(inside).double().mean() - 0.95) < 0.02


def test_stopping_keeps_the_stated_coverage_and_the_tolerance() -> None:
    players, columns, inside, drawn = 12, torch.arange(12).expand(2, 12), [], []
    for number in range(12):
        game = _games(1, players)

        def play(z: Tensor, game: Callable[[Tensor], Tensor] = game, number: int = number) -> Tensor:
            return game(z)[:, 0] * (1 + number) + z[:, number % players]

        x = torch.ones(1, 1, 2, players)
        exact = explain(Players(play), x, kernel_shap(segments=columns, samples=4094))
        for seed in range(12):
            e = explain(Players(play), x, kernel_shap(segments=columns, samples=3000, tolerance=0.05), seed=seed)
            assert (e.gap < 1e-3).all()
            assert (e.error[0, 0, 0] * 2 <= 0.0501 * (e.output - e.reference_output).abs()).all()
            inside.append((e.details["effects"] - exact.details["effects"]).abs() <= e.details["margin"] + 1e-5)
            drawn.append(int(e.details["samples"][0]))
            assert e.forwards <= 2 + 3000
    assert torch.stack(inside).double().mean() > 0.92
    assert min(drawn) < 1000


def test_more_pairs_keep_what_is_known_and_its_weights() -> None:
    design = shapley_design(11, 120, torch.Generator().manual_seed(0))
    more = with_more_pairs(design, 70, torch.Generator().manual_seed(1))
    enumerated = len(design) - 2 * len(design.draws)
    assert torch.equal(more.masks[: enumerated + len(design.draws)], design.masks[: enumerated + len(design.draws)])
    assert more.draws.sum() == design.draws.sum() + 70
    assert len(torch.unique(more.masks, dim=0)) == len(more)
    torch.testing.assert_close(more.weights.sum(), design.weights.sum())
    half = len(more.draws)
    assert torch.equal(more.masks[-half:], ~more.masks[-2 * half : -half])


def test_an_additive_game_stops_at_the_pilot_and_a_missed_tolerance_is_told() -> None:
    x, columns = torch.ones(1, 1, 2, 20), torch.arange(20).expand(2, 20)
    e = explain(Players(linear), x, kernel_shap(segments=columns, samples=20_000, tolerance=0.01))
    torch.testing.assert_close(e.details["effects"][0], torch.arange(1.0, 21), atol=1e-3, rtol=1e-4)
    assert e.forwards < 200
    missed = explain(Players(product), x, kernel_shap(segments=columns, samples=200, tolerance=1e-6))
    assert any(
        "stayed above 1e-06 of |f(x) - f(fill)| in 1 of 1 images after 200 samples" in told for told in missed.warnings
    )


def test_a_small_game_ends_with_every_coalition() -> None:
    x, columns = torch.ones(1, 1, 2, 9), torch.arange(9).expand(2, 9)
    e = explain(Players(largest), x, kernel_shap(segments=columns, samples=510, tolerance=1e-6))
    torch.testing.assert_close(e.details["effects"][0].double(), shapley(largest, 9), atol=1e-4, rtol=1e-4)
    assert (e.error == 0).all()
    assert e.details["samples"].tolist() == [510]


@pytest.mark.parametrize("players", range(2, 11))
def test_any_game_of_ten_players_equals_full_enumeration_and_sends_no_coalition_twice(players: int) -> None:
    table = torch.randn(2**players, generator=torch.Generator().manual_seed(players)).double()
    powers = 2 ** torch.arange(players)
    seen: list[int] = []

    def game(z: Tensor) -> Tensor:
        places = (z.round().long() * powers).sum(1)
        seen.extend(places.tolist())
        return table[places]

    x, columns = torch.ones(1, 1, 2, players), torch.arange(players).expand(2, players)
    e = explain(Players(game), x, kernel_shap(segments=columns))
    asked = seen[2:]
    assert len(set(asked)) == len(asked)
    torch.testing.assert_close(e.details["effects"][0].double(), shapley(game, players), atol=1e-4, rtol=1e-4)
    assert e.gap is not None
    assert e.gap.max() < 1e-4


def test_segments_are_frozen_from_the_unperturbed_image_and_target() -> None:
    dense = nn.Conv2d(1, 2, 3, padding=1)
    x = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def net(images: Tensor) -> Tensor:
        out = dense(images)
        seen.append(out)
        return out

    e = explain(net, x, 'kernel_shap(segments="grid(3, 3)", samples=60)', Region(1))
    object_ = seen[0][0].argmax(0) == 1
    torch.testing.assert_close(e.output[0], seen[0][0, 1][object_].mean())
    assert e.reference_output is not None
    empty = next(out for out in seen[1:] if out.shape[0] == 1)
    torch.testing.assert_close(e.reference_output[0], empty[0, 1][object_].mean())
