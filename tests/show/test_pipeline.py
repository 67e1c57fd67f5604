"""The chapter of choices: every figure says what the tables hold."""

from pathlib import Path

import pyarrow as pa
import pytest

from pellucid.evaluation.choices import EFFECTS
from pellucid.interpretation.leak import LEAK
from pellucid.show import pipeline, write_report
from pellucid.show.gallery import Album
from pellucid.study import Study

STUDY = """
seed = 0
[images]
phantom = "grains(count=60, size=(32, 32), experts=2)"
object = "object"
[fit]
epochs = 1
width = 4
depth = 2
augment = false
[explain]
methods = ["gradient", 'lrp(composite="epsilon_plus_flat")', 'lrp(composite="epsilon_alpha2_beta1_flat")']
images = 6
require_mask = true
[evaluate]
metrics = ["insertion(steps=4)", "relevance_mass", 'augmentation_robustness(transforms=("brightness",), steps=1)']
mask = ["expert_1", "expert_2"]
[pipeline]
pool = ["sum", "max"]
aggregate = ["rank", "data_max"]
[run]
threads = 1
"""


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Study:
    home = tmp_path_factory.mktemp("pipeline")
    (home / "grain.toml").write_text(STUDY)
    made = Study.create(home / "grain.toml", home / "out")
    made.run()
    return made


@pytest.fixture(scope="module")
def page(graded: Study) -> str:
    return write_report(graded).read_text(encoding="utf-8")


def effects(*rows: dict[str, object]) -> pa.Table:
    plain: dict[str, object] = {
        "factor": "pool", "level": "max", "reference": "sum", "side": "faithfulness-side", "winner": "a", "winner_reference": "a",
        "changed": 0, "n": 10, "low": 0.0, "high": 0.0, "tau": 1.0, "moved": "a", "rank_reference": 1.0, "rank": 1.0, "share": 0.0,
    }  # fmt: skip
    return pa.Table.from_pylist([plain | row for row in rows], schema=EFFECTS)


def test_the_report_answers_what_each_choice_changed(page: str) -> None:
    for heading in ("What each choice changed", "One method, several settings", "All methods in one map", "How far the annotators agree",
                    "Maps against the model when the image changes", "The metrics"):  # fmt: skip
        assert heading in page
    assert 'href="#pipeline"' in page


def test_settings_of_one_method_stand_side_by_side_with_their_correlation(graded: Study) -> None:
    album = Album(graded, graded.chosen[:2])
    ((name, tiles, alike),) = pipeline.settings(album, graded.chosen[0])
    assert name == "lrp"
    assert [tile.method for tile in tiles] == [method for method in graded.methods if method.startswith("lrp")]
    assert "lrp(epsilon_plus_flat) and lrp(epsilon_alpha2_beta1_flat)" in alike


def test_a_consensus_is_drawn_for_every_level(graded: Study) -> None:
    tiles = pipeline.consensus(Album(graded, graded.chosen[:2]), graded.chosen[0])
    assert [tile.label for tile in tiles] == ["rank", "data_max"]
    assert all(tile.src and tile.scale > 0 for tile in tiles)
    assert "mean of 3 methods after rank, its median as zero" in tiles[0].steps


def test_a_table_of_effects_says_what_stands_in_it() -> None:
    told = pipeline.effect_table(
        effects({"winner": "b", "changed": 4, "tau": 0.5, "moved": "a", "rank": 2.0, "share": 0.25}),
        "faithfulness-side",
    )
    assert told is not None
    ((name, cells),) = told.rows
    assert name == "channel pooling: max"
    assert [cell.text for cell in cells] == ["sum", "b instead of a", "4/10 images", "0.50", "a, 1 → 2", "25.0 %"]
    assert pipeline.effect_table(effects({}), "plausibility") is None


def test_chance_is_a_line_and_no_row() -> None:
    chart = pipeline.changed_chart(effects({}, {"factor": "images", "level": "another half", "changed": 50, "n": 200}))
    assert chart is not None
    axes = chart.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["channel pooling: max"]
    assert any(
        line.get_xdata()[0] == 0.25
        for line in axes.lines
        if len(set(line.get_xdata())) == 1 and line.get_linestyle() != "-"
    )
    assert pipeline.changed_chart(effects()) is None


def test_the_ceiling_stands_beside_every_localisation_metric(graded: Study) -> None:
    chart = pipeline.ceiling_chart(graded)
    assert chart is not None
    assert [axes.get_title(loc="left") for axes in chart.axes] == ["relevance_mass"]
    ceiling = graded.tables["ceilings"]["value"][0].as_py()
    assert any(line.get_xdata()[0] == pytest.approx(ceiling) for line in chart.axes[0].lines)


def test_curves_start_at_one_and_hold_the_models_own(graded: Study) -> None:
    chart = pipeline.augmentation_chart(graded.tables["augmentation"])
    assert chart is not None
    lines = {line.get_label(): list(line.get_ydata()) for line in chart.axes[0].lines}
    assert "the model's answer" in lines
    assert len(lines) == 4
    assert all(values[1] == 1 for values in lines.values())


def test_what_a_hole_gives_away_is_told_with_its_interval() -> None:
    row = {"hole": "its box", "outline": 0.8, "outline_low": 0.7, "outline_high": 0.9, "chance": 0.5, "fill": "greyed out", "drop": 1.0,
           "drop_low": None, "drop_high": None, "kept": 3, "n": 9}  # fmt: skip
    told = pipeline.leak_table(pa.Table.from_pylist([row], schema=LEAK))
    assert told is not None
    assert [cell.text for cell in told.rows[0][1]] == ["0.80 [0.70, 0.90]", "0.50", "1.00", "3/9"]
    assert pipeline.leak_table(LEAK.empty_table()) is None


def test_a_study_without_a_pipeline_still_says_which_metric_decides(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "metric: insertion" in text
    assert "All methods in one map" not in text
