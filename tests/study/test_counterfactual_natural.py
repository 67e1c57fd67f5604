"""Nearest real cases of a study: planted twins are found, in any number of axes, among a bounded number of images."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.images import ImageSet
from pellucid.images.imageset import ImageRecord
from pellucid.interpretation import Evidence
from pellucid.models import Model
from pellucid.study import counterfactual_natural
from pellucid.study.counterfactual_natural import NATURAL, natural_cases

AXES = {1: "CX", 2: "CYX", 3: "CZYX"}


def evidence(pixels, called, groups, explained):
    """Images without an embedding, so that alike is what overlaps."""
    ids = tuple(f"im{row}" for row in range(len(pixels)))
    record = ImageRecord(AXES[pixels.ndim - 2], tuple(map(str, range(pixels.shape[1]))))
    images = ImageSet(
        ids=ids, shape=tuple(pixels.shape[1:]), record=record, load=lambda name: pixels[ids.index(name)],
        labels=tuple(called), classes=("a", "b", "c"), metadata=pa.table({"patient": groups}), group_column="patient",
    )  # fmt: skip
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(pixels[0].numel(), 3)), classes=("a", "b", "c"))
    predictions = pa.table({"image": ids, "predicted": called, "confidence": np.linspace(0.5, 0.9, len(ids))})
    return Evidence(
        model=model, images=images, ids=tuple(ids[row] for row in explained), predictions=predictions, methods=(),
        maps=lambda *_: None, scores=pa.table({}), ranking=pa.table({}), group="patient",
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 30), (1, 6, 6), (3, 6, 5), (5, 6, 5), (1, 4, 5, 6)])
def test_the_planted_twin_of_another_answer_is_found_but_not_the_patients_own(shape):
    torch.manual_seed(0)
    pixels = torch.rand(20, *shape)
    called, groups = [row % 2 for row in range(20)], [f"p{row}" for row in range(20)]
    pixels[7] = pixels[0] + 0.03  # the twin that the model calls b
    pixels[9], groups[9] = pixels[0] + 0.001, "p0"  # nearer, but of the same patient
    pixels[4] = pixels[0] + 0.01  # nearest of its own answer
    table = natural_cases(evidence(pixels, called, groups, [0, 1]), [("a", "b"), ("b", "a"), ("a", "c")])
    assert table.schema == NATURAL
    found, back, never = table.to_pylist()
    assert (found["image"], found["counterfactual"], found["among"]) == ("im0", "im7", 10)
    assert found["distance"] == pytest.approx(0.03, abs=1e-6)
    assert found["own_kind_distance"] == pytest.approx(0.01, abs=1e-6)
    assert found["space"] == "pixels"
    assert (back["image"], back["source"], back["target"]) == ("im1", "b", "a")
    assert never["counterfactual"] is None
    assert never["reason"] == "the model calls none of the 20 images c"


def test_the_gallery_is_bounded_and_holds_the_explained_images(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(counterfactual_natural, "_MOST", 4)
    pixels, called = torch.rand(40, 1, 4, 4), [row % 2 for row in range(40)]
    asked = evidence(pixels, called, [f"p{row}" for row in range(40)], [30, 31, 33])
    rows = natural_cases(asked, [("a", "b"), ("b", "a")]).to_pylist()
    assert sorted(row["image"] for row in rows) == ["im30", "im31", "im33"]
    assert {row["among"] for row in rows} == {4}


def test_one_image_alone_has_no_case():
    asked = evidence(torch.rand(1, 1, 4, 4), [0], ["p"], [0])
    assert natural_cases(asked, [("a", "b")]).num_rows == 0
