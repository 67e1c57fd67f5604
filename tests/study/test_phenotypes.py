"""Measured phenotypes in a study: asked for by a table, moved by a generator that is fitted once, told in the report."""

import csv
import shutil
from pathlib import Path

import pytest

from pellucid.errors import BadStudy
from pellucid.study import Study
from pellucid.study.config import read_config
from pellucid.study.latent_names import name_latent, read_names
from pellucid.study.store import Store

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "rbc_shape"

GRAINS = """phantom = 'grains(count=80, size=(24, 24), defect="fusarium")'"""
ASKED = """\
[phenotypes]
generator = "faithful_autoencoder(steps=25, width=4, latents=5, batch_size=8)"
phenotypes = ["AreaShape_Area", "Intensity_MeanIntensity_green", "Background_MeanIntensity"]
mask = "object"
images = 4
training = 44
permutations = 20
doses = [-1, 1]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("phenotypes")
    (folder / "a.toml").write_text(tiny(ASKED, images=GRAINS))
    made = Study.create(folder / "a.toml", folder / "out")
    assert made.run().num_rows == 0
    return made


def test_every_phenotype_is_told_with_its_unit_and_what_came_of_it(study):
    rows = study.tables["phenotype_doses"].to_pylist()
    assert {row["unit"] for row in rows if row["phenotype"] == "AreaShape_Area"} <= {"µm²"}
    assert all(
        row["verdict"]
        in {
            "moves",
            "not separable",
            "with others held",
            "no more than any way",
            "no effect seen",
            "not moved",
            "not held",
        }
        for row in rows
    )
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
def test_misspelt_settings_name_their_line(tmp_path, tiny, line, said):
    table = tiny(f"[phenotypes]\n{line}", images=GRAINS)
    (tmp_path / "a.toml").write_text(table)
    with pytest.raises(BadStudy, match=said):
        read_config(tmp_path / "a.toml")


CELLS = """\
[images]
path = "cells"
labels = "labels.csv"
masks = ["mask"]
object = "mask"
split = "split"
group = "smear"
batch = "batch"
size = [24, 24]
[fit]
epochs = 1
width = 4
depth = 2
[explain]
methods = ["saliency"]
images = 8
[evaluate]
metrics = ["sparseness"]
self_test = false
[phenotypes]
generator = "faithful_autoencoder(steps=10, width=4, latents=4, batch_size=8)"
phenotypes = ["AreaShape_Area", "Background_MeanIntensity"]
images = 6
permutations = 20
doses = [-1, 1]
target = "elliptocyte"
[run]
threads = 1
"""


@pytest.mark.data
def test_where_a_class_is_its_own_batch_association_says_nothing_and_regions_are_edited(tmp_path):
    """Every elliptocyte is of 2021, every other red blood cell of 2019."""
    if not REAL.exists():
        pytest.skip("the real red blood cells are not beside the checkout")
    with (REAL / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = [
        row
        for label in ("elliptocyte", "ovalocyte", "normal")
        for split, count in (("train", 24), ("val", 6), ("test", 8))
        for row in [row for row in rows if (row["label"], row["split"]) == (label, split)][:count]
    ]
    for row in chosen:
        for column in ("image", "mask"):
            (tmp_path / "cells" / row[column]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REAL / row[column], tmp_path / "cells" / row[column])
    with (tmp_path / "cells" / "labels.csv").open("w") as file:
        writer = csv.DictWriter(file, chosen[0].keys())
        writer.writeheader()
        writer.writerows(chosen)
    (tmp_path / "a.toml").write_text(CELLS)
    study = Study.create(tmp_path / "a.toml", tmp_path / "out")
    study.run()
    told = {one["id"]: one for one in study.findings}
    (court,) = [one for name, one in told.items() if name.startswith("court-")]
    assert "not separable by association. Only edits of regions" in court["statement"]
    assert court["verdict"] == "undecided"
    assert study.tables["phenotype_court"]["overlap"].null_count == 1
    assert study.tables["phenotype_profiles"].num_rows == 0
    assert any("batch" in name for name in told if not name.startswith("court-")), sorted(told)
