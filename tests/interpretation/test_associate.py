"""Associations have Spearman's value, know confounders and groups, and err no more often than they say."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from pellucid.errors import ShapeError
from pellucid.interpretation import associate

_NULLS = 600


def test_the_value_is_spearmans():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(40), rng.integers(0, 5, 40).astype(float)
    row = associate({"x": x}, {"y": y}).to_pylist()[0]
    assert row["value"] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert row["value"] == row["spearman"]
    assert (row["n"], row["groups"], row["confounders"]) == (40, 40, "")


def test_the_partial_value_is_that_of_residual_ranks():
    rng = np.random.default_rng(1)
    c = rng.standard_normal(50)
    x, y = c + rng.standard_normal(50), c + rng.standard_normal(50)
    rank = [spearmanr(*pair).statistic for pair in ((x, y), (x, c), (y, c))]
    expected = (rank[0] - rank[1] * rank[2]) / np.sqrt((1 - rank[1] ** 2) * (1 - rank[2] ** 2))
    assert associate({"x": x}, {"y": y}, confounders={"c": c})["value"][0].as_py() == pytest.approx(expected, abs=1e-12)


def test_a_confounded_pair_is_associated_until_the_batch_is_held_fixed():
    rng = np.random.default_rng(2)
    batch = np.repeat(["a", "b", "c"], 30)
    shift = np.repeat([0.0, 3.0, 6.0], 30)
    x, y = shift + rng.standard_normal(90), shift + rng.standard_normal(90)
    plain = associate({"x": x}, {"y": y}).to_pylist()[0]
    held = associate({"x": x}, {"y": y}, confounders={"batch": batch}).to_pylist()[0]
    assert plain["p"] < 0.01
    assert plain["low"] > 0.5
    assert held["p"] > 0.05
    assert held["low"] < 0 < held["high"]
    assert held["spearman"] == plain["value"]


@pytest.mark.parametrize("design", ["rows", "groups", "confounded"])
def test_nulls_are_found_no_more_often_than_the_level_says(design):
    rng = np.random.default_rng(3)
    groups = None if design == "rows" else np.repeat(np.arange(24), 4)
    confounders = {"plate": np.repeat(np.arange(24) % 3, 4).astype(str)} if design == "confounded" else None
    level = 0.0 if confounders is None else 2.0 * np.repeat(np.arange(24) % 3, 4)[:, None]
    rows = 40 if groups is None else 96

    def drawn(count):
        shared = 0.0 if groups is None else rng.standard_normal((24, count))[groups]
        return rng.standard_normal((rows, count)) + shared + level

    ps, covered = [], []
    for _ in range(_NULLS // 20):
        x, y = drawn(5), drawn(4)
        table = associate(
            {f"x{i}": x[:, i] for i in range(5)}, {f"y{i}": y[:, i] for i in range(4)},
            confounders=confounders, groups=groups, draws=499,
        )  # fmt: skip
        ps += table["p"].to_pylist()
        covered += [
            low <= 0 <= high for low, high in zip(table["low"].to_pylist(), table["high"].to_pylist(), strict=True)
        ]
    assert len(ps) == _NULLS
    assert 0.02 <= np.mean(np.array(ps) <= 0.05) <= 0.08
    assert 0.06 <= np.mean(np.array(ps) <= 0.1) <= 0.14
    assert np.mean(covered) >= 0.92


def test_rows_of_one_patient_are_not_independent():
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(12), 20)
    hits = {"rows": 0, "groups": 0}
    for _ in range(60):
        x, y = (rng.standard_normal(12)[groups] + 0.3 * rng.standard_normal(240) for _ in range(2))
        hits["rows"] += associate({"x": x}, {"y": y}, draws=299)["p"][0].as_py() <= 0.05
        hits["groups"] += associate({"x": x}, {"y": y}, groups=groups, draws=299)["p"][0].as_py() <= 0.05
    assert hits["rows"] > 25
    assert hits["groups"] < 10


def test_intervals_cover_the_population_value():
    rng = np.random.default_rng(5)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    covered = 0
    for _ in range(150):
        x = rng.standard_normal(60)
        y = 0.6 * x + 0.8 * rng.standard_normal(60)
        row = associate({"x": x}, {"y": y}, draws=19).to_pylist()[0]
        covered += row["low"] <= truth <= row["high"]
    assert covered >= 135


def test_q_values_are_benjamini_and_hochbergs():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((60, 8))
    table = associate({f"x{i}": x[:, i] for i in range(8)}, {"y": x[:, 0] + 0.1 * rng.standard_normal(60)})
    p, q = (np.array(table[name].to_pylist()) for name in ("p", "q"))
    order = np.argsort(p)
    steps = p[order] * 8 / np.arange(1, 9)
    assert np.allclose(q[order], np.minimum.accumulate(steps[::-1])[::-1].clip(max=1))


def test_missing_values_leave_their_row_out_of_their_own_pairs_only():
    x = pa.table({"whole": [1.0, 2, 3, 4, 5, 6], "holed": [1.0, None, 3, float("nan"), 5, 6]})
    table = associate(x, {"y": [1.0, 2, 3, 4, 6, 5]})
    assert table["n"].to_pylist() == [6, 4]
    assert table["spearman"][1].as_py() == pytest.approx(spearmanr([1, 3, 5, 6], [1, 3, 6, 5]).statistic)


def test_what_cannot_be_told_is_null():
    y = {"y": np.arange(8.0)}
    constant = associate({"x": np.ones(8)}, y).to_pylist()[0]
    explained = associate({"x": np.arange(8.0)}, y, confounders={"c": 2 * np.arange(8.0)}).to_pylist()[0]
    paired = associate({"x": np.arange(8.0) ** 2}, y, groups=["a", "b"] * 4).to_pylist()[0]
    assert constant["value"] is constant["p"] is constant["q"] is None
    assert explained["value"] is explained["low"] is None
    assert paired["value"] == pytest.approx(1.0)
    assert paired["low"] is paired["p"] is None


def test_a_row_left_out_of_the_confounders_is_left_out():
    row = associate(
        {"x": np.arange(5.0)}, {"y": np.arange(5.0)}, confounders={"c": ["a", "b", None, "a", "b"]}
    ).to_pylist()[0]
    assert row["n"] == 4


def test_rows_in_another_order_give_the_same_value():
    rng = np.random.default_rng(7)
    x, y, order = rng.standard_normal(30), rng.standard_normal(30), rng.permutation(30)
    once, again = associate({"x": x}, {"y": y}), associate({"x": x[order]}, {"y": y[order]})
    assert once["value"][0].as_py() == pytest.approx(again["value"][0].as_py(), abs=1e-12)


@pytest.mark.parametrize(
    ("measures", "outcomes"),
    [
        ({"x": [1.0, 2.0]}, {"y": [1.0]}),
        ({"x": ["a", "b"]}, {"y": [1.0, 2.0]}),
        ({"x": [[1, 2], [3, 4]]}, {"y": [1, 2]}),
    ],
)
def test_columns_that_do_not_fit_are_refused(measures, outcomes):
    with pytest.raises(ShapeError, match="associate:"):
        associate(measures, outcomes)
