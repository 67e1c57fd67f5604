"""Are maps that hold for one net or one setting only named, with the numbers, and none where nothing was repeated?"""

import numpy as np
import pyarrow as pa
import pytest
import torch

from pellucid.evaluation.stability import REPEATED
from pellucid.interpretation import find_setting_spread, find_stability
from pellucid.interpretation.stability import ALIKE

IDS = [f"image {row:03d}" for row in range(12)]


def repeats(correlations, *, method="saliency", spread=0.02, regions=0.75):
    """Scores of one method: model to the rank correlation of its maps with the explained net's."""
    random, rows = np.random.default_rng(0), []
    for model, level in correlations.items():
        for image in IDS:
            values = dict(zip(REPEATED, (0.4, 1 - level - random.normal(0, spread), regions, 0.5), strict=True))
            rows += [
                {"image": image, "method": method, "model": model, "metric": metric, "value": value, "chance": 1.0}
                for metric, value in values.items()
            ]
    return pa.Table.from_pylist(rows)


def nets(**equal):
    return pa.Table.from_pylist(
        [{"model": name, "shuffled": name == "shuffled", "difference": 0.0 if known else -0.2, "equal": known}
         for name, known in equal.items()]
    )  # fmt: skip


@pytest.fixture
def evidence(lab):
    images = lab.cells(lambda random, label: {}, count=12)

    def make(table, judged, **more):
        return lab.evidence(
            lab.MODELS["spot"], images, methods=("saliency", "random_map"), repeats=table, nets=judged, **more
        )

    return make


def test_without_other_nets_nothing_is_said(lab):
    images = lab.cells(lambda random, label: {}, count=4)
    findings, table = find_stability(lab.evidence(lab.MODELS["spot"], images, methods=("saliency",)))
    assert (findings, table.num_rows) == ([], 0)


def test_maps_that_other_nets_share_are_not_called_unstable_and_the_table_says_how_alike(evidence):
    findings, table = find_stability(evidence(repeats({"a": 0.9, "b": 0.7}), nets(a=True, b=True)))
    rows = {row["measure"]: row for row in table.to_pylist()}
    assert findings == []
    assert rows["correlation"]["value"] == pytest.approx(0.8, abs=0.02)
    assert rows["correlation"]["chance"] == 0.0
    assert rows["correlation"]["nets"] == 2
    assert rows["l2"]["value"] == pytest.approx(0.4)
    assert (rows["density"]["value"], rows["sum"]["value"]) == (0.75, 0.5)


def test_maps_that_change_with_the_seed_are_named(evidence):
    (finding,), _ = find_stability(evidence(repeats({"a": 0.2, "b": 0.1}), nets(a=True, b=True)))
    assert (finding.kind, finding.subject, finding.verdict) == ("unstable", "saliency", "supported")
    assert finding.high < ALIKE
    assert "2 equally accurate nets" in finding.evidence
    assert "75 % of its top regions stay: read it by region" in finding.statement
    (elsewhere,), _ = find_stability(evidence(repeats({"a": 0.2}, regions=0.25), nets(a=True)))
    assert "holds for this net, not for the task" in elsewhere.statement


def test_a_less_accurate_net_has_no_say_and_without_an_equal_one_nothing_is_told(evidence):
    table = repeats({"a": 0.9, "b": 0.0})
    assert find_stability(evidence(table, nets(a=True, b=False)))[0] == []
    (finding,), rows = find_stability(evidence(table, nets(a=False, b=False)))
    assert (finding.kind, finding.verdict) == ("refused", "undecided")
    assert "a -0.200, b -0.200" in finding.evidence
    assert rows.num_rows == 0


def test_a_map_that_a_net_of_shuffled_labels_shares_fails(evidence):
    table = repeats({"a": 0.9, "shuffled": 0.8})
    (finding,), _ = find_stability(evidence(table, nets(a=True, shuffled=False)))
    assert (finding.kind, finding.id) == ("failed_sanity", "failed_sanity-shuffled-saliency")
    assert "with nets of the true labels 0.9" in finding.evidence
    findings, _ = find_stability(evidence(repeats({"a": 0.9, "shuffled": 0.1}), nets(a=True, shuffled=False)))
    assert findings == []


def test_few_images_of_one_group_say_nothing(lab):
    images = lab.cells(lambda random, label: {}, count=12, groups=["one"] * 12)
    evidence = lab.evidence(
        lab.MODELS["spot"], images, methods=("saliency",), repeats=repeats({"a": 0.0}), nets=nets(a=True)
    )
    findings, table = find_stability(evidence)
    assert findings == []
    assert table.to_pylist()[0]["low"] is None


def swept(lab, maps):
    images = lab.cells(lambda random, label: {}, count=12)
    texts = ("occlusion(window=4)", "occlusion(window=8)", "saliency")
    return find_setting_spread(lab.evidence(lab.MODELS["spot"], images, methods=texts, maps=maps))


def test_settings_with_unrelated_maps_are_named_and_those_with_equal_maps_are_not(lab):
    def drawn(method, ids):
        stream = torch.Generator().manual_seed(len(method) + int(method[-2] == "8"))
        return torch.randn((len(ids), 1, lab.SIZE, lab.SIZE), generator=stream)

    (finding,), table = swept(lab, drawn)
    assert (finding.kind, finding.subject) == ("unstable", "occlusion")
    assert abs(finding.value) < 0.1
    (row,) = table.to_pylist()
    assert (row["first"], row["second"], row["images"]) == ("occlusion(window=4)", "occlusion(window=8)", 12)
    assert row["overlap"] == pytest.approx(0.1, abs=0.05)
    findings, table = swept(lab, lambda method, ids: drawn("the same", ids))
    assert findings == []
    assert table["correlation"].to_pylist() == pytest.approx([1.0])
    assert table["overlap"].to_pylist() == [1.0]


def test_constant_maps_have_no_correlation_and_no_verdict(lab):
    findings, table = swept(lab, lambda method, ids: torch.zeros(len(ids), 1, lab.SIZE, lab.SIZE))
    assert (findings, table.num_rows) == ([], 0)
