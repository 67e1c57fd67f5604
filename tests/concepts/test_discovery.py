"""Concepts without labels: planted parts come apart, the used one first, and rebuilt activations are the true ones."""

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.concepts import discover_concepts
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models.targets import Output


class Planted(nn.Module):
    """Four channels behind a ReLU: two belong to a square at the left, two to one at the right; the output reads the right."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 4, 1, bias=False)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.mix.weight.copy_(torch.tensor([[1.0, 0], [0.5, 0], [0, 1], [0, 0.7]])[:, :, None, None])

    def forward(self, x):
        return (
            (self.relu(self.mix(x))[:, 2:] * torch.tensor([2.0, 1.0])[:, None, None]).mean((2, 3)).sum(1, keepdim=True)
        )


@pytest.fixture(scope="module")
def found():
    random = np.random.default_rng(0)
    x = torch.zeros(16, 2, 12, 12)
    for row in range(16):
        left, right = random.uniform(0.5, 1.5, 2)
        x[row, 0, 2:6, 1:5], x[row, 1, 5:10, 7:11] = left, right
    return discover_concepts(Planted(), x, "relu", target=Output(0), concepts=2, samples=64), x


def test_planted_parts_come_apart_and_the_used_one_leads(found):
    told, _ = found
    used, idle = told.table.to_pylist()
    assert used["importance"] == pytest.approx(1, abs=0.1)
    assert idle["importance"] == pytest.approx(0, abs=1e-6)
    assert used["effect"] > used["effect_low"] > 0
    assert abs(idle["effect"]) < 1e-5
    assert min(used["stability"], idle["stability"]) > 0.99
    assert told.directions[0].numpy() == pytest.approx(np.array([0, 0, 1, 0.7]) / np.hypot(1, 0.7), abs=1e-3)
    assert told.explained > 0.999
    assert told.fidelity > 0.999


def test_masks_and_crops_lie_on_the_part(found):
    told, x = found
    where = torch.zeros(12, 12, dtype=torch.bool)
    where[5:10, 7:11] = True
    assert torch.equal(told.mask(0, 3), where)
    (best, *_) = told.exemplars(0, 3)
    brightest = int(x[:, 1].flatten(1).max(1).values.argmax())
    assert best.image == f"row {brightest}"
    (y0, x0), (y1, x1) = best.box
    assert where[y0:y1, x0:x1].float().mean() > 0.3
    assert y1 - y0 == x1 - x0 == round(0.35 * 12)


def test_what_has_no_parts_that_add_up_is_refused():
    x = torch.rand(6, 2, 8, 8)
    with pytest.raises(CannotExplain, match="negative values"):
        discover_concepts(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(144, 2)), x, "0")
    with pytest.raises(ShapeError, match="between two and 4 concepts"):
        discover_concepts(Planted(), x, "relu", target=Output(0), concepts=9)
    with pytest.raises(ShapeError, match="power of two"):
        discover_concepts(Planted(), x, "relu", target=Output(0), concepts=2, samples=12)


def test_the_parts_of_a_trained_net_tell_the_rim(rim):
    """Of what the middle layer is made of, a leading part with a positive effect lies on the planted rim."""
    ids = [name for name, label in zip(rim.ids, rim.images.labels, strict=True) if label == 1][:16]
    told = discover_concepts(rim.model, rim.images, "stages.1", ids=ids, target=1, concepts=5, samples=8)
    masks = rim.phantom.factor_mask("membrane_ring", ids)
    for_it = [row["concept"] for row in told.table.to_pylist() if row["effect_low"] > 0]
    lift = [
        float(
            torch.stack(
                [(told.mask(part, row) & masks[row]).sum() / told.mask(part, row).sum() for row in range(16)]
            ).mean()
        )
        / float(masks.float().mean())
        for part in for_it
    ]
    assert max(lift) > 1.5
    assert told.fidelity > 0.7
