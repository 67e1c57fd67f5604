"""Prediction-preserving noise: a fragile map is found where the score stays, and copies that move the score do not count."""

import pytest
import torch
from torch import nn

from pellucid import explain
from pellucid.attribution.gradient import gradient
from pellucid.evaluation import evaluate


class Fragile(nn.Module):
    """A score of 10 with ripples too small to see and slopes that turn at once."""

    def forward(self, x):
        return 10 + 1e-4 * (1e3 * x).sin().flatten(1).sum(1, keepdim=True)


class Jumping(nn.Module):
    """A score that any noise multiplies."""

    def forward(self, x):
        return (300 * x.flatten(1)[:, :1]).sin() * 5 + 1e-3


def _values(net, x, text="preserving_sensitivity"):
    return evaluate(net, x, explain(net, x, gradient(), 0), text).table


def test_a_fragile_map_behind_a_steady_score_is_found_and_a_steady_one_is_not(kit):
    x = torch.rand(3, 1, 8, 8)
    assert min(_values(Fragile(), x)["value"].to_pylist()) > 1
    steady = kit.linear((1, 8, 8))
    steady[1].bias.add_(10)
    assert _values(steady, x)["value"].to_pylist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_with_all_copies_kept_it_is_the_largest_sensitivity_and_it_shares_its_explanations(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(3, 2, 10, 10)
    net[-1].bias.add_(10)
    explained = explain(net, x, gradient())
    both = evaluate(net, x, explained, ["max_sensitivity", "preserving_sensitivity(within=0.9)"])
    largest, kept = torch.tensor(both.table["value"].to_pylist()).reshape(2, 3)
    assert torch.equal(largest, kept)
    assert both.backwards == evaluate(net, x, explained, "max_sensitivity").backwards


def test_where_no_copy_keeps_the_score_there_is_no_number_but_the_reason():
    table = _values(Jumping(), torch.rand(3, 1, 8, 8), "preserving_sensitivity(within=0.0001)")
    assert table["value"].null_count == 3
    assert "no noisy copy keeps" in table["reason"][0].as_py()
