"""Masks of the pairs that a study shows: those of `minimal_mask`, in the place that the model reads, computed once."""

from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.counterfactual import minimal_mask
from pellucid.images import ImageSet
from pellucid.images.imageset import ImageRecord
from pellucid.interpretation import Evidence
from pellucid.models import Model
from pellucid.study import counterfactual_pairs
from pellucid.study.counterfactual_pairs import MASKS, mask_intervals, masks_of, shown_pairs
from pellucid.study.counterfactual_search import Sought, in_turn
from pellucid.study.store import Store

SIDE = 32


class _ReadsACorner(nn.Module):
    """Class b is a bright corner; the other corner, which changes as much, is never looked at."""

    def forward(self, x):
        light = x[:, :, 2:6, 2:6].mean((1, 2, 3))
        return torch.stack([0.5 - light, light - 0.5], 1)


@pytest.fixture
def asked():
    torch.manual_seed(0)
    real = 0.1 * torch.rand(5, 1, SIDE, SIDE)
    changed = real.clone()
    changed[..., 2:6, 2:6] += 0.8
    changed[..., 24:28, 24:28] += 0.8
    ids = tuple(f"im{row}" for row in range(5))
    images = ImageSet(ids=ids, shape=(1, SIDE, SIDE), record=ImageRecord("CYX", ("g",)), load=lambda name: real[ids.index(name)],
                      classes=("a", "b"))  # fmt: skip
    evidence = Evidence(model=Model(_ReadsACorner(), classes=("a", "b"), task="classification"), images=images, ids=ids,
                        predictions=pa.table({"image": ids}), methods=(), maps=lambda *_: None, scores=pa.table({}),
                        ranking=pa.table({}))  # fmt: skip
    found = SimpleNamespace(ids=ids, images=real, changed=changed,
                            status=("reached", "outside the support", "reached", "reached", "not reached"))  # fmt: skip
    rows = [
        {"image": name, "source": "a", "target": "b", "status": status}
        for name, status in zip(ids, found.status, strict=True)
    ]
    return evidence, Sought("a", "b", found), rows


def test_the_kept_masks_are_the_minimal_ones_and_flip_the_model(asked, tmp_path, monkeypatch):
    evidence, one, rows = asked
    setup = SimpleNamespace(store=Store(tmp_path))
    table = masks_of(setup, evidence, [one], rows)
    chosen = [row for row in table.to_pylist() if row["chosen"]]
    assert [row["image"] for row in chosen] == ["im0", "im2", "im3"]
    kept = setup.store.read_tensors(MASKS)
    direct = minimal_mask(
        evidence.model, one.found.images[[0, 2, 3]], one.found.changed[[0, 2, 3]], ids=["im0", "im2", "im3"]
    )
    assert torch.equal(kept["masks"][[row["mask"] for row in chosen]], direct.masks)
    assert torch.equal(kept["hybrids"], direct.hybrids)
    with torch.no_grad():
        assert _ReadsACorner()(kept["hybrids"]).argmax(1).tolist() == [1, 1, 1]
    for row, mask in zip(chosen, kept["masks"], strict=True):
        assert row["size"] == pytest.approx(float(mask.mean()), abs=1e-6)
        assert row["size"] < 0.2
        assert float(mask[18:, 18:].sum()) < 0.05 * float(mask.sum())
    monkeypatch.setattr(counterfactual_pairs, "minimal_mask", None)  # a second call would fail
    assert masks_of(setup, evidence, [one], rows).equals(table)


def test_the_scores_are_means_over_the_pairs_and_a_pair_that_only_the_whole_flips_counts_in_full(asked):
    evidence, *_ = asked
    rows = [{"image": f"im{row}", "chosen": True, "size": size, "area": area}
            for row, (size, area) in enumerate([(0.1, 0.9), (None, 0.5), (0.4, 0.7)])]  # fmt: skip
    rows.append({"image": "im0", "chosen": False, "size": 0.9, "area": 0.0})
    found = mask_intervals(pa.Table.from_pylist(rows), evidence)
    assert found["mask_size"].value == pytest.approx(0.5)
    assert found["mask_area"].value == pytest.approx(0.7)
    assert found["mask_area"].n == 3
    assert found["mask_area"].low < 0.7 < found["mask_area"].high


def test_pairs_of_classes_are_shown_in_turn():
    rows = [{"source": source, "target": "x", "status": "reached"} for source in "a" * 20 + "b" * 3 + "c"]
    assert in_turn(rows, range(24), 5) == [0, 1, 20, 21, 23]
    shown = shown_pairs(rows)
    assert len(shown) == 16
    assert set(shown) >= {20, 21, 22, 23}
    rows[20]["status"] = "not reached"
    assert 20 not in shown_pairs(rows)


def test_a_model_without_derivatives_is_asked_about_the_change_alone(asked, tmp_path, monkeypatch):
    evidence, one, rows = asked
    closed = evidence.model.capabilities
    monkeypatch.setattr(Model, "capabilities", property(lambda _: replace(closed, gradients=False)))
    table = masks_of(SimpleNamespace(store=Store(tmp_path)), evidence, [one], rows)
    assert set(table["map"].to_pylist()) == {"difference"}
