"""Games with known values: on sums, products and lone factors the exact attribution wins under every metric of faith."""

from itertools import permutations

import pytest
import torch
from torch import nn

from pellucid.evaluation import METRICS, evaluate
from pellucid.evaluation.bench import Bench
from pellucid.hashing import hash_seed

FAITHFUL = sorted(name for name, metric in METRICS.items() if metric.profile.family == "faithfulness")
SHAPES = [(1, 24), (2, 8, 8), (1, 4, 6, 6)]


class Product(nn.Module):
    """The product of three groups' means, the fourth of no account; the other class has a small constant."""

    def __init__(self, groups):
        super().__init__()
        self.register_buffer("groups", groups)

    def factors(self, x):
        return torch.stack([x.flatten(2).mean(1)[:, self.groups.flatten() == g].mean(1) for g in range(3)], 1)

    def forward(self, x):
        total = self.factors(x).prod(1)
        return torch.stack([total, torch.full_like(total, 0.08)], 1)


def _shapley(net, x):
    """Return the exact Shapley values of the product against nothing, spread over each group by its pixels' share."""
    factors = net.factors(x)
    values = torch.zeros_like(factors)
    for order in permutations(range(3)):
        present = torch.zeros_like(factors)
        for player in order:
            before = torch.where(present > 0, factors, 0.0).prod(1)
            present[:, player] = 1
            values[:, player] += (torch.where(present > 0, factors, 0.0).prod(1) - before) / 6
    found = torch.zeros_like(x)
    for group in range(3):
        inside = (net.groups == group) * x
        found += (
            inside
            / inside.flatten(1).sum(1).view(-1, *[1] * (x.ndim - 1))
            * values[:, group].view(-1, *[1] * (x.ndim - 1))
        )
    return found


def _game(shape):
    random = torch.Generator().manual_seed(7)
    x = 0.5 + torch.rand(12, *shape, generator=random)
    size = torch.Size(shape[1:]).numel()
    return Product((torch.arange(size) * 4 // size).reshape(shape[1:])), x


@pytest.mark.parametrize("shape", SHAPES, ids=["1-D", "2-D", "3-D"])
def test_the_product_game_has_the_values_that_add_up_to_it(shape):
    net, x = _game(shape)
    assert torch.allclose(_shapley(net, x).flatten(1).sum(1), net(x)[:, 0], atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", FAITHFUL)
def test_on_a_product_exact_beats_random_and_its_negative(name, shape, kit):
    net, x = _game(shape)
    exact = _shapley(net, x)
    maps = {
        "exact": exact,
        "random": torch.randn(exact.shape, generator=torch.Generator().manual_seed(1)),
        "negated": -exact,
    }
    metric = METRICS.parse(name)
    metric = metric.replace(fill=0.0) if "fill" in metric.settings else metric
    metric = metric.replace(share=0.5) if name == "impact_score" else metric  # less flips no decision of a product
    ids = [str(row) for row in range(12)]
    scores = evaluate(net, x, [kit.given(v, net, x, n, target=0, ids=ids) for n, v in maps.items()], [metric])
    sign = 1 if metric.profile.direction == "higher" else -1
    best, middle, worst = (
        sign * torch.tensor(kit.column(scores, name, method), dtype=torch.float64).nanmean() for method in maps
    )
    assert best > middle
    assert best > worst


def _louder(values, factor):
    return values * factor


@pytest.mark.parametrize("name", FAITHFUL)
def test_no_metric_of_faith_depends_on_the_scale_of_the_map(name, kit):
    net, x = _game((2, 8, 8))
    values = _shapley(net, x)
    maps = [kit.given(_louder(values, factor), net, x, f"times {factor}", target=0) for factor in (1.0, 1024.0)]
    scores = evaluate(net, x, maps, name)
    quiet, loud = (kit.column(scores, name, f"times {factor}") for factor in (1.0, 1024.0))
    assert quiet == pytest.approx(loud, rel=1e-5, abs=1e-7)


def test_a_bank_that_fitted_a_method_never_scores_it(kit):
    """Methods draw from hash(seed, id); evaluation draws from another stream of the same seed."""
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    given = kit.given(x, net, x, "map", ids=["a", "b"])
    from pellucid.attribution.method import row_seeds
    from pellucid.evaluation.positions import streams
    from pellucid.models import Model, Passes

    with Passes(Model.of(net)) as passes:
        bench = Bench(passes, (x,), [given], ids=["a", "b"], seed=5)
    fitted = row_seeds(5, ["a", "b"], 2)
    assert bench.seeds == fitted
    for purpose in ("subsets 6 64", "ties", "noise 0", "imputation 0"):
        for seed, stream in zip(fitted, streams(bench.seeds, purpose), strict=True):
            method = torch.Generator().manual_seed(seed)
            assert stream.initial_seed() == hash_seed("evaluation", purpose, seed) != seed
            assert not torch.equal(torch.rand(8, generator=stream), torch.rand(8, generator=method))
