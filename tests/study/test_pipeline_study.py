"""A study with a pipeline: scored part by part, resumed, and read."""

import pyarrow.parquet as pq
import pytest

from pellucid.errors import BadStudy
from pellucid.study import Study
from pellucid.study.config import read_config

PIPELINE = """[pipeline]
pool = ["sum", "max"]
normalise = ["none", "data_max"]
aggregate = ["rank", "zscore"]
[run]"""


@pytest.fixture
def study(bench, changed):
    toml = changed(("[run]", PIPELINE), ('"gradcam"', '"input_x_gradient"'))
    made = Study.create(toml, bench / "study")
    made.run()
    return made


def choices(study):
    return {path.name: path.read_bytes() for path in sorted((study.path / "choices").glob("part-*.parquet"))}


def rows(study):
    return [row for path in sorted((study.path / "choices").glob("part-*")) for row in pq.read_table(path).to_pylist()]


def test_every_map_is_scored_under_every_choice_and_the_reference_is_the_plain_score(study):
    told = rows(study)
    ways = {(row["method"], row["pool"], row["normalise"], row["aggregate"]) for row in told}
    assert len(ways) == 5 * 3 + 2  # three methods and two controls; reference, max, data_max; two consensus maps
    plain = {(row["image"], row["method"], row["metric"]): row["value"] for row in study.scores.table.to_pylist()}
    first = [row for row in told if (row["pool"], row["normalise"], row["aggregate"]) == ("sum", "none", "")]
    assert len(first) == len(plain)
    for row in first:
        assert row["value"] == pytest.approx(plain[row["image"], row["method"], row["metric"]], rel=1e-4, abs=1e-6)


def test_what_each_choice_changes_is_a_finding_and_a_table(study):
    factors = set(study.tables["choice_effects"]["factor"].to_pylist())
    assert {"pool", "normalise", "aggregate", "consensus"} <= factors
    told = {finding["id"]: finding for finding in study.findings if finding["kind"] == "choice"}
    assert told["choice-normalise"]["verdict"] == "refuted"  # no score depends on the scale of a map


def test_a_killed_pipeline_goes_on_and_ends_bitwise_equal(study):
    before = choices(study)
    for name in list(before)[1:]:
        (study.path / "choices" / name).unlink()
    findings = study.findings
    study.run()
    assert choices(study) == before
    assert study.findings == findings


def test_a_begun_study_refuses_another_pipeline(study, changed):
    with pytest.raises(BadStudy, match=r"pipeline\.pool"):
        Study.create(changed(('"sum", "max"', '"sum", "l2"')), study.path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('pool = ["sum", "sum"]', "each level once"),
        ('pool = ["median"]', "pool"),
        ('pole = ["sum"]', "did you mean pool"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused_with_its_line(changed, wrong, told):
    with pytest.raises(BadStudy, match=told):
        read_config(changed(("[run]", f"[pipeline]\n{wrong}\n[run]")))


def test_a_phantom_needs_no_folder(tmp_path):
    toml = tmp_path / "study.toml"
    toml.write_text('[images]\nphantom = "grains(count=10, size=(24, 24), experts=2)"\n[fit]\nepochs = 1\n')
    images = Study.create(toml, tmp_path / "out").images
    assert len(images) == 10
    assert images.group_column == "group"
    assert {"expert_1", "expert_2"} <= set(images.masks)
    toml.write_text('[images]\nphantom = "barley"\n[fit]\n')
    with pytest.raises(BadStudy, match="no phantom 'barley'"):
        read_config(toml)
    toml.write_text('[images]\nphantom = "grains"\npath = "x"\n[fit]\n')
    with pytest.raises(BadStudy, match="not both"):
        read_config(toml)
