"""Concepts in a net that learnt a planted cue: the cue is found, what is not there is not, and chance stays chance."""

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.concepts import Concepts, concept_relevance, rcv, tcav
from pellucid.concepts.directions import pattern
from pellucid.errors import BadTarget, ShapeError
from pellucid.models.targets import Output


def _columns(rim, **columns):
    return Concepts.of(rim.ids, columns)


def _asked(rim, concepts, layers=("stages.1", "stages.2"), **settings):
    given = {"groups": rim.groups, "runs": 99, "draws": 60, "classes": [1]} | settings
    return concept_relevance(rim.model, rim.images, concepts, layers, **given)


@pytest.fixture(scope="module")
def planted(rim):
    random = np.random.default_rng(0)
    concepts = _columns(
        rim,
        bright_rim=(rim.factors["membrane_ring"] > 0.2).astype(float),
        absent=random.integers(0, 2, len(rim.ids)).astype(float),
        membrane_ring=rim.factors["membrane_ring"],
        noise=random.normal(size=len(rim.ids)),
    )
    return _asked(rim, concepts, rim.layers)


def _rows(found, concept):
    return {row["layer"]: row for row in found.table.to_pylist() if row["concept"] == concept}


def test_a_planted_concept_is_found_and_an_absent_one_is_not(planted):
    for layer in ("stages.1", "stages.2"):
        found, absent = _rows(planted, "bright_rim")[layer], _rows(planted, "absent")[layer]
        assert found["score"] > 0.9
        assert found["significant"]
        assert found["fit"] > found["fit_low"] > 0.6
        assert found["effect"] > 0 < found["observed"]
        assert not absent["significant"]
        assert absent["fit_low"] < 0.5 < absent["fit_high"]


def test_a_planted_measure_has_its_sign_and_a_random_one_none(planted):
    found, random = _rows(planted, "membrane_ring")["stages.1"], _rows(planted, "noise")["stages.1"]
    assert found["significant"]
    assert found["br"] > found["br_low"] > 0
    assert found["fit"] > 0.5
    assert not random["significant"]
    assert random["br_low"] <= 0 <= random["br_high"]
    assert random["fit"] < 0.1


def test_behind_a_linear_head_the_effect_of_a_pattern_is_what_is_observed(planted):
    """The slope is the same everywhere there, so that nothing is lost to first order, and the ratio of slopes is not finite."""
    row = _rows(planted, "membrane_ring")["stages.2"]
    assert row["effect"] == pytest.approx(row["observed"], rel=1e-4)
    assert row["br"] is None


def test_every_slope_is_there_and_their_share_above_nothing_is_the_score(planted, rim):
    slopes = planted.slopes.to_pylist()
    own = [row["sensitivity"] for row in slopes if (row["concept"], row["layer"]) == ("bright_rim", "stages.1")]
    assert len(own) == sum(rim.images.labels)
    assert np.mean(np.array(own) > 0) == pytest.approx(_rows(planted, "bright_rim")["stages.1"]["score"])
    assert np.mean(own) == pytest.approx(_rows(planted, "bright_rim")["stages.1"]["sensitivity"])


def test_the_rows_say_what_was_looked_at_and_bounds_hold_values(planted):
    for row in planted.table.to_pylist():
        for name in ("fit", "score", "sensitivity"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] or name != "score"
        assert row["p"] == max(row["p_fit"], row["p_used"])
        assert row["q"] >= row["p"] - 1e-12
        assert row["significant"] == (row["q"] <= 0.05)
    assert {row["depth"] for row in planted.table.to_pylist()} == {0, 1, 2}
    assert "bright_rim" in repr(planted)


