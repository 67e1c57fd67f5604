"""Sobol indices and HSIC against closed forms, naive loops, and cells that do not matter."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pellucid.attribution import explain
from pellucid.attribution.perturbation import hsic, sobol
from pellucid.attribution.perturbation.hsic import dependence
from pellucid.attribution.perturbation.sobol import pick_freeze, total_indices
from pellucid.errors import BadRecipe, CannotExplain, ShapeError


class Cells(nn.Module):
    """A function of the four quadrants' means of an image of ones."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        quadrants = nn.functional.avg_pool2d(x.mean(1, keepdim=True), x.shape[-1] // 2).flatten(1)
        return self.function(quadrants)[:, None]


WEIGHTS = torch.tensor([3.0, -2.0, 1.0, 0.0])
ONES = torch.ones(1, 2, 8, 8)


def test_indices_of_an_additive_function_are_its_squared_weights() -> None:
    e = explain(Cells(lambda z: 7 + z @ WEIGHTS), ONES, sobol(grid=2, samples=1024))
    torch.testing.assert_close(e.details["effects"][0], WEIGHTS**2 / 14, atol=0.01, rtol=0.0)
    assert e.details["effects"][0, 3] < 1e-9
    assert e.forwards == 1024 * 6 + 1
    sums = nn.functional.avg_pool2d(e.values.sum(1, keepdim=True), 4).flatten() * 16
    torch.testing.assert_close(sums, e.details["effects"][0])
    assert (e.values >= 0).all()


def test_indices_of_a_product_count_the_interaction_in_both_cells() -> None:
    e = explain(Cells(lambda z: z[:, 0] * z[:, 1]), ONES, sobol(grid=2, samples=1024))
    torch.testing.assert_close(e.details["effects"][0], torch.tensor([4 / 7, 4 / 7, 0, 0]), atol=0.02, rtol=0.0)


def test_indices_blend_into_the_fill() -> None:
    e = explain(Cells(lambda z: (z @ WEIGHTS) ** 2), ONES * 3, sobol(grid=2, samples=64, fill=1.0))
    f = explain(Cells(lambda z: ((1 + 2 * z) @ WEIGHTS) ** 2), ONES, sobol(grid=2, samples=64))
    torch.testing.assert_close(e.details["effects"], f.details["effects"], atol=1e-4, rtol=1e-4)


def test_pick_freeze_takes_one_cell_from_the_second_set() -> None:
    design = pick_freeze(5, 16, 3)
    masks = design.members(slice(None)).view(7, 16, 5)
    assert torch.equal(torch.cat([design.members(slice(s, s + 9)) for s in range(0, 112, 9)]).view(7, 16, 5), masks)
    assert torch.equal(masks[0], design.first)
    assert torch.equal(masks[1], design.second)
    for cell in range(5):
        expected = design.first.clone()
        expected[:, cell] = design.second[:, cell]
        assert torch.equal(masks[2 + cell], expected)
    assert masks.min() >= 0
    assert masks.max() <= 1
    # every axis of a scrambled net of 16 points has one point in each sixteenth
    for points in (design.first, design.second):
        assert torch.equal((points * 16).floor().sort(0).values, torch.arange(16.0)[:, None].expand(16, 5))
    assert not torch.equal(pick_freeze(5, 16, 4).first, design.first)


def test_jansens_estimator_equals_its_loop() -> None:
    design, answers = pick_freeze(3, 8, 0), torch.randn(8 * 5, 2, generator=torch.Generator().manual_seed(0))
    found, _, still = total_indices(design, answers)
    values = answers.double()
    for cell in range(3):
        for target in range(2):
            moved = sum((values[a, target] - values[16 + 8 * cell + a, target]) ** 2 for a in range(8)) / 16
            torch.testing.assert_close(found[cell, target], moved / values[:16, target].var())
    assert not still.any()


@pytest.mark.parametrize("method", [sobol(grid=2), hsic(grid=2, samples=50)])
def test_a_constant_model_has_no_indices_and_it_is_told(method: sobol | hsic) -> None:
    e = explain(Cells(lambda z: 3 + 1e-9 * z.sum(1)), ONES, method)
    assert (e.values == 0).all()
    assert "the score does not change with any mask in 1 of 1 images" in e.warnings[0]


