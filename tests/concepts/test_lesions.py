"""Lesions: a planted single detector is missed, a redundant one is not until its twin goes too, and size misleads."""

import pytest
import torch
from torch import nn

from pellucid.concepts import unit_lesions
from pellucid.errors import ShapeError


class Detectors(nn.Module):
    """Units: 0 and 1 see class 1 alike (either will do), 2 alone sees class 2, 3 is loud and unused."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Identity()

    def forward(self, x):
        h = self.units(torch.stack([x[:, 0], x[:, 0], x[:, 1], 9 + 5 * x[:, 2]], 1))
        return torch.stack([torch.full_like(h[:, 0, 0, 0], 0.5), torch.maximum(h[:, 0], h[:, 1]).amax((1, 2)),
                            h[:, 2].amax((1, 2))], 1)  # fmt: skip


@pytest.fixture(scope="module")
def images():
    draw = torch.Generator().manual_seed(0)
    labels = [row % 3 for row in range(60)]
    x = 0.2 * torch.rand(60, 3, 6, 6, generator=draw)
    x[1::3, 0, 2, 2] = x[2::3, 1, 3, 3] = 1.0
    return x, labels


def _drops(found):
    return {(row["lesion"], row["target"]): row["drop"] for row in found.table.to_pylist()}


def test_a_single_detector_is_missed_by_its_class_alone(images):
    drops = _drops(unit_lesions(Detectors(), *images, "units"))
    assert drops["unit 2", "2"] == 1
    assert drops["unit 2", "0"] == drops["unit 2", "1"] == 0
    assert drops["unit 2", "all"] == pytest.approx(1 / 3)


def test_a_redundant_detector_is_missed_only_with_its_twin(images):
    alone = _drops(unit_lesions(Detectors(), *images, "units"))
    assert alone["unit 0", "1"] == alone["unit 1", "1"] == 0
    both = _drops(unit_lesions(Detectors(), *images, "units", {"twins": [0, 1]}))
    assert both["twins", "1"] == 1


def test_neither_size_nor_selectivity_shows_what_matters(images):
    found = unit_lesions(Detectors(), *images, "units")
    rows = {(row["lesion"], row["target"]): row for row in found.table.to_pylist()}
    assert rows["unit 3", "all"]["activation"] > 5 * rows["unit 2", "all"]["activation"]
    assert rows["unit 3", "all"]["drop"] == 0
    assert rows["unit 0", "1"]["selectivity"] > 1
    assert found.size_and_damage < 0.5
    assert "without unit 2" in repr(found)


def test_the_mean_keeps_the_size_and_takes_the_message(images):
    drops = _drops(unit_lesions(Detectors(), *images, "units", fill="mean", metric="log_likelihood"))
    assert drops["unit 2", "2"] > 0.1
    assert drops["unit 3", "all"] == pytest.approx(0, abs=1e-6)


def test_units_that_are_not_there_are_refused(images):
    with pytest.raises(ShapeError, match="units 0 to 3"):
        unit_lesions(Detectors(), *images, "units", {"far": [7]})
    with pytest.raises(ShapeError, match="metric='speed'"):
        unit_lesions(Detectors(), *images, "units", metric="speed")
