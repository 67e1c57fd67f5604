"""Dose–response on a generator whose latents are known, and models that read one thing: the cause is named, and only that."""

import numpy as np
import pytest
import torch

from pellucid.errors import BadRecipe, CannotExplain, ShapeError
from pellucid.interpretation.phenotypes import Atlas, Space, clusters, dose_response
from pellucid.interpretation.phenotypes.directions import Directions
from pellucid.interpretation.phenotypes.heads import Heads
from pellucid.interpretation.phenotypes.nulls import Pulls, dealt, step_down
from pellucid.interpretation.phenotypes.ratio import ratio_interval
from pellucid.measure import Profiler

MEAN, GROUND, AREA = "Intensity_MeanIntensity_0", "Background_MeanIntensity", "AreaShape_Area"


def asked(blobs, model, count=24, **more):
    rows = slice(240, 240 + count)
    return dose_response(
        model, blobs.atlas, blobs.images[rows], groups=blobs.groups[rows], permutations=120, doses=(-1.0, 1.0), **more
    )


@pytest.fixture(scope="module")
def bright(blobs):
    """What is found of a model that reads the brightness of the middle, 40 of log-odds a unit."""
    return asked(blobs, blobs.Reader(middle=40.0))


def test_the_phenotype_that_a_model_reads_comes_first_with_the_slope_that_it_has(blobs, bright):
    first = bright.moving()[0]
    assert first["phenotype"] == MEAN
    # the middle gains 0.04 a latent unit of brightness, less what the fixed background takes; 40 a unit of brightness
    sd = blobs.atlas.sd[blobs.atlas.names.index(MEAN)]
    assert first["slope"] == pytest.approx(40 * sd, rel=0.15)
    assert first["low"] < first["slope"] < first["high"]
    assert abs(first["slope"]) > 1.3 * first["null"]
    assert (first["agreeing"], first["groups"]) == (3, 3)
    verdicts = {row["phenotype"]: row["verdict"] for row in bright.table.to_pylist()}
    assert {verdicts[name] for name in (AREA, GROUND)} == {"no effect seen"}
    assert bright.failed.value == 0
    assert bright.plot().axes


def test_two_causes_are_both_found_although_each_is_but_half_of_the_score(blobs):
    found = asked(blobs, blobs.Reader(middle=30.0, corner=60.0))
    assert {MEAN, GROUND} <= {row["phenotype"] for row in found.moving()}, found.table.to_pylist()
    assert AREA not in {row["phenotype"] for row in found.moving()}


def test_what_is_moved_is_measured_again_and_what_comes_with_it_is_told(bright):
    rows = {(row["phenotype"], row["measure"]): row["value"] for row in bright.responses.to_pylist()}
    assert all(rows[name, name] == pytest.approx(1) for name in {one for one, _ in rows})
    assert abs(rows[GROUND, AREA]) < 0.2
    curve = [row for row in bright.curves.to_pylist() if row["phenotype"] == MEAN]
    up = np.mean([row["change"] for row in curve if row["dose"] == 1.0 and row["change"] is not None])
    assert up == pytest.approx(1, abs=0.15)
    assert 1 <= bright.changed_measures()[GROUND] < 1.5


def test_a_model_that_reads_nothing_is_moved_by_nothing(blobs):
    weights = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(5))

    def noise(x):
        score = 0.1 * (x * weights).flatten(1).sum(1)
        return torch.stack([-score, score], 1)

    assert asked(blobs, noise).moving() == []


def test_two_groups_give_no_interval_and_images_do_not_know_each_other(blobs):
    model = blobs.Reader(middle=40.0)
    two = asked(blobs, model, 16)
    assert two.table["low"].null_count == two.table.num_rows
    assert "moves" in two.table["verdict"].to_pylist()
    whole = {(row["image"], row["phenotype"], row["dose"]): row["score"] for row in two.curves.to_pylist()}
    alone = dose_response(
        model, blobs.atlas, blobs.images[243:244], ids=["image 3"], doses=(-1.0, 1.0), permutations=2, batch_size=1
    )
    for row in alone.curves.to_pylist():
        assert row["score"] == pytest.approx(whole["image 3", row["phenotype"], row["dose"]], abs=1e-4)


def test_images_without_an_object_are_counted_not_hidden(blobs):
    lost = Profiler(record=blobs.record, names=(MEAN, GROUND), outline=_gone_when_bright)
    atlas = Atlas.of(blobs.generator, blobs.images[:240], lost)
    found = dose_response(blobs.Reader(middle=40.0), atlas, blobs.images[240:256], permutations=20, doses=(1.0, 3.0))
    assert found.failed.value > 0.05
    assert all(
        row["value"] is None or row["value"] < 0.68 for row in found.curves.to_pylist() if row["phenotype"] == MEAN
    )


def _gone_when_bright(image):
    inside = image[0] > 0.4
    return (inside & (image[0][inside].mean() < 0.68)).long()


