"""Searches along lines, on a generator and a model that are linear, so that the least change is known."""

from dataclasses import dataclass

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from pellucid.counterfactual import FittedGenerator, Support, faithful_autoencoder
from pellucid.counterfactual.engines import class_mean_shift, latent_shift, linear_discriminant
from pellucid.counterfactual.seek import Sought, seek
from pellucid.errors import BadTarget, CannotExplain
from pellucid.models import Model, Passes

SHAPE = (1, 2, 2)


@dataclass(frozen=True)
class Unchanged(FittedGenerator):
    """The image is its own latent."""

    free: Tensor | None = None
    generator = faithful_autoencoder()
    history = pa.table({"epoch": [1.0]})

    @property
    def movable(self) -> Tensor | None:
        return self.free

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.unflatten(1, SHAPE)

    def tensors(self) -> dict[str, Tensor]:
        return {}


def linear_model(*weights: float, bias: float = 0.0) -> Model:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([weights]))
        network[1].bias.fill_(bias)
    return Model(network)


def cloud(spreads: tuple[float, ...] = (1.0, 2.0, 1.0, 0.5), count: int = 400, mix: float = 0.0) -> Tensor:
    z = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    z[:, 1] = mix * z[:, 0] + (1 - mix**2) ** 0.5 * z[:, 1]
    return (z * torch.tensor(spreads)).unflatten(1, SHAPE)


def sought(
    model: Model, x: Tensor, training: Tensor, search: object, free: Tensor | None = None, **aim: object
) -> Sought:
    fitted = Unchanged(free)
    support = Support.of(fitted, model, training)
    with Passes(model) as passes:
        return seek(passes, x, fitted, support, search=search, **aim)


def test_latent_shift_goes_along_the_slope_and_no_further_than_needed():
    weights, training = (1.0, 0.5, 0.0, -2.0), cloud()
    model, x = linear_model(*weights), cloud()[:20]
    found = sought(model, x, training, latent_shift(reach=12.0, steps=24))
    assert bool(found.reached.all())
    spread = training.flatten(1).std(0, correction=0)
    slope = torch.tensor(weights) * spread.square() * -found.before.sign()
    assert torch.allclose(nn.functional.normalize(found.move.step), nn.functional.normalize(slope), atol=1e-5)
    past = found.aim.gap(found.scores, torch.arange(20))
    assert bool((past <= 1e-6).all())
    stride = 12.0 / 24 / 2**4
    assert bool((past >= -stride * (slope / spread).norm(dim=1).max()).all())


def test_one_latent_is_the_steepest():
    found = sought(linear_model(1.0, 0.6, 0.0, -1.0), cloud()[:6], cloud(), latent_shift(latents=1))
    assert found.move.step.abs().gt(0).tolist() == [[False, True, False, False]] * 6


def test_what_may_not_be_moved_stays():
    free = torch.tensor([True, False, True, True])
    for search in ("latent_shift", "class_mean_shift", "linear_discriminant", "latent_optimisation", "proxy_line"):
        found = sought(linear_model(1.0, 0.6, 0.1, -1.0), cloud()[:6], cloud(), search, free=free)
        assert bool((found.move.step[:, 1] == 0).all()), search
        assert bool(found.move.step[:, 0].abs().gt(0).all()), search


def test_class_means_point_along_the_covariance_and_the_discriminant_along_the_rule():
    """The answer hangs on the first latent alone; the second goes with it in the images. The discriminant sees through that."""
    training = cloud(spreads=(1.0, 1.0, 1.0, 1.0), count=2000, mix=0.8)
    model, x = linear_model(1.0, 0.0, 0.0, 0.0), training[:10]
    means, rule = (
        sought(model, x, training, search).move.step for search in (class_mean_shift(), linear_discriminant())
    )
    assert (means[:, 1] / means[:, 0]).tolist() == pytest.approx([0.8] * 10, abs=0.1)
    assert (rule[:, 1] / rule[:, 0]).tolist() == pytest.approx([0.0] * 10, abs=0.1)
    best = sought(model, x, training, linear_discriminant(latents=1)).move.step
    assert best.abs().gt(0).tolist() == [[True, False, False, False]] * 10


def test_searches_from_examples_need_no_slopes():
    model = Model(lambda x: torch.from_numpy(x.flatten(1)[:, :1].numpy() > 0.0).float() * 2 - 1)
    found = sought(model, cloud()[:10], cloud(), class_mean_shift())
    assert bool(found.reached.all())
    with pytest.raises(CannotExplain):
        sought(model, cloud()[:10], cloud(), latent_shift())


def test_a_row_does_not_depend_on_the_others():
    model, training = linear_model(1.0, 0.5, 0.0, -2.0), cloud()
    for search in ("latent_shift", "class_mean_shift", "linear_discriminant"):
        whole = sought(model, cloud()[:9], training, search)
        for row in (0, 4):
            alone = sought(model, cloud()[row : row + 1], training, search)
            assert torch.allclose(whole.move.step[row], alone.move.step[0], atol=1e-6), search


def test_out_of_reach_keeps_the_nearest_place_and_says_so():
    found = sought(linear_model(1.0, 0.0, 0.0, 0.0, bias=-50.0), cloud()[:3], cloud(), latent_shift(reach=2.0))
    assert not bool(found.reached.any())
    assert found.move.step[:, 0].tolist() == pytest.approx(
        [2.0 * float(cloud().flatten(1)[:, 0].std(correction=0))] * 3, rel=1e-4
    )


def test_no_example_past_the_goal_is_refused():
    with pytest.raises(BadTarget, match="0 of 400 are"):
        sought(linear_model(1.0, 0.0, 0.0, 0.0, bias=-50.0), cloud()[:3], cloud(), class_mean_shift(), target=1)
