from dataclasses import replace

import pytest
import torch

from pellucid.interpretation import find_annotators

METRICS = ("relevance_mass", "relevance_rank", "sparseness")


def evidence(lab, experts):
    images = lab.cells(lab.TRAITS["spot"], count=4)
    return lab.evidence(lab.MODELS["spot"], replace(images, masks=images.masks | experts))


def square(low, high):
    mask = torch.zeros(28, 28, dtype=torch.long)
    mask[low:high, 8:16] = 1
    return lambda image: mask


def test_the_ceiling_is_what_one_expert_scores_against_the_others(lab):
    # 8 x 8 pixels each, half of them common: Dice 64 / 128, and half of one's mass lies in the other
    found, tables = find_annotators(evidence(lab, {"a": square(4, 12), "b": square(8, 16)}), ("a", "b"), METRICS)
    assert found[0].kind == "annotators"
    assert found[0].value == pytest.approx(0.5)
    told = {row["metric"]: row["value"] for row in tables["ceilings"].to_pylist()}
    assert told == {"relevance_mass": pytest.approx(0.5), "relevance_rank": pytest.approx(0.5)}


def test_experts_who_agree_leave_the_ceiling_at_the_top(lab):
    found, tables = find_annotators(evidence(lab, {"a": square(4, 12), "b": square(4, 12)}), ("a", "b"), METRICS)
    assert found[0].value == 1
    assert [row["value"] for row in tables["ceilings"].to_pylist()] == [1, 1]


def test_one_expert_agrees_with_nobody(lab):
    assert find_annotators(evidence(lab, {"a": square(4, 12)}), ("a",), METRICS) == ([], {})
