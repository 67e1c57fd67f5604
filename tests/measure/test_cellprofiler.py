"""The adapter calls cp_measure as it wants to be called and names what comes back; without it, it says what to install."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from pellucid.errors import BadImage
from pellucid.images import ImageRecord
from pellucid.measure import cellprofiler_measures, phenotypes

RECORD = ImageRecord("CYX", ("dna", "actin"), display_range=(0.0, 2.0))
IMAGE = 2 * torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(40, 40, dtype=torch.int64)
MASK[4:14, 5:20] = 3
MASK[22:30, 8:30] = 7


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cp_measure.bulk", None)
    with pytest.raises(BadImage, match=r"pellucid\[morphology\]"):
        cellprofiler_measures(IMAGE, MASK, RECORD)


def test_labels_are_made_consecutive_and_names_carry_the_channel(monkeypatch):
    def areas(labels, _pixels):
        return {"Area": np.bincount(labels.ravel())[1:]}

    def means(labels, pixels):
        return {"Intensity_MeanIntensity": [pixels[labels == 1].mean(), np.nan]}

    bulk = ModuleType("cp_measure.bulk")
    bulk.get_core_measurements = lambda: {"sizeshape": areas, "intensity": means}
    monkeypatch.setitem(sys.modules, "cp_measure", ModuleType("cp_measure"))
    monkeypatch.setitem(sys.modules, "cp_measure.bulk", bulk)
    table = cellprofiler_measures(IMAGE, MASK, RECORD)
    assert table.column_names == [
        "object",
        "AreaShape_Area",
        "Intensity_MeanIntensity_dna",
        "Intensity_MeanIntensity_actin",
    ]
    assert table["object"].to_pylist() == [3, 7]
    assert table["AreaShape_Area"].to_pylist() == [150, 176]
    assert table["Intensity_MeanIntensity_actin"].to_pylist() == [
        pytest.approx(IMAGE[1, MASK == 3].mean().item() / 2),
        None,
    ]
    assert cellprofiler_measures(IMAGE, MASK * 0, RECORD).num_rows == 0
    with pytest.raises(BadImage, match="no measures sizeshap; it has sizeshape, intensity"):
        cellprofiler_measures(IMAGE, MASK, RECORD, features=("sizeshap",))


def test_the_real_package_agrees_with_ours_where_both_measure_the_same():
    pytest.importorskip("cp_measure")
    theirs = cellprofiler_measures(IMAGE, MASK, RECORD, features=("sizeshape", "intensity")).to_pylist()
    ours = phenotypes(IMAGE, MASK, RECORD, panel="full").to_pylist()
    for one, other in zip(theirs, ours, strict=True):
        for name in ("AreaShape_Area", "AreaShape_Eccentricity", "AreaShape_Solidity", "AreaShape_Extent"):
            assert one[name] == pytest.approx(other[name], rel=0.02), name
        for channel in RECORD.channels:
            mean = f"Intensity_MeanIntensity_{channel}"
            assert 2 * one[mean] == pytest.approx(other[mean], rel=1e-5)
            assert 2 * one[f"Intensity_MADIntensity_{channel}"] == pytest.approx(
                other[f"Intensity_MADIntensity_{channel}"], rel=0.02
            )