def test_hsic_equals_the_unbiased_statistic_by_its_definition() -> None:
    stream = torch.Generator().manual_seed(2)
    masks = torch.rand(20, 3, generator=stream) < 0.5
    answers = masks[:, :1] + 0.3 * torch.randn(20, 1, generator=stream)
    y = answers[:, 0].double()
    distance = (y[:, None] - y).abs()
    outer = torch.exp(-(distance**2) / (2 * distance[distance > 0].median() ** 2))
    n, ones = 20, torch.ones(20).double()
    found = dependence(masks, answers)[0].effects
    for cell in range(3):
        inner = (masks[:, cell, None] == masks[:, cell]).double()
        k, l = (kernel - torch.diag(kernel.diag()) for kernel in (inner, outer))  # noqa: E741  # as in the paper
        trace, both = torch.trace(k @ l), (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
        song = (trace + both - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3))
        torch.testing.assert_close(found[cell, 0], song)


def test_hsic_is_zero_in_expectation_where_a_cell_does_not_matter() -> None:
    runs, stated = [], []
    for seed in range(400):
        stream = torch.Generator().manual_seed(seed)
        masks = torch.rand(40, 4, generator=stream) < 0.5
        fit, noise, _ = dependence(masks, (masks[:, :1] + 0.5 * masks[:, 1:2]).double())
        runs.append(fit.effects[:, 0])
        stated.append(noise[0])
    effects = torch.stack(runs)
    spread = effects[:, 2:].std()
    assert (effects[:, 2:].mean(0).abs() < 4 * spread / 20).all()
    assert 0.85 < torch.stack(stated).mean() / spread < 1.15
    assert (effects[:, 0] > 5 * spread).all()


def test_hsic_of_a_score_that_is_one_cell_has_its_closed_form() -> None:
    e = explain(Cells(lambda z: 5 * z[:, 2]), ONES, hsic(grid=2, samples=2000))
    # the score's kernel is 1 for equal cells and exp(-1/2) for unequal ones, so E[k0 l] = (1 - exp(-1/2)) / 4
    closed = (1 - torch.exp(torch.tensor(-0.5))) / 4
    torch.testing.assert_close(e.details["effects"][0, 2], closed, atol=0.002, rtol=0.0)
    assert (e.details["effects"][0, [0, 1, 3]].abs() < 5 * e.details["noise"][0]).all()


@pytest.mark.parametrize("method", [sobol(grid=4), hsic(grid=4, samples=300)])
def test_the_cell_that_matters_comes_first_whatever_its_sign(method: sobol | hsic) -> None:
    weight = torch.full((1, 8, 8), 0.02)
    weight[:, 2:4, 4:6] = -1

    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh((x * weight).flatten(1).sum(1, keepdim=True))

    e = explain(Bright(), torch.ones(3, 1, 8, 8), method, target=0, ids=["a", "b", "c"])
    assert e.details["effects"].argmax(1).tolist() == [6, 6, 6]
    assert (e.values >= 0).all()
    assert (e.values[:, 0, 2:4, 4:6] == e.values.amax((1, 2, 3))[:, None, None]).all()
    assert not torch.equal(e.values[0], e.values[1])


def test_default_grids_have_about_64_cells_in_any_number_of_axes() -> None:
    for shape, cells in [((1, 1, 100), 64), ((1, 1, 16, 16), 64), ((1, 1, 8, 8, 8), 64), ((1, 1, 5), 5)]:
        net = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 1))
        assert explain(net, torch.ones(shape), sobol(samples=2)).details["effects"].shape == (1, cells)


def test_what_cannot_be_done_is_refused_with_its_cost() -> None:
    net = Cells(lambda z: z.sum(1))
    with pytest.raises(CannotExplain, match=r"about 524,416 forwards an image.*coarser grid"):
        explain(net, torch.ones(1, 1, 128, 128), sobol(grid=(128, 64), samples=64))
    with pytest.raises(CannotExplain, match=r"24,576 dimensions, about 24,580 forwards an image"):
        explain(net, torch.ones(1, 1, 128, 128), sobol(grid=(128, 96), samples=2))
    with pytest.raises(CannotExplain, match=r"about 200,000 forwards an image, .* for 1 image, .* use fewer samples"):
        explain(net, ONES, hsic(samples=200_000))
    with pytest.raises(BadRecipe, match="power of two"):
        sobol(samples=48)
    with pytest.raises(ShapeError, match=r"grid \(9, 9\) does not fit the spatial axes \(8, 8\)"):
        explain(net, ONES, hsic(grid=9))
    with pytest.raises(ShapeError, match="same spatial axes"):
        explain(nn.Linear(4, 1), torch.ones(1, 4), sobol())


