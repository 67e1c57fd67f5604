"""Metrics judged before they judge: sound ones pass, asleep, upside-down and drunken ones are named."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from pellucid import explain
from pellucid.errors import ShapeError
from pellucid.evaluation import METRICS, Metric, Outcome, Scores, SelfTest, evaluate, self_test
from pellucid.evaluation.axioms import completeness_gap
from pellucid.evaluation.scores import SCHEMA
from pellucid.evaluation.subsets import faithfulness_correlation
from pellucid.testing import small_images, small_masks, small_net

FEW = {
    "augmentation_robustness": 'augmentation_robustness(transforms=("translation",), steps=1)',
    "impact_coverage": "impact_coverage(cut=0.9)",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class asleep(Metric):
    """One for every map, as a published monotonicity test came out."""

    profile: ClassVar = replace(faithfulness_correlation.profile, needs=())

    def score(self, bench):
        return [Outcome.of(torch.ones(len(bench)), "") for _ in bench.explanations]


@dataclass(frozen=True, kw_only=True, repr=False)
class upside_down(faithfulness_correlation):
    """A drop of the score declared the wrong way round."""

    profile: ClassVar = replace(faithfulness_correlation.profile, direction="lower")


@dataclass(frozen=True, kw_only=True, repr=False)
class drunken(Metric):
    """Numbers that have to do with the maps' last digits only."""

    profile: ClassVar = replace(faithfulness_correlation.profile, needs=())

    def score(self, bench):
        return [
            Outcome.of((placed.values.double().sum(1) * 1e7).sin(), "") for placed in bench.maps
        ]  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    texts = [FEW.get(name, name) for name in sorted(METRICS)]
    return self_test(
        small_net(), small_images(rows=8), texts, masks=small_masks(rows=8), models=[small_net(seed=1)],
        regions=torch.arange(256).reshape(16, 16) // 32,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_registered_metric_tells_exact_from_random_on_a_linear_probe(name, whole):
    row = next(row for row in whole.table.to_pylist() if row["metric"].split("(")[0] == name)
    sign = 1 if METRICS[name].profile.direction == "higher" else -1
    assert row["passed"], row["reason"]
    assert row["wins"] >= 0.75
    assert sign * row["exact"] > sign * row["random"]
    if row["negated"] is not None:
        assert sign * row["exact"] > sign * row["negated"]


def test_most_metrics_are_watched_on_the_model_and_the_numbers_are_shares(whole):
    rows = whole.table.to_pylist()
    watched = [row for row in rows if row["consistency"] is not None]
    assert len(watched) > 0.8 * len(rows)
    for row in watched:
        assert 0 <= row["resilience"] <= 1
        assert 0 <= row["reactivity"] <= 1
        assert row["consistency"] == pytest.approx((row["resilience"] + row["reactivity"]) / 2)
    assert all(row["reason"] for row in rows if row["consistency"] is None)


@pytest.mark.parametrize("dims", [1, 3])
def test_the_probe_has_the_images_own_axes(dims):
    x = small_images(dims, rows=6, channels=2, size=8 if dims == 3 else 40)
    found = self_test(small_net(dims, channels=2), x, ["sensitivity_n", "road", "max_sensitivity"], methods=())
    assert set(found.passed) == {"sensitivity_n", "road", "max_sensitivity"}


@pytest.mark.parametrize(("metric", "said"), [(asleep(), "0% of the images"), (upside_down(), "0% of the images")])
def test_a_metric_that_sleeps_or_stands_on_its_head_fails_and_says_how(metric, said):
    found = self_test(small_net(), small_images(rows=6), [metric, "sensitivity_n"], methods=())
    assert found.passed == ("sensitivity_n",)
    assert said in found.failed[str(metric)]


def test_a_metric_of_noise_fails():
    found = self_test(small_net(), small_images(rows=8), [drunken()])
    assert str(drunken()) in found.failed


def test_a_model_without_gradients_is_not_watched_and_the_probe_still_judges():
    def plain(x):
        with torch.no_grad():
            return torch.stack([x.flatten(1).sum(1), x.flatten(1).amax(1)], 1)

    found = self_test(plain, small_images(rows=4), ["sensitivity_n"])
    row = found.table.to_pylist()[0]
    assert row["passed"]
    assert row["consistency"] is None
    assert "not watched" in row["reason"]


def test_a_metric_without_a_score_is_neither_passed_nor_failed():
    class Both(nn.Module):
        def forward(self, image, table):
            return image.sum((1, 2, 3))[:, None] + table.sum(1, keepdim=True)

    x = (torch.rand(4, 1, 6, 6), torch.rand(4, 5))
    found = self_test(Both(), x, ["road"], methods=())
    assert found.table["passed"].to_pylist() == [None]
    assert found.failed["road"]


def test_the_verdict_stands_beside_every_score_and_old_tables_have_none(tmp_path):
    net, x = small_net(), small_images(rows=3)
    told = self_test(net, x, [asleep(), "sparseness"], methods=())
    metrics = [asleep(), "sparseness", "complexity"]
    scores = evaluate(net, x, explain(net, x, "gradient"), metrics, tested=told)
    assert scores.table["tested"].to_pylist() == [False] * 3 + [True] * 3 + [None] * 3
    assert told.says(METRICS.parse("sparseness"))
    assert told.says(completeness_gap()) is None
    scores.write(tmp_path / "part-0.parquet")
    assert Scores.read(tmp_path).table["tested"].to_pylist() == scores.table["tested"].to_pylist()
    old = Scores(scores.table.drop_columns(["tested"]))
    assert old.table["tested"].null_count == 9
    assert Scores.concat([old, scores]).table.schema.names == SCHEMA.names


def test_the_same_seed_gives_the_same_verdict_and_nothing_to_test_is_refused():
    net, x = small_net(), small_images(rows=5)
    one, two = (self_test(net, x, ["sensitivity_n", "max_sensitivity"]) for _ in range(2))
    assert one.table.equals(two.table)
    assert isinstance(one, SelfTest)
    with pytest.raises(ShapeError, match="no metric to test"):
        self_test(net, x, [])
