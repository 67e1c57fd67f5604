"""Conclusions of a large study rest on a fair sample of its images; means are those of all."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pellucid.evaluation import Scores, rank
from pellucid.study import Study
from pellucid.study.toml import read_toml, spelt_toml


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_bench):
    return new_bench(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def study(home):
    text = (home / "study.toml").read_text().replace("[evaluate]\n", "[evaluate]\nranked = 3\n")
    (home / "ranked.toml").write_text(text)
    study = Study.create(home / "ranked.toml", home / "ranked")
    study.run()
    return study


def test_the_ranking_is_that_of_the_first_whole_tasks(study):
    assert study.ranked_images == study.chosen[:4]
    assert len(study.scores) == 2 * len(study.ranked_scores)
    table = study.scores.table
    own = table.filter(pc.is_in(table["image"], pa.array(study.ranked_images)))
    assert study.ranking.table.equals(rank(Scores(own), seed=3).table)
    assert {row["n"] for row in study.ranking.table.to_pylist()} == {4}


def test_findings_and_report_rest_on_the_same_images_and_say_so(study):
    assert set(study.tables["cases"]["image"].to_pylist()) <= set(study.ranked_images)
    page = study.report().read_text()
    assert "rest on 4 of them" in page
    assert "mean score ± its standard error" in page


def test_means_are_those_of_all_images(study):
    for row in study.means.to_pylist():
        table = study.scores.table
        own = table.filter(pc.and_(pc.equal(table["metric"], row["metric"]), pc.equal(table["method"], row["method"])))
        values = own["value"].drop_null().to_numpy()
        assert row["images"] == len(values) == 8
        assert row["mean"] == pytest.approx(values.mean())
        assert row["deviation"] == pytest.approx(values.std(ddof=1))


def test_a_ranking_of_all_images_needs_no_means(home):
    text = (home / "study.toml").read_text().replace("[evaluate]\n", "[evaluate]\nranked = 0\n")
    (home / "all.toml").write_text(text)
    study = Study.create(home / "all.toml", home / "all")
    study.run()
    assert study.means is None
    assert study.ranked_images == study.chosen
    assert "first in the order of hash" not in study.report().read_text()


def test_a_study_begun_before_there_was_the_choice_goes_on(study, home):
    values = dict(read_toml(study.path / "study.toml").values)
    del values["evaluate"]["ranked"]
    (study.path / "study.toml").write_text(spelt_toml(values))
    assert Study.create(home / "study.toml", study.path).config.evaluate.ranked == 2500
