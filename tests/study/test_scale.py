import tomllib

import pytest
import torch

from pellucid.errors import BadStudy
from pellucid.study import Study, check_study
from pellucid.study.maps import reduced
from pellucid.study.plan import Plan
from pellucid.study.toml import spelt_toml


def contents(study):
    return {path.name: path.read_bytes() for path in sorted((study.path / "scores").glob("part-*"))}


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_bench):
    return new_bench(tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="module")
def done(home):
    study = Study.create(home / "study.toml", home / "out")
    study.run()
    return study


def test_a_plan_cuts_its_images_into_tasks():
    ids = tuple(f"im{number}" for number in range(7))
    plan = Plan(batch_size=1, threads=1, device="cpu", dtype="float32", shard=3, methods=("saliency",), metrics=(), definitions={},
                ids=ids, whole=6)  # fmt: skip
    assert plan.tasks == 3
    assert [plan.images(task) for task in range(3)] == [ids[:3], ids[3:6], ids[6:]]
    assert Plan.from_settings(plan.settings("hash"), ids) == plan
    assert ids[0] not in str(plan.settings("hash"))


def test_a_manifest_that_was_changed_is_refused(done, tmp_path, home):
    study = Study.create(home / "study.toml", tmp_path / "out")
    study.run()
    manifest = study.path / "explained.parquet"
    manifest.write_bytes(manifest.read_bytes()[::-1])
    with pytest.raises(BadStudy, match="is missing or was changed"):
        len(Study(study.path).chosen)
    manifest.unlink()
    with pytest.raises(BadStudy, match="is missing or was changed"):
        Study(study.path).run()


def test_a_study_of_the_first_format_is_read_and_goes_on(done, tmp_path):
    import shutil

    old = tmp_path / "old"
    shutil.copytree(done.path, old)
    values = tomllib.loads((old / "study.toml").read_text())
    ids = list(done.chosen)
    for name in ("images", "whole", "manifest"):
        del values["plan"][name]
    values["plan"]["shards"] = [ids[start : start + 2] for start in range(0, 8, 2)]
    values["provenance"]["format"] = 1
    (old / "study.toml").write_text(spelt_toml(values))
    (old / "explained.parquet").unlink()
    for name in ("scores/part-00002.parquet", "costs/part-00002.parquet"):
        (old / name).unlink()
    study = Study(old)
    assert study.chosen == study.mapped == done.chosen
    study.run()
    assert contents(study) == contents(done)
    assert study.settings["provenance"]["format"] == 1
    assert study.report().is_file()


def test_maps_of_a_sample_in_full_and_of_all_reduced(done, home):
    text = (home / "study.toml").read_text() + "[store]\nmaps = 3\nreduced = 4\n"
    (home / "stored.toml").write_text(text)
    study = Study.create(home / "stored.toml", home / "stored")
    study.run()
    assert study.mapped == done.chosen[:4]
    assert contents(study) == contents(done)
    for method in ("saliency", "gradcam"):
        assert torch.equal(study.maps(method), done.maps(method)[:4])
        assert torch.equal(study.reduced_maps(method), reduced(done.maps(method), 4))
    with pytest.raises(BadStudy, match="first 4 images in full"):
        study.maps("saliency", [done.chosen[5]])
    with pytest.raises(BadStudy, match="no reduced maps"):
        done.reduced_maps("saliency")
    assert set(study.tables["cases"]["image"].to_pylist()) == set(study.mapped)
    assert study.report().is_file()
    assert study.export("csv").is_dir()


def test_dask_workers_give_the_same_bytes(done, home, on_dask):
    study = on_dask(Study.create(home / "study.toml", home / "dask"))
    assert contents(study) == contents(done)


def test_a_check_says_what_the_study_will_take(home):
    told = dict(note.split(": ", 1) for note in check_study(home / "study.toml").notes)
    assert told["tasks"] == "4 of 2 images"
    assert told["explaining"].split()[0].replace(",", "").isdigit()
    # 8 images, 5 methods, 3 metrics
    assert told["on disk"].endswith("about 7.2 kB of scores")
    assert int(told["testing"].split()[0].replace(",", "")) > 0
