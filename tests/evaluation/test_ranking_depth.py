"""Settings, seeds, clusters, and the other readings of the same places."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from pellucid.errors import BadStudy
from pellucid.evaluation import Scores, rank
from pellucid.evaluation.ranking.average import Branch, nanmean
from pellucid.evaluation.ranking.consensus import EXACT, front, kemeny, preferences
from pellucid.evaluation.ranking.friedman import friedman
from pellucid.evaluation.ranking.redundancy import agreement, clusters
from pellucid.evaluation.scores import SCHEMA


def table(values, metric="m", *, family="faithfulness", seed=0, methods=None, controls=()):
    """Scores from an array (images, methods), higher better, NaN for no score."""
    values = np.asarray(values, dtype=float)
    methods = methods or [f"method {column}" for column in range(values.shape[1])]
    rows = [
        {
            "image": f"image {row:03}", "method": methods[column], "metric": metric,
            "value": None if np.isnan(value) else float(value), "chance": None,
            "reason": "none" if np.isnan(value) else "", "family": family, "direction": "higher", "resolution": 0.0,
            "definition": "0", "target": "Class(index=0)", "step": "", "control": methods[column] in controls,
            "group": f"image {row:03}", "seed": seed,
        }
        for (row, column), value in np.ndenumerate(values)
    ]  # fmt: skip
    return Scores(SCHEMA.empty_table().from_pylist(rows, schema=SCHEMA))


def noisy(seed, offsets, images=30, noise=1.0):
    return np.asarray(offsets) + noise * np.random.default_rng(seed).normal(size=(images, len(offsets)))


def overall(ranking, side="faithfulness-side"):
    rows = ranking.table.to_pylist()
    return {row["method"]: row for row in rows if row["metric"] == "overall" and row["family"] == side}


def weights(ranking):
    return dict(zip(ranking.metrics["metric"].to_pylist(), ranking.metrics["weight"].to_pylist(), strict=True))


def test_settings_of_one_metric_weigh_as_one_and_have_a_row_together():
    good, bad = np.array([[2.0, 1.0]] * 6), np.array([[1.0, 2.0]] * 6)
    many = [table(good, f"insertion(fill='{fill}')") for fill in ("mean", "blur", "noise")]
    ranking = rank(Scores.concat([*many, table(bad, "deletion")]))
    assert {row["method"]: row["rank"] for row in overall(ranking).values()} == {"method 0": 1.5, "method 1": 1.5}
    assert weights(ranking) == {"insertion": 0.5, "deletion": 0.5}
    assert ranking.order("insertion(*)") == ["method 0", "method 1"]
    assert "deletion(*)" not in ranking.table["metric"].to_pylist()


def test_seeds_of_a_setting_are_averaged_and_count_once():
    scores = Scores.concat(
        [table([[2.0, 1.0]] * 4, seed=seed) for seed in range(3)] + [table([[1.0, 2.0]] * 4, seed=9)]
    )
    ranking = rank(scores)
    assert [row["rank"] for row in overall(ranking).values()] == [1.25, 1.75]
    assert ranking.metrics["seeds"].to_pylist() == [4]


def test_a_winner_by_one_setting_only_loses_its_certainty_when_settings_are_drawn_anew():
    settings = [table([[2.0, 1.0]] * 20, "insertion(steps=8)"), table([[1.0, 1.5]] * 20, "insertion(steps=16)")]
    found = overall(rank(Scores.concat(settings)))
    assert found["method 0"]["low"] < 1.5 < found["method 0"]["high"]
    fixed = overall(rank(settings[0]))
    assert fixed["method 0"]["p_best"] == 1.0
    assert 0.3 < found["method 0"]["p_best"] < 0.7


def test_metrics_that_order_methods_alike_share_one_vote():
    base = noisy(0, [3.0, 2.0, 1.0, 0.0], noise=0.1)
    other = noisy(1, [0.0, 2.0, 1.0, 3.0], noise=0.1)
    scores = Scores.concat([
        table(base, "local_lipschitz", family="robustness"), table(base * 2, "max_sensitivity", family="robustness"),
        table(other, "relative_input_stability", family="robustness"),
    ])  # fmt: skip
    assert weights(rank(scores)) == {"local_lipschitz": 0.25, "max_sensitivity": 0.25, "relative_input_stability": 0.5}
    assert list(weights(rank(scores, redundant=1.01)).values()) == pytest.approx([1 / 3] * 3)


def test_controls_do_not_make_metrics_agree():
    methods = ["a", "b", "c", "random_map", "edge_map"]
    first = noisy(0, [3.0, 2.0, 1.0, -9.0, -9.0], noise=0.1)
    second = noisy(1, [1.0, 2.0, 3.0, -9.0, -9.0], noise=0.1)
    kept = {"methods": methods, "controls": ("random_map", "edge_map")}
    ranking = rank(Scores.concat([table(first, "f", **kept), table(second, "g", **kept)]))
    assert ranking.metrics["cluster"].to_pylist() == [0, 1]
    assert ranking.sides[0].taus[0, 1] == pytest.approx(-1, abs=0.05)


def test_agreement_is_kendalls_tau_over_images_and_gaps_have_no_say():
    generator = np.random.default_rng(3)
    left, right = generator.integers(0, 4, (5, 6)).astype(float), generator.integers(0, 4, (5, 6)).astype(float)
    expected = np.mean([stats.kendalltau(a, b).statistic for a, b in zip(left, right, strict=True)])
    assert agreement([left, right])[0, 1] == pytest.approx(expected)
    left[:, 2] = np.nan
    kept = [0, 1, 3, 4, 5]
    expected = np.mean([stats.kendalltau(a, b).statistic for a, b in zip(left[:, kept], right[:, kept], strict=True)])
    assert agreement([left, right])[0, 1] == pytest.approx(expected)
    assert np.isnan(agreement([left * 0, right])[0, 1])
    assert clusters(np.array([[1.0, np.nan], [np.nan, 1.0]]), 0.5) == [0, 1]


def test_an_excluded_metric_is_ranked_but_has_no_say_and_its_reason_is_kept():
    scores = Scores.concat([table([[2.0, 1.0]] * 5, "good"), table([[1.0, 2.0]] * 5, "broken(k=3)")])
    ranking = rank(scores, excluded={"broken": "it ranks random above exact"})
    assert ranking.order() == ["method 0", "method 1"]
    assert ranking.order("broken(k=3)") == ["method 1", "method 0"]
    assert weights(ranking) == {"good": 1.0, "broken": 0.0}
    assert ranking.metrics.to_pylist()[0]["left_out"] == "it ranks random above exact"
    with pytest.raises(BadStudy, match="excluded='other' names no metric of the scores; they hold broken"):
        rank(scores, excluded={"other": ""})


def test_kemeny_finds_the_order_that_brute_force_finds():
    for seed in range(20):
        preference = preferences(np.random.default_rng(seed).random((7, 5)))
        np.fill_diagonal(preference, 0)

        def lost(order, preference=preference):
            return sum(preference[later, earlier] for earlier, later in itertools.combinations(order, 2))

        best = min(map(lost, itertools.permutations(range(5))))
        assert lost(kemeny(preference)) == pytest.approx(best)


def test_kemeny_of_level_methods_keeps_the_given_order_and_reaches_fourteen():
    assert kemeny(np.full((4, 4), 0.5)) == [0, 1, 2, 3]
    places = np.tile(np.arange(EXACT) / EXACT, (3, 1))
    assert kemeny(preferences(places)) == list(range(EXACT))
    with pytest.raises(ValueError, match="15 methods"):
        kemeny(np.full((15, 15), 0.5))


def test_kemeny_of_a_ranking_respects_the_weights_and_says_when_it_cannot():
    cycle = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [3.0, 2.0, 1.0]])
    assert rank(table(cycle)).kemeny() == ["method 0", "method 1", "method 2"]
    with pytest.raises(BadStudy, match="out of reach"):
        rank(table(noisy(0, range(15)))).kemeny()


def test_the_front_holds_who_is_not_bettered_on_both_sides():
    faithful, plausible = np.array([0.1, 0.5, 0.6, np.nan]), np.array([0.9, 0.2, 0.3, 0.0])
    assert front([faithful, plausible]).tolist() == [True, True, False, False]
    scores = Scores.concat([
        table([[3.0, 2.0, 1.0]] * 5, "f"), table([[1.0, 3.0, 2.0]] * 5, "l", family="localisation"),
    ])  # fmt: skip
    pareto = rank(scores).pareto
    assert pareto["front"].to_pylist() == [True, True, False]
    assert pareto["p_front"].to_pylist() == [1.0, 1.0, 0.0]
    assert rank(table([[2.0, 1.0]] * 3)).pareto.num_rows == 0


def test_friedman_and_the_critical_difference_are_demsars():
    values = noisy(2, [1.0, 0.8, 0.0, -0.5], images=14)
    found = rank(table(values)).friedman()
    expected = stats.friedmanchisquare(*values.T)
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert found.blocks == 14
    assert found.difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert list(found.ranks) == sorted(found.ranks)


def test_friedman_leaves_out_methods_without_scores_and_needs_blocks():
    values = noisy(2, [1.0, 0.5, 0.0, -0.5])
    values[:20, 3] = np.nan
    assert rank(table(values)).friedman().methods == ("method 0", "method 1", "method 2")
    assert rank(table([[3.0, 2.0, 1.0]])).friedman() is None
    assert friedman(["a", "b"], np.zeros((5, 2)), list("abcde")) is None
    level = friedman(["a", "b", "c"], np.full((5, 3), 0.5), list("abcde"))
    assert (level.p, level.cliques) == (1.0, (("a", "b", "c"),))


def test_leaving_out_the_metric_that_made_a_winner_changes_the_winner():
    scores = Scores.concat([
        table([[9.0, 2.0, 1.0]] * 8, "one"), table([[9.0, 2.0, 1.0]] * 8, "two", family="robustness"),
        table([[1.0, 3.0, 2.0]] * 8, "three", family="randomisation"),
    ])  # fmt: skip
    left = rank(scores).without_each()
    best = {(row["left_out"], row["method"]): row["rank"] for row in left.to_pylist()}
    assert best["", "method 0"] == pytest.approx(5 / 3)
    assert best["three", "method 0"] == 1.0
    assert (best["one", "method 0"], best["one", "method 1"]) == (2.0, 1.5)
    assert set(left["left_out"].to_pylist()) == {"", "one", "two", "three"}


def test_variance_finds_the_source_that_was_planted():
    better, worse = np.array([[2.0, 1.0]] * 10), np.array([[1.0, 2.0]] * 10)
    assert rank(table(better)).variance()["method"] == pytest.approx(1)
    by_metric = rank(Scores.concat([table(better, "a"), table(worse, "b")])).variance()
    assert by_metric["metric"] == pytest.approx(1)
    by_setting = rank(Scores.concat([table(better, "a(k=1)"), table(worse, "a(k=2)")])).variance()
    assert by_setting["setting"] == pytest.approx(1)
    by_seed = rank(Scores.concat([table(better, seed=0), table(worse, seed=1)])).variance()
    assert by_seed["seed"] == pytest.approx(1)
    images = np.concatenate([better[:5], worse[:5]])
    by_image = rank(Scores.concat([table(images, "a"), table(images, "b")])).variance()
    assert by_image["image"] == pytest.approx(1)
    mixed = rank(Scores.concat([table(noisy(seed, [1, 0, -1]), f"m{seed}") for seed in range(4)])).variance()
    assert sum(mixed.values()) == pytest.approx(1)
    assert rank(table([[1.0, 1.0]] * 3)).variance() == {}


def test_methods_that_do_not_beat_every_control_are_named_and_all_together_make_it_abstain():
    methods = ["good", "edgy", "lost", "random_map", "edge_map"]
    kept = {"methods": methods, "controls": ("random_map", "edge_map")}
    ranking = rank(table(noisy(0, [5.0, 2.0, -0.5, 0.0, 2.0], images=60), **kept))
    found = overall(ranking)
    assert [found[name]["unbeaten"] for name in methods[:3]] == [[], ["edge_map"], ["random_map", "edge_map"]]
    assert not ranking.abstains()
    assert rank(table(noisy(0, [0.0] * 5, images=20), **kept)).abstains()
    with pytest.raises(BadStudy, match="random_map"):
        rank(table([[2.0, 1.0]] * 5)).abstains()
    with pytest.raises(BadStudy, match="no 'plausibility' ranking"):
        ranking.places("plausibility")


def test_means_without_weights_and_pruned_branches():
    stack = np.array([[1.0, np.nan], [3.0, np.nan]])
    assert np.array_equal(nanmean(stack), [2.0, np.nan], equal_nan=True)
    branch = Branch("side", (Branch("family", (0, 1)), Branch("family", (2,))))
    assert branch.without({2}) == Branch("side", (Branch("family", (0, 1)),))
    assert branch.mean([np.array([1.0]), np.array([3.0]), np.array([0.0])]) == [1.0]


def test_the_table_of_a_ranking_survives_a_file(tmp_path):
    import pyarrow.parquet as pq

    ranking = rank(table(noisy(0, [1.0, 0.0])))
    pq.write_table(ranking.table, tmp_path / "r.parquet")
    assert pa.Table.equals(pq.read_table(tmp_path / "r.parquet"), ranking.table)