def test_straight_regressions_give_the_encoding_regression_and_its_pattern():
    random = torch.Generator().manual_seed(0)
    points = torch.randn(900, 4, generator=random, dtype=torch.float64)
    mixed = torch.tensor([[1.0, 0.5, 0, 0], [0, 1.0, 0, 0.5]], dtype=torch.float64)
    values = (points @ mixed.T + 0.3 * torch.randn(900, 2, generator=random, dtype=torch.float64)).numpy()
    values = (values - values.mean(0)) / values.std(0)
    heads = Heads.fit(points, values, list(range(900)), kernels=["linear"])
    assert heads.r2 == pytest.approx([1.25 / 1.34] * 2, abs=0.03)
    cross = points.numpy().T @ values / 900
    for others, expected in (("fixed", cross @ np.linalg.inv(values.T @ values / 900)), ("free", cross)):
        way = Directions(heads, others).at(points[:2], 0)[0].numpy()
        assert np.dot(way, expected[:, 0]) / np.linalg.norm(way) / np.linalg.norm(expected[:, 0]) > 0.995
    path = Directions(heads).path(points[:3], 1, (-1.0, 0.0, 2.0))
    assert torch.equal(path[:, 1], points[:3])
    told = heads.predict(path.flatten(0, 1)).view(3, 3, 2)[:, :, 1]
    torch.testing.assert_close(told[:, 2] - told[:, 1], torch.full((3,), 2.0, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_bent_regression_is_taken_where_it_tells_more():
    points = torch.randn(400, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = torch.stack([points[:, 0], points[:, 1] * points[:, 2]], 1).numpy()
    heads = Heads.fit(points, values / values.std(0), list(range(400)))
    assert heads.kernels[0] == "linear"
    assert heads.kernels[1] != "linear"
    assert heads.r2[1] > 0.9


def test_columns_that_go_together_are_one_cluster():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 200))
    values = np.stack([a, a**3, -a + 0.01 * b, b], 1)
    values[3, 3] = np.nan
    found = clusters(["area", "volume", "gap", "colour"], values)
    assert {frozenset([one.name, *one.others]) for one in found} == {
        frozenset(["area", "volume", "gap"]), frozenset(["colour"]),
    }  # fmt: skip


def test_numbers_are_dealt_to_other_groups_whole():
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 4
    taken = dealt(groups, np.random.default_rng(0))
    for name in "abc":
        donors = {groups[at] for at, own in zip(taken, groups, strict=True) if own == name}
        assert len(donors) == 1
        assert donors != {name}


def test_in_rounds_a_weaker_cause_is_found_and_a_passenger_is_not():
    random = np.random.default_rng(0)
    slopes = np.array([3.0, 1.5, *[0.0] * 10])
    ways = np.zeros((3, 4, 12))
    ways[0, :, 0], ways[1, :, 1] = 1, 1
    ways[2, :, 0], ways[2, :, 5] = 0.8, 0.6
    drawn = random.standard_normal((300, 1, 12)).repeat(4, 1)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    own, null = (_pulls(way, slopes) for way in (ways, drawn))
    alone = [_pulls(own.ways[[at]], slopes) for at in (1, 2)]
    assert step_down(alone[0], {"linear": null}, ["linear"], np.ones(1, dtype=bool))[0][0, 0] > 0.05
    assert step_down(alone[1], {"linear": null}, ["linear"], np.ones(1, dtype=bool))[0][0, 0] < 0.05
    _, q = step_down(own, {"linear": null}, ["linear"] * 3, np.ones(3, dtype=bool))
    assert q[0, 0] <= 0.05
    assert q[1, 0] <= 0.05


def _pulls(ways, slopes):
    return Pulls(ways, np.ones(ways.shape[:2]), (ways @ slopes)[:, :, None])


def test_a_ratio_of_sums_has_an_interval_over_groups_from_three_on():
    above, below = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 2, 2, 2, 2, np.nan])
    whole = ratio_interval(above, below, ["a", "a", "b", "b", "c", "c"])
    assert (whole.value, whole.n, whole.groups) == (1.5, 5, 3)
    assert whole.low < 1.5 < whole.high
    assert np.isnan(ratio_interval(above, below, ["a"] * 3 + ["b"] * 3).low)
    unmoved = ratio_interval([1.0, 2.0, 3.0], [0.0, 0.0, 1.0], ["a", "b", "c"])  # in 8 of 27 draws nothing moved
    assert unmoved.value == 6
    assert np.isnan([unmoved.low, unmoved.high]).all()


def test_what_does_not_fit_is_refused(blobs):
    with pytest.raises(BadRecipe, match="no phenotype 'Colour'"):
        Profiler(record=blobs.record, names=("Colour",))
    with pytest.raises(ShapeError, match="20 images or more"):
        Space.of(blobs.generator, blobs.images[:5])
    with pytest.raises(CannotExplain, match="no target 'cat'"):
        dose_response(blobs.Reader(), blobs.atlas, blobs.images[:2], targets=["cat"])
    with pytest.raises(CannotExplain, match="no phenotype varies"):
        Atlas.of(blobs.generator, blobs.images[:1].repeat(30, 1, 1, 1), blobs.profiler)
