"""LIME and RISE: recovered weights, fit quality, naive loops and null models."""

import pytest
import torch
from torch import Tensor, nn

from pellucid.attribution import explain
from pellucid.attribution.perturbation import lime, rise
from pellucid.attribution.perturbation.fitters import weighted_ridge
from pellucid.attribution.perturbation.lime import proximity
from pellucid.attribution.perturbation.rise import SoftMasks
from pellucid.attribution.perturbation.samplers import bernoulli
from pellucid.errors import CannotExplain, ShapeError

LABELS = torch.arange(64).view(8, 8) // 11


class Regions(nn.Module):
    """A sum of what each region shows."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.stack([x[:, :, k == LABELS].mean((1, 2)) for k in range(6)], 1)
        return (seen @ torch.tensor([1.0, -2.0, 0.0, 4.0, 0.5, 3.0]))[:, None]


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True) * 0 + 7.3


def test_lime_recovers_a_model_that_is_linear_in_the_segments() -> None:
    e = explain(Regions(), torch.ones(2, 3, 8, 8), lime(segments=LABELS))
    expected = torch.tensor([1.0, -2.0, 0.0, 4.0, 0.5, 3.0]).expand(2, 6)
    torch.testing.assert_close(e.details["effects"], expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(e.values[0, :, LABELS == 3].sum(), torch.tensor(4.0), atol=1e-3, rtol=1e-3)
    assert (e.details["r2"] > 0.9999).all()
    assert e.warnings == ()


def test_lime_sends_equal_coalitions_once() -> None:
    e = explain(Regions(), torch.ones(1, 3, 8, 8), lime(segments=LABELS, samples=1000, spread=0))
    assert e.forwards <= 1 + 2**6


def test_lime_says_when_no_linear_rule_fits() -> None:
    class Parity(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = torch.stack([x[:, 0, k == LABELS].mean(1) for k in range(6)], 1)
            return (1 - 2 * seen).prod(1, keepdim=True)

    e = explain(Parity(), torch.ones(1, 1, 8, 8), lime(segments=LABELS, kernel_width=5.0))
    assert e.details["r2"][0] < 0.2
    assert any("R²" in warning for warning in e.warnings)


def test_lime_says_when_samples_are_few() -> None:
    e = explain(Regions(), torch.ones(1, 3, 8, 8), lime(segments="pixels", samples=100))
    assert any("few for 64 segments" in warning for warning in e.warnings)


def test_the_surrogate_is_the_weighted_ridge_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    generator = torch.Generator().manual_seed(0)
    design = bernoulli(7, 300, generator)
    weights = proximity(design.masks, 0.25)
    answers = torch.randn(len(design), 2, generator=generator, dtype=torch.float64)
    fit = weighted_ridge(design, weights, answers, 1.0)
    peer = Ridge(alpha=1.0).fit(design.masks.numpy(), answers.numpy(), sample_weight=(weights * design.total).numpy())
    torch.testing.assert_close(fit.effects.T, torch.as_tensor(peer.coef_))
    score = peer.score(design.masks.numpy(), answers.numpy(), sample_weight=(weights * design.total).numpy())
    assert fit.r2 is not None
    torch.testing.assert_close(fit.r2.mean().item(), score, atol=0.02, rtol=0.0)


def test_proximity_is_one_for_the_whole_image_and_falls_with_what_is_hidden() -> None:
    masks = torch.arange(5)[None] < torch.arange(6)[:, None]
    near = proximity(masks, 0.25)
    assert near[-1] == 1
    assert (near.diff() > 0).all()
    torch.testing.assert_close(near[0], torch.tensor(-1 / (2 * 0.25**2)).double().exp())


def test_the_standard_error_of_lime_matches_its_spread_over_seeds() -> None:
    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = torch.stack([x[:, 0, k == LABELS].mean(1) for k in range(6)], 1)
            return (seen[:, 0] * seen[:, 1] + 2 * seen[:, 2] * seen[:, 3] - seen[:, 4] * seen[:, 5])[:, None]

    runs = [
        explain(Pairs(), torch.ones(1, 1, 8, 8), lime(segments=LABELS, samples=200), seed=seed) for seed in range(60)
    ]
    spread = torch.stack([run.details["effects"][0] for run in runs]).std(0).mean()
    sizes = torch.bincount(LABELS.flatten())[LABELS]
    stated = torch.stack([run.error[0, 0] * sizes for run in runs if isinstance(run.error, Tensor)]).mean()
    assert 0.8 < stated / spread < 1.25


@pytest.mark.parametrize(
    "method", [rise(samples=50), lime(segments=LABELS, samples=100), rise(samples=50, probability=0.2)]
)
def test_a_constant_model_has_an_empty_map(method: rise | lime) -> None:
    e = explain(Constant(), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), method)
    assert isinstance(e.values, Tensor)
    assert e.values.abs().max() < 1e-5
    assert e.warnings == ()


@pytest.mark.parametrize("space", [(20,), (9, 14), (6, 5, 7)])
def test_soft_masks_have_the_stated_mean_everywhere_and_do_not_wrap(space: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    grids = (torch.rand(4000, *[4 for _ in space], generator=generator) < 0.3).float()
    plan = SoftMasks(0, grids, torch.rand(4000, len(space), generator=generator), space)
    masks = plan.masks(slice(None))
    assert masks.shape == (4000, *space)
    assert masks.min() >= 0
    assert masks.max() <= 1
    torch.testing.assert_close(masks.mean(0), torch.full(space, 0.3), atol=0.04, rtol=0.0)
    flat = masks.flatten(1)
    ends = torch.corrcoef(torch.stack([flat[:, 0], flat[:, -1]]))[0, 1]
    assert ends.abs() < 0.06


def test_soft_masks_are_the_shifted_linear_interpolation_of_torch() -> None:
    grid = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(2))
    plan = SoftMasks(0, grid, torch.tensor([[2 / 6, 5 / 6]]), (24, 24))
    blown = nn.functional.interpolate(grid[None], size=(30, 30), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(plan.masks(slice(None))[0], blown[2:26, 5:29])


def test_rise_equals_a_naive_loop() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 8 * 7, 2))
    x = torch.randn(1, 2, 10, 9, generator=torch.Generator().manual_seed(3))
    method = rise(samples=40, grid=3, probability=0.4, fill="mean")
    e = explain(net, x, method, target=1, batch_size=7)
    from pellucid.attribution.fills import reference
    from pellucid.attribution.method import row_seeds

    seeds = row_seeds(0, None, 1)
    generator = torch.Generator().manual_seed(seeds[0])
    grids = (torch.rand((40, 4, 4), generator=generator) < 0.4).float()
    masks = SoftMasks(0, grids, torch.rand(40, 2, generator=generator), (10, 9)).masks(slice(None))
    fill = reference("mean", (x,), seeds)[0]
    with torch.no_grad():
        scores = torch.stack([net(mask * x + (1 - mask) * fill)[0, 1] for mask in masks])
    terms = (scores - scores.mean())[:, None, None] * (masks - 0.4)
    torch.testing.assert_close(e.values.sum(1)[0], terms.sum(0) / 39 / 0.24, atol=1e-5, rtol=1e-4)
    assert isinstance(e.error, Tensor)
    torch.testing.assert_close(e.error.sum(1)[0], terms.std(0) / 40**0.5 / 0.24, atol=1e-5, rtol=1e-4)


def test_rise_points_at_the_only_place_that_matters_with_its_sign() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -x[:, 0, 2:5, 2:5].mean((1, 2))[:, None]

    e = explain(Corner(), torch.ones(1, 1, 24, 24), rise(samples=2000))
    assert isinstance(e.values, Tensor)
    place = divmod(int(e.values[0, 0].argmin()), 24)
    assert max(place) <= 6
    assert isinstance(e.error, Tensor)
    far = (e.values / e.error)[0, 0, 12:, 12:]
    assert far.abs().mean() < 1.5


def test_the_standard_error_of_rise_matches_its_spread_over_seeds() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Tanh())
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    runs = [explain(net, x, rise(samples=100, grid=4), seed=seed) for seed in range(60)]
    spread = torch.stack([run.values for run in runs if isinstance(run.values, Tensor)]).std(0).mean()
    stated = torch.stack([run.error for run in runs if isinstance(run.error, Tensor)]).mean()
    assert 0.85 < stated / spread < 1.15


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="does not fit"):
        explain(Constant(), torch.ones(1, 1, 8, 8), rise(grid=(2, 2, 2)))
    with pytest.raises(ShapeError, match="does not fit"):
        explain(Constant(), torch.ones(1, 1, 8, 8), rise(grid=9))


def test_lime_over_too_many_segments_is_refused() -> None:
    with pytest.raises(CannotExplain, match="10,000 segments from about 100,000 forwards"):
        explain(Constant(), torch.ones(1, 1, 100, 100), lime(segments="pixels"))


class Mixed(nn.Module):
    """Products of what neighbouring quarters show, on a smooth ground."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, 0, :12, :12].mean((1, 2)), x[:, 0, 12:, 12:].mean((1, 2))
        return (a * b + a - 0.5 * b.square() + 0.3 * x[:, 0, :12, 12:].amax((1, 2)))[:, None]


