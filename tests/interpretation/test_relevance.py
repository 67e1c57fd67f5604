"""Under the relevance lies what the map was drawn from; a flat map prefers nothing."""

import pytest
import torch

from pellucid.errors import ShapeError
from pellucid.images import phantoms
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.relevance import relevance_effects, relevance_measures

PHANTOM = phantoms.cells(20, (48, 48), seed=2)
RECORD = PHANTOM.images.record
CASES = [
    Case(name, image, outline, 0, group)
    for name, image, outline, group in zip(
        PHANTOM.images.ids, PHANTOM.images.tensor(), PHANTOM.factor_mask("object"), PHANTOM.images.column("group"), strict=True
    )
]  # fmt: skip


def effects(maps):
    return {row["measure"]: row for row in relevance_effects(relevance_measures(maps, CASES, RECORD)).to_pylist()}


@pytest.mark.parametrize(
    ("mask", "measure", "sign"),
    [("spot_number", "Spots", 1), ("membrane_ring", "Depth", -1), ("nucleus_size", "Intensity_blue", 1)],
)
def test_a_map_of_a_factor_prefers_what_is_measured_there(mask, measure, sign):
    found = effects(PHANTOM.factor_mask(mask)[:, None].float() * torch.tensor([1.0, -1.0, 1.0])[None, :, None, None])
    row = found[measure]
    assert sign * row["difference"] > 0.5
    assert sign * (row["low"] if sign > 0 else row["high"]) > 0.2
    assert row["groups"] == 4


def test_a_map_of_noise_prefers_nothing():
    maps = torch.randn(20, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    found = effects(maps)
    assert set(found) == {"Intensity_red", "Intensity_green", "Intensity_blue", "Roughness", "Depth", "Spots"}
    assert all(abs(row["difference"]) < 0.2 for row in found.values())


def test_a_map_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match="the map of cell_00000"):
        relevance_measures(torch.rand(20, 1, 24, 24), CASES, RECORD)
