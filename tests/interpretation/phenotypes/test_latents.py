"""Latents: what they go with, what they add to each call, how far each is one thing."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from pellucid.counterfactual import FittedGenerator
from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.phenotypes import Atlas, Basis, disentanglement, latent_causes, latent_phenotypes
from pellucid.interpretation.phenotypes.basis import REST
from pellucid.interpretation.phenotypes.latents import automatic_names
from pellucid.models import Model

MEAN, GROUND, AREA = "Intensity_MeanIntensity_0", "Background_MeanIntensity", "AreaShape_Area"


class Straight(FittedGenerator):
    """Images are a mean and three fixed patterns, and the latents their weights: all is linear."""

    def __init__(self, patterns, mean):
        self.generator, self.history = None, pa.table({})
        self.patterns, self.mean = patterns, mean

    def encode(self, x):
        return (x - self.mean).flatten(1) @ torch.linalg.pinv(self.patterns.flatten(1))

    def decode(self, z):
        return self.mean + torch.einsum("nk,kcyx->ncyx", z, self.patterns)

    def tensors(self):
        return {"patterns": self.patterns}


@pytest.fixture(scope="module")
def straight(blobs):
    """A linear generator, an atlas of its images, and a model that weighs its three latents 3, −2 and 0."""
    mean = blobs.draw(torch.zeros(1, 24))[0]
    bumps = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(3)) * 0.01
    generator = Straight(bumps, mean)
    images = generator.decode(torch.randn(60, 3, generator=torch.Generator().manual_seed(4)))
    atlas = Atlas.of(generator, images[:40], blobs.profiler)
    weights = torch.tensor([3.0, -2.0, 0.0])

    def model(x):
        score = generator.encode(x) @ weights
        return torch.stack([-score, score], 1) / 2

    return atlas, images[40:], generator, weights, model


def test_shapley_values_of_a_linear_model_on_a_linear_generator_are_the_products(straight):
    atlas, images, generator, weights, model = straight
    atlas = Atlas(**{**vars(atlas), "space": atlas.space.__class__(**{**vars(atlas.space), "low": -torch.ones(1, 1, 1, 1) * 9,
                                                                       "high": torch.ones(1, 1, 1, 1) * 9})})  # fmt: skip
    found = latent_causes(model, atlas, images[:6], axes="latents", references=40)
    latents = generator.encode(images[:6])
    expected = weights * (latents - generator.encode(atlas.images).mean(0))
    np.testing.assert_allclose(found.values, expected.numpy(), atol=2e-3)
    assert found.table["player"].to_pylist()[-1] == "latent 2"
    assert found.plot().axes


def test_the_axis_that_drove_each_call_is_named_right_and_wrong_calls_too(blobs):
    rows = slice(240, 264)
    reader = blobs.Reader(middle=30.0, corner=60.0)
    labels = [0] * 24
    found = latent_causes(reader, blobs.atlas, blobs.images[rows], labels=labels, groups=blobs.groups[rows], references=12,
                          names={GROUND: "haze"})  # fmt: skip
    middle = 30 * (blobs.images[rows, 0, 11:17, 11:17] - blobs.images[:240, 0, 11:17, 11:17].mean()).mean((1, 2))
    corner = 60 * (blobs.images[rows, 0, :4, :4] - blobs.images[:240, 0, :4, :4].mean()).mean((1, 2))
    called = torch.tensor(found.causes["predicted"].to_pylist())
    towards = torch.stack([middle, corner], 1) * (2 * called[:, None] - 1)
    clear = (towards[:, 0] - towards[:, 1]).abs() > 1
    truth = [(MEAN, GROUND)[int(at)] for at in towards.argmax(1)]
    named = found.causes["cause"].to_pylist()
    right = [a == b for a, b, sure in zip(named, truth, clear, strict=True) if sure]
    assert sum(right) / len(right) >= 0.8
    assert found.causes["correct"].to_pylist() == [int(one) == 0 for one in called]
    assert {row["name"] for row in found.causes.to_pylist() if row["cause"] == GROUND} <= {"haze"}
    assert set(found.table["player"].to_pylist()[:2]) == {MEAN, GROUND}
    total = found.values.sum(1)
    assert np.corrcoef(total, found.causes["score"].to_numpy())[0, 1] > 0.99


def test_axes_are_orthogonal_and_bring_every_point_back(blobs):
    for axes in ("latents", "phenotypes"):
        basis = Basis.of(blobs.atlas, axes)
        points = blobs.atlas.directions.heads.points[:5]
        torch.testing.assert_close(basis.points(basis.coordinates(points)), points)
    torch.testing.assert_close(basis.matrix.T @ basis.matrix, torch.eye(24, dtype=torch.float64))
    assert basis.names[-1] == REST
    ways = blobs.atlas.directions.unit(points, blobs.atlas.names.index(GROUND)).mean(0)
    assert float(ways @ basis.matrix[:, basis.names.index(GROUND)]) > 0.95


def test_latents_are_tied_to_phenotypes_and_called_by_them(blobs):
    table = latent_phenotypes(blobs.atlas, blobs.images[200:], draws=1500)
    rows = {(row["measure"], row["outcome"]): row for row in table.to_pylist()}
    assert rows["latent 2", GROUND]["value"] > 0.9  # the third latent is the background, see FACTORS
    assert rows["latent 2", GROUND]["q"] < 0.05
    assert abs(rows["latent 20", GROUND]["value"]) < 0.5
    names = automatic_names(table)
    assert names["latent 2"] == f"more {GROUND}"
    assert names["latent 0"] == f"more {AREA}"
    assert "latent 20" not in names
    held = latent_phenotypes(blobs.atlas, blobs.images[200:], draws=100, confounders={"ground": blobs.latents[200:, 2].numpy()})
    again = {(row["measure"], row["outcome"]): row for row in held.to_pylist()}
    assert again["latent 0", AREA]["value"] > 0.8
    assert again["latent 2", GROUND]["value"] is None or abs(again["latent 2", GROUND]["value"]) < 0.5


def test_disentanglement_is_high_for_the_factors_themselves_and_low_for_their_mixture():
    random = np.random.default_rng(0)
    factors = random.uniform(-1, 1, (300, 3))
    turned = factors @ np.linalg.qr(random.standard_normal((3, 3)))[0]
    clean, mixed = (
        {(row["score"], row["factor"]): row for row in disentanglement(one, factors, ["a", "b", "c"]).to_pylist()}
        for one in (factors + 0.02 * random.standard_normal((300, 3)), turned)
    )
    for score in ("mig", "disentanglement", "completeness"):
        assert clean[score, "all"]["value"] > 0.75
        assert mixed[score, "all"]["high"] < clean[score, "all"]["low"]
        assert clean[score, "all"]["low"] <= clean[score, "all"]["value"] <= clean[score, "all"]["high"]
    assert clean["informativeness", "a"]["value"] > 0.9
    grouped = disentanglement(factors, factors, ["a", "b", "c"], groups=[row % 2 for row in range(300)])
    assert grouped["low"].null_count == grouped.num_rows


def test_what_does_not_fit_is_refused(blobs):
    with pytest.raises(ShapeError, match="do not match"):
        disentanglement(np.zeros((30, 2)), np.zeros((29, 2)), ["a", "b"])
    with pytest.raises(CannotExplain, match="calls no class"):
        latent_causes(Model(blobs.Reader(), task="regression"), blobs.atlas, blobs.images[:2])
    with pytest.raises(ShapeError, match="do not fit 2 images"):
        latent_causes(blobs.Reader(), blobs.atlas, blobs.images[:2], labels=[0])