def textured(rows: int = 2) -> Tensor:
    return torch.rand(rows, 1, 24, 24, generator=torch.Generator().manual_seed(3)) + 0.5


def test_r2_is_spread_over_three_segmentations_and_five_draws() -> None:
    e = explain(Mixed(), textured(), lime(segments=9, samples=300))
    spread = e.details["r2_spread"]
    assert spread.shape == (2, 3, 5)
    assert spread.isfinite().all()
    assert (spread <= 1).all()
    assert (spread.std(2) > 0).all()
    torch.testing.assert_close(spread[:, 0].mean(1), e.details["r2"], atol=0.1, rtol=0.0)
    agreement = e.details["agreement"]
    assert (agreement[:, 0] == 1).all()
    assert (agreement[:, 1:].abs() < 1).all()
    assert (agreement[:, 1:] > 0).all()


def test_the_r2_of_a_draw_is_that_of_scikit_learn_fitted_to_the_other_draws() -> None:
    from sklearn.linear_model import Ridge

    from pellucid.attribution.perturbation.samplers import DRAWS, Design
    from pellucid.attribution.perturbation.spread import _unseen

    stream = torch.Generator().manual_seed(0)
    design = bernoulli(6, 200, stream)
    assert design.counts.shape == (DRAWS, len(design))
    assert design.counts.sum(1).tolist() == [40] * DRAWS
    answers = design.masks.double() @ torch.randn(6, 1, generator=stream).double()
    answers += 0.5 * torch.randn(len(design), 1, generator=stream).double()
    method = lime(ridge=1.0)
    found = _unseen(method, design, answers)[:, 0]
    weights = method.weights(design.masks)
    for draw in range(DRAWS):
        rest = design.counts.sum(0) - design.counts[draw]
        peer = Ridge(alpha=1.0).fit(design.masks, answers[:, 0], sample_weight=weights * rest)
        score = peer.score(design.masks, answers[:, 0], sample_weight=weights * design.counts[draw])
        torch.testing.assert_close(found[draw].item(), score)
    assert isinstance(design, Design)


