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
