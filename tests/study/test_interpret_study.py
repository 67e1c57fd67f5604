"""A study interprets: its tables hold, its records follow the rule, its text resolves, and the report tells all of it."""

import json
import re
from pathlib import Path

import pytest

from pellucid.errors import BadStudy
from pellucid.images.phantoms import cells
from pellucid.interpretation import records_from_json
from pellucid.interpretation.grounded import Clause, Paragraph
from pellucid.show import write_report
from pellucid.study import Study
from pellucid.study.config import read_config
from pellucid.study.store import Store

ASKED = """\
[interpret]
panel = "core"
csv = "mine.csv"
guideline = "rules.toml"
edits = ["recolour(amount=0.02)"]
images = 12
[[interpret.claims]]
id = "size"
statement = "Larger <cells> are called treated."
author = "a biologist"
subject = "treated"
edit = "resize_object(factor=1.2)"
feature = "AreaShape_Area"
sign = "more"
agree = 3
asked = 4
"""
RULES = (
    '[[region]]\nname = "rim"\nnear = "object"\nfrom = 0.0\nto = 1.5\n[[region]]\nname = "inside"\nmask = "object"\n'
)


def lay_out(home: Path, tiny) -> Path:
    cells(100, size=(32, 32), seed=3, rule="cell_size").write(home / "cells")
    rows = "\n".join(f"cell_{number:05d},{number % 7}.5,x" for number in range(0, 100, 2))
    (home / "mine.csv").write_text(f"image,length,note\n{rows}\nzz,1,x\n")
    (home / "rules.toml").write_text(RULES)
    text = tiny(ASKED, fit="epochs = 1\nwidth = 4\ndepth = 2\naugment = false")
    (home / "study.toml").write_text(text.replace("[fit]", "spacing = [1.0, 1.0]\n[fit]", 1))
    return home / "study.toml"


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    home = tmp_path_factory.mktemp("interpret")
    found = Study.create(lay_out(home, tiny), home / "out")
    assert found.run().num_rows == 0
    return found


def test_every_table_of_the_question_is_there(study):
    tables = study.tables
    assert {
        "measures", "phenotype_differences", "edit_tests", "glass_boxes", "surrogates", "phenotype_shares", "measures_alone",
        "under_the_map", "guideline", "guideline_shares", "grounded", "dose_response", "edit_shares", "support_margins",
    } <= set(tables)  # fmt: skip
    assert set(tables["edit_tests"]["edit"].to_pylist()) == {"recolour(amount=0.02)", "resize_object"}
    assert tables["glass_boxes"]["model"].to_pylist()[0] == "black box"
    assert tables["glass_boxes"]["accuracy"][0].as_py() == pytest.approx(study.performance["accuracy"]["value"])
    assert "length" in tables["measures"].column_names
    assert tables["measures"]["length"].null_count == 10


def test_claims_have_doses_edits_are_held_against_each_other_and_the_border_is_drawn(study):
    doses, together, border = (study.tables[name] for name in ("dose_response", "edit_shares", "support_margins"))
    assert doses["dose"].to_pylist() == pytest.approx([1.05, 1.1, 1.15, 1.2])
    assert set(doses["claim"].to_pylist()) == {"size"}
    assert min(doses["spread"].to_pylist()) > 0
    rows = [row for row in together.to_pylist() if row["class"] == "treated"]
    assert {row["interpretation"] for row in rows} == {"resize_object", "recolour(amount=0.02)", "together"}
    shares = {row["interpretation"]: row["share"] for row in rows}
    assert shares["resize_object"] + shares["recolour(amount=0.02)"] == pytest.approx(shares["together"], abs=1e-9)
    known = dict(zip(study.predictions["image"].to_pylist(), study.predictions["label"].to_pylist(), strict=True))
    classes = study.images.classes
    assert all(row["label"] == classes[known[row["image"]]] for row in border.to_pylist())
    assert all((row["distance"] > 0) == (row["called"] == classes[1]) for row in border.to_pylist())


def test_the_record_is_kept_and_its_status_is_the_finding(study):
    (record,) = records_from_json((study.path / "interpret" / "records.json").read_text())
    (finding,) = [one for one in study.findings if one["id"] == "interpretation-size"]
    assert record.card["expert agreement"].value == 0.75
    assert record.card["cross-model"].told == "not tested"
    assert {"supported": "supported", "refuted": "refuted", "proposed": "undecided"}[record.status] == finding[
        "verdict"
    ]
    assert finding["value"] == record.card["edit and test"].value
    assert "# Interpretations" in (study.path / "interpret" / "records.md").read_text()
    (note,) = json.loads((study.path / "interpret" / "notes.json").read_text())
    assert "50 images have no row" in note
    assert "1 ids of the file are no image here (zz)" in note
    assert "1 columns hold no numbers and were left out (note)" in note


def test_every_clause_resolves_in_the_studys_own_tables(study):
    tables, checked = study.tables, 0
    for row in tables["grounded"].to_pylist():
        own = {"measures": tables["measures"], "predictions": study.predictions, "boxes": tables["glass_boxes"]}
        for name, table in (("differences", "phenotype_differences"), ("edits", "edit_tests")):
            rows = tables[table]
            own[name] = rows.filter([one == row["subject"] for one in rows["class"].to_pylist()]).drop_columns(
                ["class"]
            )
        Paragraph(row["subject"], (Clause(row["clause"], row["source"]),)).resolve(own)
        checked += 1
    assert checked > 20


def test_the_report_tells_it_escaped_and_without_machine_words(study, tmp_path):
    page = write_report(study, tmp_path / "report.html").read_text()
    section = page[page.index('<section id="interpret">') :]
    section = section[: section.index("</section>")]
    assert "Larger &lt;cells&gt; are called treated." in section
    assert "Could one do without the model?" in section
    assert "not tested" in section
    plain = re.sub(r"<svg.*?</svg>|<[^>]*>", "", section, flags=re.DOTALL)
    assert "Does the answer grow with the dose?" in section
    assert "Borderline images: control and treated" in section
    assert "area (µm²)" in page[page.index('<section id="interpret">') :]
    assert not re.search(r"logit\b|log-odds|tensor|embedding|softmax|None|nan|AreaShape_|resize_object", plain)


def test_the_answer_is_read_on_resume_and_made_anew_the_same(study):
    before = {
        name: table for name, table in study.tables.items() if name in {"edit_tests", "measures", "phenotype_shares"}
    }
    kept = (study.path / "interpret" / "findings.json").read_text()
    Store(study.path).forget("findings.json", "interpret/findings.json", "interpret/held_out.parquet")
    assert study.run().num_rows == 0
    assert (study.path / "interpret" / "findings.json").read_text() == kept
    assert all(study.tables[name].equals(table) for name, table in before.items())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('sign = "more"', 'sign = "bigger"', "sign does not fit"),
        ('edit = "resize_object(factor=1.2)"', 'edit = "resise_object"', "did you mean resize_object"),
        ("asked = 4", "", "agree and asked go together"),
        ('author = "a biologist"', 'autor = "a biologist"', "did you mean author"),
        ('panel = "core"', 'panel = "most"', "panel does not fit"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path, tiny, old, new, said):
    path = tmp_path / "study.toml"
    path.write_text(tiny(ASKED.replace(old, new)))
    with pytest.raises(BadStudy, match=said):
        read_config(path)
