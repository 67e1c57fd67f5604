"""Explained variance is that of a known mixture, out of sample, and shares of it add up."""

import numpy as np
import pyarrow as pa
import pytest

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.shares import feature_alone, variance_shares

COUNT = 300
RNG = np.random.default_rng(0)
A, B, C = RNG.standard_normal((3, COUNT))
GROUPS = [str(place // 10) for place in range(COUNT)]
MEASURES = pa.table({"a": A, "b": B, "c": C, "a_again": A + 0.05 * RNG.standard_normal(COUNT)})
SCORE = 2 * A + B + RNG.standard_normal(COUNT)
"""4/6 of the variance comes from a, 1/6 from b, 1/6 from noise."""


def shares(**interpretations):
    return {
        row["interpretation"]: row
        for row in variance_shares(SCORE, interpretations, MEASURES, groups=GROUPS).to_pylist()
    }


def test_independent_features_have_the_shares_of_their_variance():
    rows = shares(size=["a"], texture=["b"], colour=["c"])
    assert rows["size"]["share"] == pytest.approx(4 / 6, abs=0.08)
    assert rows["texture"]["share"] == pytest.approx(1 / 6, abs=0.06)
    assert rows["colour"]["share"] == pytest.approx(0, abs=0.03)
    assert rows["together"]["share"] == pytest.approx(
        sum(rows[name]["share"] for name in ("size", "texture", "colour"))
    )
    assert rows["size"]["low"] < 4 / 6 < rows["size"]["high"]
    assert rows["texture"]["low"] > 0.05
    assert rows["colour"]["low"] < 0.01
    assert list(rows) == ["size", "texture", "colour", "together"]


def test_two_names_of_one_feature_share_it():
    rows = shares(one=["a"], other=["a_again"])
    assert rows["one"]["share"] == pytest.approx(rows["other"]["share"], abs=0.05)
    assert rows["one"]["alone"] == pytest.approx(4 / 6, abs=0.08)
    assert rows["one"]["share"] == pytest.approx(rows["one"]["alone"] / 2, abs=0.08)


def test_noise_explains_nothing_out_of_sample():
    rng = np.random.default_rng(5)
    found = [
        variance_shares(rng.standard_normal(60), {"x": ["x"]}, pa.table({"x": rng.standard_normal(60)})).to_pylist()[0]
        for _ in range(40)
    ]
    assert np.mean([row["share"] for row in found]) < 0.02
    assert np.mean([row["low"] > 0 for row in found]) <= 0.1


def test_a_curve_is_followed():
    table = pa.table({"x": np.linspace(-2, 2, 200), "y": RNG.standard_normal(200)})
    score = np.sin(2 * table["x"].to_numpy())
    rows = feature_alone(score, table, groups=[str(place % 20) for place in range(200)]).to_pylist()
    assert rows[0]["measure"] == "x"
    assert rows[0]["explained"] > 0.9
    assert rows[1]["explained"] < 0.1


def test_missing_values_are_a_feature_of_their_own():
    known = RNG.random(200) < 0.5
    table = pa.table({"size": pa.array(np.where(known, 1.0, np.nan), from_pandas=True)})
    assert feature_alone(known.astype(float), table)["explained"][0].as_py() > 0.95


@pytest.mark.parametrize(
    ("score", "interpretations", "groups", "error", "said"),
    [
        (SCORE, {"x": ["nothing"]}, GROUPS, ShapeError, "was not measured"),
        (SCORE, {"x": []}, GROUPS, ShapeError, "speaks of nothing"),
        (SCORE, {str(i): ["a"] for i in range(9)}, GROUPS, ShapeError, "9 interpretations"),
        (SCORE[:5], {"x": ["a"]}, None, ShapeError, "5 scores"),
        (np.ones(COUNT), {"x": ["a"]}, GROUPS, CannotExplain, "a score that varies"),
        (SCORE, {"x": ["a"]}, ["one"] * COUNT, CannotExplain, "there are 1 groups"),
    ],
)
def test_what_cannot_be_compared_is_refused(score, interpretations, groups, error, said):
    with pytest.raises(error, match=said):
        variance_shares(score, interpretations, MEASURES, groups=groups)
