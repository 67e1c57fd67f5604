"""Readouts of trust: closed forms, chance, and a readout that knows more than the confidence."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pellucid.errors import ShapeError
from pellucid.evaluation import explanation_spread, readout_quality, risk_coverage


def panel(seed=0, images=400):
    random = np.random.default_rng(seed)
    doubt = random.normal(size=images)
    correct = random.random(images) > 1 / (1 + np.exp(2 - 2 * doubt))
    return {
        "confidence": -doubt + 2 * random.normal(size=images),
        "oracle": correct.astype(float),
        "better": -doubt,
        "guess": random.normal(size=images),
    }, correct


def test_the_curve_of_four_calls_by_hand():
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, False]).to_pydict()
    assert curve["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"] == pytest.approx([0.0, 1 / 2, 1 / 3, 1 / 2])


def test_equal_trust_gives_the_error_rate_whatever_the_order():
    curve = risk_coverage([1, 1, 1, 1], [False, True, True, True])
    assert curve["risk"].to_pylist() == pytest.approx([0.25] * 4)


def test_readouts_are_ordered_as_they_were_made_and_only_better_ones_beat_the_confidence():
    readouts, correct = panel()
    rows = {
        row["readout"]: row for row in readout_quality(readouts, correct, baseline="confidence", draws=200).to_pylist()
    }
    assert rows["better"]["beats"]
    assert rows["oracle"]["beats"]
    assert not rows["guess"]["beats"]
    assert rows["confidence"]["beats"] is None
    assert rows["confidence"]["gain"] == 0
    assert rows["oracle"]["auroc"] == 1.0
    assert rows["guess"]["auroc_low"] < 0.5 < rows["guess"]["auroc_high"]
    assert rows["better"]["auroc"] == pytest.approx(roc_auc_score(correct, readouts["better"]))


def test_a_readout_that_knows_no_more_than_the_confidence_is_rarely_said_to_beat_it():
    said = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        doubt = random.normal(size=150)
        correct = random.random(150) > 0.3
        found = readout_quality(
            {"a": -doubt, "b": random.normal(size=150)}, correct, baseline="a", draws=200, seed=seed
        )
        said += bool(found["beats"].to_pylist()[1])
    assert said <= 4


def test_where_every_call_is_right_nothing_can_be_told_of_errors():
    row = readout_quality({"a": [1.0, 2.0, 3.0]}, [True] * 3, baseline="a", draws=20).to_pylist()[0]
    assert row["auroc"] is None
    assert row["errors"] == 0
    assert row["aurc"] == 0


def test_spread_is_zero_for_equal_maps_and_one_for_maps_that_know_nothing_of_each_other():
    one = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(explanation_spread([one, 3 * one, one]), torch.zeros(5, dtype=torch.float64))
    far = [torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]
    assert torch.allclose(explanation_spread(far), torch.ones(5, dtype=torch.float64), atol=0.05)
    alone = explanation_spread([part[2:3] for part in far])
    assert torch.equal(alone, explanation_spread(far)[2:3])


def test_the_spread_of_maps_over_nets_tells_errors_where_nets_disagree_on_what_they_see():
    """Images whose evidence is weak: nets err there and their maps differ; the coupling shows as an AUROC above chance."""
    random = np.random.default_rng(3)
    strength = random.uniform(0, 2, 200)
    signal = random.normal(size=(1, 50))
    maps = [torch.from_numpy(strength[:, None] * signal + random.normal(size=(200, 50))) for _ in range(4)]
    correct = random.random(200) < 1 / (1 + np.exp(1 - 3 * strength))
    row = readout_quality({"maps": -explanation_spread(maps).numpy()}, correct, baseline="maps", draws=200).to_pylist()[
        0
    ]
    assert row["auroc_low"] > 0.5


def test_readouts_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="none of the readouts"):
        readout_quality({"a": [1.0]}, [True], baseline="b")
    with pytest.raises(ShapeError, match="one finite number an image"):
        readout_quality({"a": [1.0, np.nan]}, [True, False], baseline="a")
    with pytest.raises(ShapeError, match="two maps or more"):
        explanation_spread([torch.ones(1, 2)])
