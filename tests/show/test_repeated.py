"""Does the report say what stayed when nets, settings and batches were changed, and nothing where nothing was?"""

from pathlib import Path

import pyarrow as pa
import pytest

from pellucid.evaluation.stability import REPEATED
from pellucid.images.phantoms import cells
from pellucid.show import write_report
from pellucid.show.repeated import (
    batch_chart,
    nets_told,
    repeat_checks,
    repeat_numbers,
    setting_numbers,
    setting_table,
    stability_chart,
)
from pellucid.study import Study

STUDY = """
seed = 0
[images]
path = "cells"
labels = "labels.csv"
masks = ["object"]
object = "object"
split = "split"
group = "group"
[fit]
epochs = 1
width = 4
depth = 1
augment = false
[explain]
methods = ["saliency", "occlusion(window=8, stride=8)", "occlusion(window=16, stride=8)"]
images = 8
[evaluate]
metrics = ["sparseness"]
[stability]
seeds = 1
shuffled = true
[run]
threads = 1
"""


def row(measure: str, value: float, width: float = 0.05, method: str = "saliency") -> dict[str, object]:
    return {"method": method, "measure": measure, "value": value, "low": value - width, "high": value + width,
            "chance": 0.0, "nets": 2, "images": 12}  # fmt: skip


@pytest.mark.parametrize(
    ("measure", "value", "word", "part"),
    [
        ("correlation", 0.9, "passed", "stays much the same when the net is trained again"),
        ("correlation", 0.2, "unclear", "may hold for this net only"),
        ("shuffled", 0.9, "failed", "much the same map for a net of shuffled labels"),
        ("shuffled", 0.1, "passed", "as it must be"),
    ],
)
def test_the_check_of_a_method_follows_from_the_correlation(measure: str, value: float, word: str, part: str) -> None:
    (check,) = repeat_checks(pa.Table.from_pylist([row(measure, value)]), "saliency")
    assert check.word == word
    assert part in check.sentence


def test_nothing_repeated_is_nothing_said() -> None:
    nothing = pa.table({})
    assert stability_chart(nothing) is None
    assert batch_chart(nothing) is None
    assert setting_table(nothing) is None
    assert (repeat_numbers(nothing, nothing), repeat_checks(nothing, "saliency"), nets_told(nothing)) == ({}, [], "")


def test_the_number_beside_a_map_is_the_mean_over_equally_accurate_nets_only() -> None:
    nets = pa.Table.from_pylist(
        [{"model": name, "shuffled": name == "shuffled", "equal": name in {"a", "b"}, "accuracy": 0.5, "difference": 0.0}
         for name in ("a", "b", "c", "shuffled")]
    )  # fmt: skip
    values = {"a": 0.2, "b": 0.4, "c": 1.9, "shuffled": 1.0}
    repeats = pa.Table.from_pylist(
        [{"image": "one", "method": "saliency", "metric": metric, "model": name, "value": value}
         for name, value in values.items() for metric in REPEATED]
    )  # fmt: skip
    assert repeat_numbers(repeats, nets) == {("one", "saliency"): "other nets' maps: rank corr. 0.70 (2 nets)"}
    told = nets_told(nets)
    assert "c: accuracy 0.500, +0.000 not as accurate, left out" in told
    assert "shuffled: accuracy 0.500, +0.000 (shuffled labels)" in told


def test_the_number_beside_the_maps_of_several_settings_is_their_mean_correlation() -> None:
    pairs = [("a", "b", 0.2), ("a", "c", 0.4), ("b", "c", 0.9)]
    table = pa.Table.from_pylist([{"first": one, "second": two, "correlation": value} for one, two, value in pairs])
    assert setting_numbers(table)["a"] == "other settings' maps: rank corr. 0.30 over all images"
    assert setting_numbers(pa.table({})) == {}


def test_the_charts_hold_one_row_a_method_and_region() -> None:
    stability = pa.Table.from_pylist([row("correlation", 0.8), row("shuffled", 0.1), row("l2", 0.4)])
    figure = stability_chart(stability)
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["saliency", "saliency, shuffled labels"]
    batch = {"region": "inside", "accuracy": 0.98, "pull": 0.6, "low": 0.5, "high": 0.7}
    figure = batch_chart(pa.Table.from_pylist([batch, batch | {"region": "outside", "pull": 0.0, "low": 0.0}]))
    assert figure is not None
    assert figure.axes[0].get_yticklabels()[0].get_text() == "inside (colour gives the batch: 0.98)"


def test_the_report_shows_what_other_nets_and_settings_say(tmp_path: Path) -> None:
    cells(60, size=(32, 32), seed=3).write(tmp_path / "cells")
    (tmp_path / "study.toml").write_text(STUDY)
    study = Study.create(tmp_path / "study.toml", tmp_path / "out")
    study.run()
    page = write_report(study).read_text()
    assert 'id="stability"' in page
    assert "shuffled: accuracy" in page
    assert "top tenth in common" in page
    equal = study.nets["equal"].to_pylist()[0]
    assert ("other nets&#39; maps: rank corr." in page) == equal
    assert "other settings&#39; maps: rank corr." in page
    assert study.repeats.num_rows == 8 * 3 * len(REPEATED) * 2
    assert 'id="batch"' not in page
