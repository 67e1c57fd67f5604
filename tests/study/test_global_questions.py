"""A study that asks for concepts, similar cases and strategies: answered once, kept, and shown in the report."""

import csv

import pytest

from pellucid.errors import BadStudy
from pellucid.images.phantoms import cells
from pellucid.study import Study, inquiries
from pellucid.study.config import read_config
from pellucid.study.setup import Setup

ASKED = """\
[calibrate]
images = 24
[concepts]
csv = "marked.csv"
phenotypes = ["Area"]
runs = 200
parts = 3
[examples]
pose = "turned"
queries = 3
[strategies]
view = "pca"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    home = tmp_path_factory.mktemp("global")
    phantom = cells(200, size=(28, 28), rule="membrane_ring")
    phantom.write(home / "cells")
    with (home / "marked.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["image", "bright_rim", "guess"])
        for row, (name, ring) in enumerate(
            zip(phantom.images.ids, phantom.factors["membrane_ring"].to_pylist(), strict=True)
        ):
            sheet.writerow([name, "yes" if ring > 0.2 else "no", "" if row % 3 else row % 2])
    text = tiny(ASKED, fit="epochs = 8\nwidth = 8\ndepth = 3", methods='["input_x_gradient", "gradient"]', count=0)
    (home / "study.toml").write_text(text)
    made = Study.create(home / "study.toml", home / "out")
    failures = made.run()
    assert failures.num_rows == 0
    return made


def test_the_planted_concept_is_claimed_and_the_guess_is_not(study):
    claims = {one["id"]: one for one in study.findings if one["kind"] == "concept"}
    assert "rises with bright rim" in claims["concept-bright_rim-treated"]["statement"]
    assert "falls with bright rim" in claims["concept-bright_rim-control"]["statement"]
    assert not any("guess" in name for name in claims)
    (summary,) = [one for one in study.findings if one["id"] == "concepts"]
    assert "guess" in summary["statement"]
    rows = study.tables["concepts"].to_pylist()
    assert {row["concept"] for row in rows} == {"bright_rim", "guess", "AreaShape_Area"}
    assert len({row["layer"] for row in rows}) > 1


def test_cases_prototypes_and_strategies_are_kept_as_tables(study):
    tables = study.tables
    assert set(tables["neighbours"]["relation"].to_pylist()) >= {"nearest", "same", "other"}
    assert set(tables["neighbours"]["pose"].to_pylist()) == {"turned"}
    assert tables["neighbour_precision"]["shared"].to_pylist() == ["label"]
    assert len(tables["similarity"]["first"][0]) == 28 * 28
    assert {row["kind"] for row in tables["prototypes"].to_pylist()} == {"prototype", "criticism"}
    assert set(tables["concept_parts"]["called"].to_pylist()) <= {"control", "treated"}
    assert any(one["kind"] == "strategy" or one["id"] == "strategies" for one in study.findings)


def test_what_was_answered_is_not_asked_again(study, monkeypatch):
    def never(setup, evidence):
        raise AssertionError("asked again")

    again = tuple(inquiries.Inquiry(one.name, never) for one in inquiries.INQUIRIES)
    monkeypatch.setattr(inquiries, "INQUIRIES", again)
    told = inquiries.answered(Setup.open(study.path), None, [])
    assert told == study.findings[-len(told) :]
    assert {one["kind"] for one in told} >= {"concept", "strategy"}


def test_the_report_shows_tables_pictures_and_rules(study):
    page = study.report().read_text()
    for anchor in ("concepts", "examples", "strategies"):
        assert f'<section id="{anchor}">' in page
        assert f'href="#{anchor}"' in page
    own = page[page.index('<section id="concepts">') :]
    assert "bright_rim" in own
    assert "200 random" in own
    assert own.count("<img") > 20
    assert "near in the picture is near in truth" in own
    assert "Images of the query's own group are left out" in own


def test_what_a_table_cannot_mean_is_refused_with_its_line(tmp_path):
    def checked(text):
        file = tmp_path / "study.toml"
        file.write_text('[images]\nphantom = "grains"\n[fit]\n' + text)
        return read_config(file)[0]

    with pytest.raises(BadStudy, match="give csv, phenotypes"):
        checked("[concepts]\nruns = 5\n")
    with pytest.raises(BadStudy, match="no key 'querys'"):
        checked("[examples]\nquerys = 5\n")
    assert checked('[concepts]\ncsv = "marked.csv"\n').concepts.csv == tmp_path / "marked.csv"
    assert checked("[strategies]\n").strategies.view == "tsne"


def test_planted_changes_recommend_a_method_and_the_report_says_which(study):
    (finding,) = [one for one in study.findings if one["kind"] == "recommended"]
    rows = study.tables["planted_ranking"].to_pylist()
    chosen = next(row for row in rows if row["chosen"])
    assert chosen["method"] == finding["subject"] == "input_x_gradient"
    assert finding["verdict"] == "supported"
    assert chosen["proportion"] == pytest.approx(finding["value"])
    assert {row["method"] for row in rows} >= {"input_x_gradient", "gradient", "random_map"}
    page = (study.path / "report.html").read_text()
    assert 'id="calibrate"' in page
    assert finding["statement"] in page
