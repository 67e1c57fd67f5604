"""Regions of a rule file get the contributions that a known model gives them, and they add up."""

import numpy as np
import pytest
import torch

from pellucid.errors import BadStudy, CannotExplain
from pellucid.images import phantoms
from pellucid.interpretation.guideline import guideline_overview, guideline_shares, read_guideline
from pellucid.models import Model

PHANTOM = phantoms.cells(12, (48, 48), seed=6)
IMAGES = PHANTOM.images
RULES = """
[[region]]
name = "nucleus"
mask = "nucleus_size"
[[region]]
name = "rim"
near = "object"
from = 0.0
to = 1.5
[[region]]
name = "cytoplasm"
mask = "object"
[[region]]
name = "halo"
near = "object"
from = -2.0
to = 0.0
"""


@pytest.fixture
def guideline(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return read_guideline(path)


def test_every_pixel_belongs_to_the_first_region_that_claims_it(guideline):
    labels = guideline.labels(IMAGES, IMAGES.ids[0])
    nucleus, cell = (IMAGES.mask(name, [IMAGES.ids[0]])[0] > 0 for name in ("nucleus_size", "object"))
    assert guideline.names == ("nucleus", "rim", "cytoplasm", "halo", "elsewhere")
    assert torch.equal(labels == 0, nucleus)
    assert torch.equal((labels <= 2) & cell, cell)
    assert not ((labels == 3) & cell).any()
    rim = ((labels == 1).sum() * (32 / 48) ** 2).item()
    around = 2 * np.pi * np.sqrt(cell.sum().item() / np.pi) * 32 / 48 * 1.5
    assert rim == pytest.approx(around, rel=0.2)


def test_a_linear_model_is_shared_out_exactly(guideline):
    weights = torch.stack([guideline.labels(IMAGES, name) for name in IMAGES.ids]) == 1

    def sums(x):
        own = weights[: len(x)] if len(x) == len(weights) else weights[:1].expand(len(x), -1, -1)
        score = (x.mean(1) * own).flatten(1).sum(1)
        return torch.stack([-score, score], 1)

    name = IMAGES.ids[0]
    table = guideline_shares(
        Model(sums, classes=("no", "yes"), task="classification"), IMAGES, [name], guideline, target=1, fill="zero"
    )
    values = dict(zip(table["region"].to_pylist(), table["value"].to_pylist(), strict=True))
    expected = float((IMAGES.tensor([name])[0].mean(0) * weights[0]).sum())
    assert values["rim"] == pytest.approx(expected, rel=1e-4)
    assert all(abs(value) < 1e-3 for region, value in values.items() if region != "rim")
    assert table["class"].to_pylist()[0] == IMAGES.classes[1]


def test_an_interaction_is_shared_evenly_and_the_sum_is_the_score(guideline):
    def product(x):
        blue, ring = x[:, 2].amax((1, 2)), x[:, 0].mean((1, 2))
        return torch.stack([torch.zeros(len(x)), 40 * blue * ring], 1)

    model, ids = Model(product, classes=IMAGES.classes, task="classification"), IMAGES.ids[:6]
    table = guideline_shares(model, IMAGES, ids, guideline, target=1, fill="zero", group="group")
    for place, name in enumerate(ids):
        values = [row["value"] for row in table.to_pylist() if row["image"] == name]
        whole = float(product(IMAGES.tensor([name]))[0, 1] - product(torch.zeros(1, 3, 48, 48))[0, 1])
        assert sum(values) == pytest.approx(whole, rel=1e-3), place
    overview = guideline_overview(table).to_pylist()
    assert {row["region"] for row in overview} == set(guideline.names)
    assert sum(row["value"] for row in overview) == pytest.approx(np.sum(table["value"].to_numpy()) / 6, rel=1e-3)
    assert overview[0]["groups"] == 2
    assert sum(row["area"] for row in overview) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1 to 9 regions"),
        ("[[region]]\nname='a'\n", "give mask, or near"),
        ("[[region]]\nname='a'\nmask='m'\nfrom=1.0\n", "go with near"),
        ("[[region]]\nname='a'\nnear='m'\nfrom=2.0\nto=1.0\n", "must lie below"),
        ("[[region]]\nname='elsewhere'\nmask='m'\n", "what no region claims"),
        ("[[region]]\nname='a'\nmask='m'\n[[region]]\nname='a'\nmask='n'\n", "different names"),
        ("[[region]\n", "cannot be read"),
    ],
)
def test_a_rule_file_that_is_none_is_refused(tmp_path, text, said):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(BadStudy, match=said):
        read_guideline(path)


def test_an_image_without_the_mask_is_refused(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("[[region]]\nname='a'\nmask='nucleus_size'\n")
    lacking = {name: (lambda _image: None) for name in IMAGES.masks}
    from dataclasses import replace

    with pytest.raises(CannotExplain, match="has no mask 'nucleus_size'"):
        read_guideline(path).labels(replace(IMAGES, masks=lacking), IMAGES.ids[0])
