"""Measured phenotypes in a study: asked for by a table, moved by a generator that is fitted once, told in the report."""

import pytest

from pellucid.errors import BadStudy
from pellucid.study import Study
from pellucid.study.config import read_config
from pellucid.study.latent_names import name_latent, read_names
from pellucid.study.store import Store

STUDY = """\
[images]
phantom = 'grains(count=80, size=(24, 24), defect="fusarium")'
[fit]
epochs = 1
width = 4
depth = 2
[explain]
methods = ["saliency"]
images = 6
[evaluate]
metrics = ["sparseness"]
self_test = false
[phenotypes]
generator = "faithful_autoencoder(steps=25, width=4, latents=5, batch_size=8)"
phenotypes = ["AreaShape_Area", "Intensity_MeanIntensity_green", "Background_MeanIntensity"]
mask = "object"
images = 4
training = 44
permutations = 20
doses = [-1, 1]
[run]
threads = 1
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phenotypes")
    (folder / "a.toml").write_text(STUDY)
    made = Study.create(folder / "a.toml", folder / "out")
    assert made.run().num_rows == 0
    return made


def test_every_phenotype_is_told_with_its_unit_and_what_came_of_it(study):
    rows = study.tables["phenotype_doses"].to_pylist()
    assert {row["unit"] for row in rows if row["phenotype"] == "AreaShape_Area"} <= {"µm²"}
    assert all(row["verdict"] in {"moves", "not separable", "with others held", "no effect seen", "not moved", "not held"} for row in rows)
    numbers = {row["number"]: row for row in study.tables["phenotype_summary"].to_pylist()}
    assert numbers["outlines"]["value"] > 0.7
    assert numbers["failed"]["n"] > 0
    curves = study.tables["phenotype_curves"].to_pylist()
    assert {row["image"] for row in curves} <= set(study.chosen)
    assert {row["dose"] for row in curves} == {-1.0, 0.0, 1.0}
    told = [row for row in study.findings if row["id"].startswith(("phenotype", "needed", "court"))]
    assert told
    assert {row["kind"] for row in told} <= {"interpretation", "inseparable", "confounder", "gate", "refused"}


def test_the_report_says_what_was_measured_and_shows_no_picture_of_a_refused_generator(study):
    page = study.report().read_text()
    section = page[page.index('<section id="phenotypes">') :]
    section = section[: section.index("</section>")]
    assert "AreaShape_<wbr>Area" in section
    assert "measured again" in section
    assert ("Gate closed" in section) == (next(
        row["value"] for row in study.tables["phenotype_summary"].to_pylist() if row["number"] == "gate"
    ) == 0)  # fmt: skip
    assert "Gate closed" not in section or "<img" not in section


def test_an_experts_name_of_a_latent_stays_with_the_study(study):
    with pytest.raises(BadStudy, match="no latent 'latent 99'"):
        name_latent(study.path, "latent 99", "haze", by="A. Reader")
    with pytest.raises(BadStudy, match="given a name"):
        name_latent(study.path, "latent 0", " ", by="A. Reader")
    name_latent(study.path, "latent 0", "haze", by="A. Reader", note="the ground brightens")
    assert read_names(Store(study.path))["latent 0"] == {
        "name": "haze",
        "by": "A. Reader",
        "note": "the ground brightens",
    }
    page = Study(study.path).report().read_text()
    assert "haze (A. Reader): the ground brightens" in page


def test_the_generator_is_fitted_once_and_the_answer_is_the_same(study):
    kept = study.path / "phenotypes" / "generator.safetensors"
    before = kept.stat().st_mtime_ns
    assert not (study.path / "phenotypes" / "checkpoint.pt").exists()
    findings = study.findings
    for name in ("findings.json", "phenotypes/findings.json", "phenotypes/names.json"):
        (study.path / name).unlink(missing_ok=True)
    again = Study(study.path)
    again.run()
    assert again.findings == findings
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('generator = "faithful"', "no generator 'faithful'"),
        ('segmentation = "otsu(largest=3)"', "no setting 'largest'"),
        ("training = 10", "greater than or equal to 40"),
        ('others = "held"', "'fixed' or 'free'"),
    ],
)
def test_misspelt_settings_name_their_line(tmp_path, line, said):
    table = STUDY[: STUDY.index("[phenotypes]")] + "[phenotypes]\n" + line + "\n"
    (tmp_path / "a.toml").write_text(table)
    with pytest.raises(BadStudy, match=said):
        read_config(tmp_path / "a.toml")