def test_of_concepts_that_are_not_there_no_more_are_called_than_the_rate_allows(rim):
    """120 random columns: no more calls than the false discovery rate, and the p-values are not too small."""
    random = np.random.default_rng(1)
    columns = {f"set {k}": random.integers(0, 2, 120).astype(float) for k in range(60)}
    columns |= {f"measure {k}": random.normal(size=120) for k in range(60)}
    found = concept_relevance(
        rim.model,
        rim.images,
        Concepts.of(rim.ids[:120], columns),
        ["stages.1"],
        ids=rim.ids[:120],
        classes=[1],
        runs=59,
        draws=2,
    )
    rows = found.table.to_pylist()
    assert sum(row["significant"] for row in rows) <= 2
    for name in ("p_fit", "p_used", "p"):
        assert (
            np.mean([row[name] <= 0.1 for row in rows]) <= 0.18
        )  # 12 of 120 expected, 20 at three standard deviations


def test_a_batch_that_groups_share_is_no_concept(rim):
    """A column that only says which slide an image is from has no way to be dealt out within slides."""
    slide = np.array([float(name[-1] in "02468") for name in rim.groups])
    row = _asked(rim, _columns(rim, slide=slide), ("stages.1",)).table.to_pylist()[0]
    assert not row["significant"]


def test_gaps_are_left_out_and_too_few_are_refused(rim):
    column = np.where(np.arange(len(rim.ids)) < 60, rim.factors["membrane_ring"], np.nan)
    found = _asked(rim, _columns(rim, ring=column), ("stages.1",), runs=3, draws=2)
    assert found.table["images"].to_pylist() == [60]
    sparse = np.where(np.arange(len(rim.ids)) < 4, rim.factors["membrane_ring"], np.nan)
    with pytest.raises(ShapeError, match="'ring' has fewer than five different values among the 4 images"):
        _asked(rim, _columns(rim, ring=sparse), ("stages.1",), runs=1, draws=2)
    lonely = (np.arange(len(rim.ids)) < 3).astype(float)
    with pytest.raises(ShapeError, match="fewer than five images with it, or without it"):
        _asked(rim, _columns(rim, lonely=lonely), ("stages.1",))


def test_sets_and_measures_go_to_their_own_question(rim):
    concepts = _columns(rim, ring=rim.factors["membrane_ring"])
    with pytest.raises(ShapeError, match="use rcv for ring"):
        tcav(rim.model, rim.images, concepts, ["stages.1"])
    with pytest.raises(ShapeError, match="use tcav for bright"):
        rcv(rim.model, rim.images, _columns(rim, bright=(rim.factors["membrane_ring"] > 0.2) * 1.0), ["stages.1"])
    assert rcv(rim.model, rim.images, concepts, ["stages.1"], runs=9, draws=5).table.num_rows == 2


class Two(nn.Module):
    """One output from the mean of the first channel; the second goes with it and is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 1, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(2)[:, :, None, None])

    def forward(self, x):
        return 3 * self.layer(x)[:, :1].mean((2, 3))


def test_held_concepts_take_away_what_only_goes_with_another():
    """Shade goes with size; the output hangs on size alone. Only with size held does shade's effect vanish."""
    random = np.random.default_rng(0)
    size = random.normal(size=150)
    shade = 0.8 * size + 0.6 * random.normal(size=150)
    x = torch.tensor(np.stack([size, shade], 1))[:, :, None, None].expand(-1, -1, 4, 4).float()
    concepts = Concepts.of([f"row {row}" for row in range(150)], {"size": size, "shade": shade})
    settings = {"target": Output(0), "runs": 99, "draws": 40}
    loose = concept_relevance(Two(), x, concepts, ["layer"], **settings)
    held = concept_relevance(Two(), x, concepts, ["layer"], direction="partial", held=["size"], **settings)
    assert _rows(loose, "shade")["layer"]["significant"]
    assert _rows(loose, "size")["layer"]["effect"] == pytest.approx(3 * size.std(), rel=1e-3)
    (row,) = held.table.to_pylist()
    assert abs(row["effect"]) < 1e-6
    assert abs(row["observed"]) < 1e-6
    assert str(loose.direction) == str(pattern())


def test_labels_or_a_target_are_needed(rim):
    with pytest.raises(BadTarget, match="give labels="):
        concept_relevance(
            rim.model, rim.images.tensor(rim.ids[:4]), _columns(rim, a=rim.factors["cell_size"]), ["stem"]
        )