def test_the_median_distance_is_that_of_all_pairs() -> None:
    from pellucid.attribution.perturbation.hsic import _median_distance

    for seed in range(20):
        values = torch.randn(15 + seed, generator=torch.Generator().manual_seed(seed)).double()
        values[:4] = values[0]  # equal answers do not count
        distance = (values[:, None] - values).abs()
        torch.testing.assert_close(_median_distance(values), distance[distance > 0].median())


def test_hsic_in_blocks_equals_hsic_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.attribution.perturbation import hsic as module

    hsic_module = sys.modules[module.__module__]
    stream = torch.Generator().manual_seed(0)
    masks = torch.rand(150, 5, generator=stream) < 0.5
    answers = masks.double() @ torch.randn(5, 2, generator=stream).double()
    whole = dependence(masks, answers)
    monkeypatch.setattr(hsic_module, "BLOCK", 17)
    parts = dependence(masks, answers)
    torch.testing.assert_close(parts[0].effects, whole[0].effects)
    torch.testing.assert_close(parts[0].error, whole[0].error)
    torch.testing.assert_close(parts[1], whole[1])


def test_the_memory_of_hsic_does_not_grow_with_the_square_of_its_samples() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.most = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            self.most = max(self.most, out.numel() if isinstance(out, Tensor) else 0)
            return out

    stream = torch.Generator().manual_seed(0)
    masks = torch.rand(3000, 4, generator=stream) < 0.5
    with Largest() as seen:
        dependence(masks, masks[:, :1] + torch.rand(3000, 1, generator=stream))
    assert seen.most <= 512 * 3000


def test_the_stated_errors_of_hsic_match_their_spread_over_seeds() -> None:
    runs, stated = [], []
    for seed in range(300):
        stream = torch.Generator().manual_seed(seed)
        masks = torch.rand(200, 4, generator=stream) < 0.5
        noise = 0.3 * torch.randn(200, 1, generator=stream)
        fit, _, _ = dependence(masks, masks[:, :1] + 0.4 * masks[:, 1:2] + noise)
        runs.append(fit.effects[:, 0])
        stated.append(fit.error[:, 0])
    ratio = torch.stack(stated).mean(0) / torch.stack(runs).std(0)
    assert (ratio > 0.85).all(), ratio
    assert (ratio < 1.5).all(), ratio


def test_the_stated_errors_of_indices_are_the_jackknife_and_not_too_small() -> None:
    def play(z: Tensor) -> Tensor:
        z = z.double()
        return (z[:, 0] + 0.5 * z[:, 1] + z[:, 2] * z[:, 3])[:, None]

    runs, stated = [], []
    for seed in range(60):
        design = pick_freeze(5, 64, seed)
        found, error, _ = total_indices(design, play(design.members(slice(None))))
        runs.append(found[:, 0])
        stated.append(error[:, 0])
        assert error[4, 0] == 0
    ratio = torch.stack(stated).mean(0)[:4] / torch.stack(runs).std(0)[:4]
    assert (ratio > 0.9).all(), ratio
    assert (ratio < 8).all(), ratio
    one = pick_freeze(5, 8, 0)
    answers = play(one.members(slice(None)))
    found, error, _ = total_indices(one, answers)
    base, swapped = answers[:16], answers[16:].view(5, 8, 1)
    left = []
    for point in range(8):
        kept = [other for other in range(8) if other != point]
        both = torch.cat([base[kept], base[[8 + other for other in kept]]])
        left.append((base[kept] - swapped[:, kept]).square().mean(1)[:, 0] / 2 / both.var())
    without = torch.stack(left)
    naive = ((without - without.mean(0)).square().sum(0) * 7 / 8).sqrt()
    torch.testing.assert_close(error[:, 0], naive)
