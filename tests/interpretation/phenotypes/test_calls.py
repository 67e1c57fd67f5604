"""Calls of causes in a world of closed forms: the latents are the pixels, phenotypes and score are straight in them."""

import numpy as np
import pytest
import torch

from pellucid.interpretation import phenotype_findings
from pellucid.interpretation.phenotypes import Atlas, dose_response
from pellucid.interpretation.phenotypes.directions import Directions
from pellucid.interpretation.phenotypes.nulls import pull
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.models import Model, Passes

COUNT, SLOPE = 600, 5.0


class Told:
    """Measures `size`, `gap` (what the core leaves of the size) and `haze`; the size of a few images is out of all reason."""

    names, units = ("size", "gap", "haze"), {"size": "1", "gap": "1", "haze": "1"}

    def __init__(self, failed=()):
        self.failed = failed

    def __call__(self, images, *, progress=False):
        pixels = images[:, :, 0].double().numpy()
        values = np.stack([pixels[:, 0], pixels[:, 1] - pixels[:, 0], pixels[:, 2]], 1)
        wrong = [row for row, image in enumerate(images) if any(torch.equal(image, one) for one in self.failed)]
        values[wrong, 0] = 60
        return values


def core(x):
    """Log-odds of `SLOPE` a unit of the core, the second latent."""
    score = SLOPE * x[:, 1, 0]
    return torch.stack([-score, score], 1) / 2


@pytest.fixture(scope="module")
def images(pixels):
    return pixels.drawn(COUNT + 30)


@pytest.fixture(scope="module")
def found(pixels, images):
    atlas = Atlas.of(pixels.generator, images[:COUNT], Told())
    table = dose_response(core, atlas, images[COUNT:], permutations=300, doses=(-1.0, 1.0)).table
    return atlas, {row["phenotype"]: row for row in table.to_pylist()}


def test_the_slope_is_the_true_one_and_the_null_that_of_a_covariance_of_nothing(found):
    _, rows = found
    gap = rows["gap"]
    assert gap["verdict"] == "moves"
    assert gap["moved"] == pytest.approx(1, abs=0.03)
    assert gap["slope"] == pytest.approx(SLOPE * gap["sd"], rel=0.03)  # the size held, the gap is the core
    # the covariance of the score with a phenotype that was dealt out is normal with spread |slope| / sqrt(n)
    assert gap["null"] == pytest.approx(1.96 * SLOPE / COUNT**0.5, rel=0.15)
    assert gap["slope"] > 10 * gap["null"]


def test_what_moves_the_score_only_with_others_held_is_not_called_by_its_name(found):
    _, rows = found
    size = rows["size"]
    assert size["slope"] == pytest.approx(SLOPE, rel=0.05)  # a larger size with the gap held is a larger core
    assert size["q"] <= 0.05
    assert abs(size["alone"]) < size["null"]
    assert size["verdict"] == "with others held"
    assert rows["haze"]["verdict"] == "no effect seen"


def everything(x):
    """Log-odds of all latents alike, by one unit of length in all."""
    score = SLOPE * x.flatten(1).mean(1) * x[0].numel() ** 0.5
    return torch.stack([-score, score], 1) / 2


def test_one_of_many_is_told_with_its_slope_and_not_called_a_cause(found, images):
    atlas, _ = found
    doses = dose_response(everything, atlas, images[COUNT:], permutations=300, doses=(-1.0, 1.0))
    rows = {row["phenotype"]: row for row in doses.table.to_pylist()}
    haze = rows["haze"]
    assert haze["low"] > 0
    assert haze["slope"] > haze["null"]
    assert haze["q"] > 0.05
    assert haze["verdict"] == "no more than any way"
    assert "haze" in [row["phenotype"] for row in doses.unspecific()]
    told = next(one for one in phenotype_findings(doses) if one.id.startswith("phenotype-haze"))
    assert told.verdict == "undecided"
    assert told.statement.endswith("it is one of many, and not called a cause.")


def test_ways_of_equal_length_cannot_be_passed_by_more_than_their_number_allows(pixels, found, images):
    atlas, _ = found
    with Passes(Model.of(core)) as passes:
        scorer = Scorer.of(passes, images[:1])
        start = atlas.space.encode(images[COUNT:])
        best = torch.zeros_like(start)
        best[:] = atlas.space.axes.T[:, 1]  # up the score, the whitened form of its slope
        drawn = torch.randn(400, pixels.latents, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ways = [best, *(one.expand(len(start), -1) for one in drawn)]
        pulls = np.abs(pull(atlas.space, scorer, images[COUNT:], ways, 0.5).changes[:, :, 0].mean(1))
    assert pulls[0] / np.quantile(pulls[1:], 0.95) == pytest.approx(pixels.latents**0.5 / 1.96, rel=0.15)


def test_the_pattern_is_as_long_as_the_latents_follow_the_phenotype(found, images):
    atlas, _ = found
    points = atlas.directions.heads.points
    way = Directions(atlas.directions.heads).pattern(points[:2], 1)
    expected = points.T @ torch.from_numpy(atlas.values[:, 1]) / len(points)
    torch.testing.assert_close(way, expected.expand(2, -1), atol=0.05, rtol=0)


def test_a_failed_outline_is_no_measurement_and_does_not_set_the_unit(pixels, images):
    clean, failing = (Atlas.of(pixels.generator, images[:200], Told(failed)) for failed in ((), images[:4]))
    assert failing.whole.sum() == 196
    assert not failing.whole[:4].any()
    size = failing.names.index("size")
    assert failing.sd[size] == pytest.approx(clean.sd[size], rel=0.05)
    assert failing.directions.heads.r2[size] > 0.95
    assert np.isnan(failing.measured(images[:6])[:4, size]).all()
    assert np.isfinite(failing.measured(images[:6])[4:]).all()
