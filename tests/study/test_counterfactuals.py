"""Counterfactuals in a study: asked for by a table, fitted once, refused where the gate is closed."""

import pyarrow.compute as pc
import pytest

from pellucid.errors import BadStudy
from pellucid.study import Study
from pellucid.study.config import read_config

GRAINS = """phantom = 'grains(count=60, size=(24, 24), defect="fusarium")'"""
ASKED = """\
[counterfactual]
generator = "faithful_autoencoder(steps=4, width=4, latents=4, batch_size=8)"
search = "latent_optimisation(steps=4)"
images = 2
doses = [-1, 0, 1]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("counterfactual")
    (folder / "a.toml").write_text(tiny(ASKED, images=GRAINS))
    made = Study.create(folder / "a.toml", folder / "out")
    made.run()
    return made


def test_a_generator_that_learnt_nothing_is_told_and_refused(study):
    told = [row for row in study.findings if row["kind"] == "gate"]
    gate = next(row for row in told if row["id"] == "counterfactual-gate")
    assert gate["verdict"] == "refuted"
    assert "must not be read" in gate["statement"]
    checks = study.tables["counterfactual_gate"]
    assert {"class_agreement", "grain", "support"} <= set(checks["name"].to_pylist())
    assert not pc.all(checks["passed"]).as_py()
    page = study.report().read_text()
    section = page[page.index('<section id="counterfactual">') :]
    section = section[: section.index("</section>")]
    assert "Gate closed" in section
    assert "<img" not in section


def test_every_pair_is_tried_and_kept(study):
    rows = study.tables["counterfactuals"].to_pylist()
    assert {(row["source"], row["target"]) for row in rows} <= {
        pair for a in study.images.classes for b in study.images.classes if a != b for pair in [(a, b)]
    }
    kept = study.tensors("counterfactual/images.safetensors")
    assert len(kept["images"]) == len(kept["changed"]) == len(rows)
    assert kept["strips"].shape[:2] == (sum(row["strip"] is not None for row in rows), 3)
    doses = study.tables["counterfactual_doses"].to_pylist()
    assert len(doses) == 3 * len(rows)
    assert {row["score"] for row in study.tables["counterfactual_scores"].to_pylist()} >= {"validity", "proximity"}


def test_the_generator_is_fitted_once(study, monkeypatch):
    before = (study.path / "counterfactual" / "generator.safetensors").stat().st_mtime_ns
    assert not (study.path / "counterfactual" / "checkpoint.pt").exists()
    findings = [row for row in study.findings if row["kind"] == "gate"]
    for name in ("findings.json", "counterfactual/findings.json", "report.html"):
        (study.path / name).unlink(missing_ok=True)
    again = Study(study.path)
    again.run()
    assert [row for row in again.findings if row["kind"] == "gate"] == findings
    assert (study.path / "counterfactual" / "generator.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('generator = "faithful"', "no generator 'faithful'"),
        ('pairs = [["control", "control"]]', "the class to go to"),
        ("doses = [1, 2, 3]", "0, the image itself"),
        ('search = "nothing"', "no search 'nothing'"),
    ],
)
def test_misspelt_settings_name_their_line(tmp_path, tiny, line, said):
    table = tiny(f"[counterfactual]\n{line}", images=GRAINS)
    (tmp_path / "a.toml").write_text(table)
    with pytest.raises(BadStudy, match=said):
        read_config(tmp_path / "a.toml")
