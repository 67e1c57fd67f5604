"""Counterfactuals in a study: asked for by a table, fitted once, refused where the gate is closed."""

import pyarrow.compute as pc
import pytest

from pellucid.counterfactual import Check
from pellucid.errors import BadStudy
from pellucid.models import Passes
from pellucid.study import Study
from pellucid.study.config import read_config

GRAINS = """phantom = 'grains(count=80, size=(24, 24), defect="fusarium")'"""
FIT = "epochs = 12\nwidth = 8\ndepth = 2\nbatch_size = 8\naugment = false"
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
    (folder / "a.toml").write_text(tiny(ASKED, images=GRAINS, fit=FIT))
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
    real, made = section.split("Gate closed")
    assert "The nearest real case" in real
    assert real.count("<img") == 2 * sum(
        row["counterfactual"] is not None for row in study.tables["counterfactual_natural"].to_pylist()
    )
    assert "<img" not in made


def test_the_nearest_real_case_is_nearest_to_the_model_and_of_another_group(study):
    table, images, model = study.tables["counterfactual_natural"].to_pylist(), study.images, study.model
    predictions = {row["image"]: row for row in study.predictions.to_pylist()}
    ids = list(predictions)
    with Passes(model) as passes:
        rows = passes.outputs(model.prepare(images.tensor(ids)), model.embedding).double().flatten(1)
    varying = rows.std(0, correction=0) > 1e-12 * rows.abs().amax(0)
    rows = rows[:, varying] / rows[:, varying].std(0, correction=0)
    group = dict(zip(ids, images.column(images.group_column, ids), strict=True))
    assert {row["image"] for row in table} == set(study.chosen)
    for row in table:
        here, target = ids.index(row["image"]), images.classes.index(row["target"])
        assert predictions[row["image"]]["predicted"] == images.classes.index(row["source"])
        away = {
            name: float((rows[place] - rows[here]).square().mean().sqrt())
            for place, name in enumerate(ids)
            if predictions[name]["predicted"] == target and group[name] != group[row["image"]]
        }
        if not away:
            assert row["counterfactual"] is None
            assert row["reason"]
            continue
        assert row["distance"] == pytest.approx(min(away.values()), rel=1e-4)
        assert away[row["counterfactual"]] == pytest.approx(row["distance"], rel=1e-4)
        assert row["counterfactual_confidence"] == predictions[row["counterfactual"]]["confidence"]


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


@pytest.fixture(scope="module")
def opened(tmp_path_factory, tiny):
    """A study whose gate lets everything pass, so that all that follows an open gate is done."""
    folder = tmp_path_factory.mktemp("opened")
    (folder / "a.toml").write_text(tiny(ASKED.replace("steps=4", "steps=60", 1), images=GRAINS, fit=FIT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Check, "passed", True)
        made = Study.create(folder / "a.toml", folder / "out")
        assert made.run().num_rows == 0
        yield made


def test_valid_changes_get_masks_and_phenotypes_and_a_resumed_study_says_the_same(opened):
    names = [name for name in opened.tables if name.startswith("counterfactual")]
    assert {
        "counterfactual_natural",
        "counterfactual_masks",
        "counterfactual_measures",
        "counterfactual_phenotypes",
    } <= set(names)
    valid = [row for row in opened.tables["counterfactuals"].to_pylist() if row["status"] == "reached"]
    chosen = [row for row in opened.tables["counterfactual_masks"].to_pylist() if row["chosen"]]
    assert [(row["image"], row["target"]) for row in chosen] == [(row["image"], row["target"]) for row in valid]
    scores = {row["score"]: row["n"] for row in opened.tables["counterfactual_scores"].to_pylist()}
    assert scores["mask_size"] == scores["mask_area"] == len(valid)
    before = {name: opened.tables[name] for name in names}
    page = opened.report().read_text()
    for name in ("findings.json", "counterfactual/findings.json", "report.html", "counterfactual/masks.safetensors",
                 "interpretation/counterfactual_masks.parquet", "interpretation/counterfactual_measures.parquet"):  # fmt: skip
        (opened.path / name).unlink()  # as after a kill on the way
    again = Study(opened.path)
    again.run()
    assert {name: again.tables[name] for name in names} == before
    section = [text[text.index('<section id="counterfactual">') :] for text in (page, again.report().read_text())]
    first, second = (text[: text.index("</section>")] for text in section)
    assert first == second
    assert first.count('class="enough"') == len(valid)


def test_real_cases_are_told_where_no_image_is_left_to_fit_a_generator_to(bench):
    with (bench / "study.toml").open("a") as file:
        file.write(ASKED)
    made = Study.create(bench / "study.toml", bench / "out")
    failed = made.run().to_pylist()
    assert [row["stage"] for row in failed] == ["counterfactual"]
    assert "not explained" in failed[0]["sentence"]
    assert set(made.tables["counterfactual_natural"]["image"].to_pylist()) == set(made.images.ids)
    page = made.report().read_text()
    assert "The nearest real case" in page
    assert "Nothing was changed" in page


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