def test_the_spread_leaves_the_map_as_it_is_and_costs_as_many_forwards_again() -> None:
    x = textured()
    plain, own, full = (
        explain(Mixed(), x, lime(segments=16, samples=400, spread=spread), batch_size=16) for spread in (0, 1, 3)
    )
    assert torch.equal(plain.values, own.values)
    assert torch.equal(plain.values, full.values)
    assert "r2_spread" not in plain.details
    assert own.forwards == plain.forwards
    assert own.details["r2_spread"].shape == (2, 1, 5)
    assert plain.forwards < full.forwards <= plain.forwards + 2 * 2 * 200


def test_a_model_that_is_linear_in_one_segmentation_only_is_told_by_the_spread() -> None:
    checks = (torch.arange(24)[:, None] // 3 + torch.arange(24)[None] // 3) % 2

    class Checks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright, dark = (x[:, 0, checks == side].mean(1) for side in (0, 1))
            return torch.maximum(bright, 2 * dark - 0.9)[:, None]

    e = explain(Checks(), torch.ones(1, 1, 24, 24), lime(segments=checks, samples=300))
    means = e.details["r2_spread"].mean(3 - 1)[0]
    assert means[0] > 0.9
    assert any("between segmentations in 1 of 1 images" in told for told in e.warnings) == bool(
        means.max() - means.min() > 0.2
    )


@pytest.mark.parametrize("segments", ["channels", "pixels"])
def test_where_segments_are_no_regions_there_is_no_other_segmentation(segments: str) -> None:
    e = explain(Mixed(), textured(1), lime(segments=segments, samples=100))
    assert e.details["r2_spread"][:, 1:].isnan().all()
    assert e.details["agreement"][:, 1:].isnan().all()


def test_a_constant_model_is_explained_whole_under_every_segmentation() -> None:
    e = explain(Constant(), textured(1), lime(segments=6, samples=60))
    assert (e.details["r2_spread"] == 1).all()
    assert not any("between segmentations" in told for told in e.warnings)


@pytest.mark.parametrize("method", [lime(segments=6, samples=4000), rise(samples=4000, grid=3)])
def test_a_row_stops_by_its_own_error_and_not_by_its_neighbours(method: lime | rise) -> None:
    x = torch.cat([textured(1), textured(1) * torch.linspace(0.2, 1.5, 24), 0.3 * textured(1)])
    asked = method.replace(tolerance=0.05)
    together = explain(Mixed(), x, asked, ids=["a", "b", "c"], batch_size=64)
    drawn = together.details["samples"]
    assert drawn.max() <= 4000
    assert drawn.min() < 4000
    for row, name in enumerate("abc"):
        alone = explain(Mixed(), x[row : row + 1], asked, ids=[name], batch_size=7)
        assert alone.details["samples"][0] == drawn[row]
        torch.testing.assert_close(alone.values[0], together.values[row], atol=1e-6, rtol=1e-4)
    fuller = explain(Mixed(), x, method, ids=["a", "b", "c"])
    assert isinstance(together.error, Tensor)
    assert isinstance(fuller.values, Tensor)
    away = (together.values - fuller.values).abs()
    assert (away <= 4 * together.error + 1e-6).double().mean() > 0.95


def test_a_tolerance_that_rise_and_lime_miss_is_told() -> None:
    for method in (rise(samples=300, tolerance=1e-6), lime(segments=6, samples=300, tolerance=1e-6, spread=0)):
        e = explain(Mixed(), textured(1), method)
        assert e.details["samples"].tolist() == [300]
        assert any("stayed above 1e-06 of |f(x) - f(fill)| in 1 of 1 images" in told for told in e.warnings)


def test_rise_in_rounds_equals_rise_at_once_on_the_same_masks() -> None:
    from pellucid.attribution.perturbation.rise import covariance

    stream = torch.Generator().manual_seed(0)
    grids, shifts = (torch.rand(90, 3, 3, generator=stream) < 0.5).float(), torch.rand(90, 2, generator=stream)
    whole = SoftMasks(0, grids, shifts, (9, 8))
    parts = SoftMasks(0, grids[:40], shifts[:40], (9, 8)).with_more(SoftMasks(0, grids[40:], shifts[40:], (9, 8)))
    answers = torch.randn(90, 2, generator=stream)
    for one, two in zip(covariance(whole, answers, 0.5, 90), covariance(parts, answers, 0.5, 7), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
