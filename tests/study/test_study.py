import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from pellucid.attribution import METHODS, Method, explain
from pellucid.attribution.method import Taxonomy
from pellucid.errors import BadStudy, CannotExplain, UntrustedModel
from pellucid.evaluation import CONTROLS
from pellucid.study import Study, read_config
from pellucid.study.toml import read_toml, spelt_toml


def finished(bench, out="out", **options):
    study = Study.create(bench / "study.toml", bench / out)
    study.run(**options)
    return study


def parts(study, folder="scores"):
    return {path.name: path for path in sorted((study.path / folder).glob("part-*.parquet"))}


def stamps(study):
    return {name: path.stat().st_mtime_ns for name, path in parts(study).items()}


def contents(study):
    return {name: path.read_bytes() for name, path in parts(study).items()}


@pytest.fixture(scope="module")
def done(tmp_path_factory, new_bench):
    return finished(new_bench(tmp_path_factory.mktemp("done")))


def test_a_study_ends_with_scores_of_every_image_method_and_metric(done):
    table = done.scores.table
    assert table.num_rows == 8 * (3 + len(CONTROLS)) * 3
    assert set(done.methods) == {"saliency", "integrated_gradients(steps=3)", "gradcam", *CONTROLS}
    assert set(table["image"].to_pylist()) == set(done.chosen) == set(done.images.ids)
    assert done.failures.num_rows == 0


def test_controls_are_ranked_beside_the_methods(done):
    rows = [row for row in done.ranking.table.to_pylist() if row["metric"] == "overall"]
    assert {row["method"] for row in rows if row["control"]} == set(CONTROLS)


def test_stored_maps_are_what_explain_gives(done):
    ids = done.chosen[:2]
    for method in ("saliency", "gradcam"):
        fresh = explain(done.model, done.images.tensor(ids), method, ids=ids, seed=3)
        assert torch.allclose(done.maps(method, ids), fresh.values, atol=1e-6)


def test_layer_maps_keep_their_own_resolution(done):
    assert done.maps("gradcam").shape[2] < done.images.shape[1]


def test_maps_of_an_image_that_is_not_explained_are_refused(done):
    with pytest.raises(BadStudy, match="not among the 8"):
        done.maps("saliency", ["nothing.png"])


def test_each_task_is_a_part_and_a_shard_of_every_method(done):
    assert len(parts(done)) == 4
    for group in (done.path / "maps.zarr").iterdir():
        if group.is_dir():
            assert sum(path.is_file() for path in (group / "0" / "c").rglob("*")) == 4


def test_findings_are_a_list_of_the_promised_fields(done):
    fields = {"id", "kind", "subject", "statement", "evidence", "value", "low", "high", "verdict"}
    assert done.findings
    assert all(set(finding) == fields for finding in done.findings)
    assert json.loads((done.path / "findings.json").read_text()) == done.findings


def test_the_resolved_file_holds_every_choice_version_and_hash(done):
    told = done.settings
    assert told["plan"]["threads"] == 1
    assert told["plan"]["batch_size"] >= 1
    assert told["plan"]["dtype"] == "float32"
    assert told["plan"]["images"] == told["plan"]["whole"] == 8
    assert told["plan"]["manifest"] == hashlib.sha256((done.path / "explained.parquet").read_bytes()).hexdigest()
    assert told["provenance"]["versions"]["torch"] == torch.__version__
    assert len(told["provenance"]["model"]) == len(told["provenance"]["images"]) == 64
    assert told["seconds"] > 0
    assert told["peak_memory"] > 10_000_000
    assert told["plan"]["definitions"]["saliency"] == METHODS.parse("saliency").definition


def test_performance_is_there_with_intervals(done):
    accuracy = done.performance["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert done.predictions.num_rows == 8


def test_running_a_finished_study_again_touches_no_part(done):
    before, text = stamps(done), done.path.joinpath("findings.json").stat().st_mtime_ns
    done.run()
    assert stamps(done) == before
    assert done.path.joinpath("findings.json").stat().st_mtime_ns == text


def test_two_runs_from_the_same_file_are_bitwise_equal(done):
    other = finished(done.path.parent, "again")
    assert contents(other) == contents(done)
    assert other.ranking.table.equals(done.ranking.table)


def test_a_study_runs_again_from_its_own_file(done, tmp_path):
    again = Study.create(done.path / "study.toml", tmp_path / "copy")
    again.run()
    assert contents(again) == contents(done)


def test_worker_processes_give_the_same_bytes(done):
    assert contents(finished(done.path.parent, "pool", workers=2)) == contents(done)


def test_another_partition_gives_the_same_scores(done):
    bench = done.path.parent
    text = (bench / "study.toml").read_text()
    (bench / "other.toml").write_text(text.replace("shard = 2", "shard = 5"))
    other = Study.create(bench / "other.toml", bench / "five")
    other.run()
    keys = [(name, "ascending") for name in ("image", "method", "metric")]
    mine, theirs = done.scores.table.sort_by(keys), other.scores.table.sort_by(keys)
    assert mine.drop_columns(["value", "chance"]).equals(theirs.drop_columns(["value", "chance"]))
    pairs = zip(mine["value"].to_pylist(), theirs["value"].to_pylist(), strict=True)
    assert all((a is None and b is None) or a == pytest.approx(b, rel=1e-4, abs=1e-5) for a, b in pairs)


RUN = """
import sys
from pellucid.study import Study
Study.create(sys.argv[1], sys.argv[2]).run()
"""


def test_a_killed_study_resumes_keeps_its_parts_and_ends_bitwise_equal(changed, bench):
    changed(("shard = 2", "shard = 1"), ("[explain]", "[explain]\n"))
    command = [sys.executable, "-c", RUN, str(bench / "study.toml"), str(bench / "killed")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    first = bench / "killed" / "scores" / "part-00000.parquet"
    until = time.monotonic() + 60
    while not first.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    study = Study(bench / "killed")
    kept = stamps(study)
    assert 1 <= len(kept) < 8
    study.run()
    after = stamps(study)
    assert len(after) == 8
    assert {name: after[name] for name in kept} == kept
    whole = finished(bench, "whole")
    assert contents(study) == contents(whole)
    assert study.ranking.table.equals(whole.ranking.table)


def test_a_lost_part_is_done_again_alone_and_comes_back_equal(bench):
    study = finished(bench)
    before, bytes_before = stamps(study), contents(study)
    parts(study)["part-00002.parquet"].unlink()
    study.run()
    after = stamps(study)
    assert contents(study) == bytes_before
    assert {name for name in after if after[name] != before[name]} == {"part-00002.parquet"}


def test_a_corrupt_image_is_a_row_and_the_rest_is_kept(bench):
    (bench / "data" / "im05.png").write_bytes(b"no picture")
    study = Study.create(bench / "study.toml", bench / "out")
    rows = study.run().to_pylist()
    assert [(row["image"], row["stage"]) for row in rows] == [("im05.png", "read")]
    assert "im05.png" in rows[0]["sentence"]
    assert len(study.chosen) == 7
    assert study.scores.table.num_rows == 7 * 5 * 3


def test_an_image_that_breaks_after_the_plan_is_a_row_too(bench):
    study = finished(bench)
    image = study.chosen[3]
    (bench / "data" / image).write_bytes(b"no picture")
    parts(study)["part-00001.parquet"].unlink()
    rows = study.run().to_pylist()
    assert [(row["image"], row["stage"]) for row in rows] == [(image, "read")]
    assert study.scores.table.num_rows == 7 * 5 * 3
    assert bool(study.maps("saliency", [image]).isnan().all())


def test_an_unreadable_mask_is_a_row(bench):
    (bench / "data" / "masks" / "im04_truth.png").write_bytes(b"no mask")
    rows = finished(bench).failures.to_pylist()
    assert [(row["image"], row["stage"]) for row in rows] == [("im04.png", "read")]


@pytest.fixture
def picky():
    """A method that refuses dark images, and one that refuses every image."""
    taxonomy = Taxonomy(family="gradient", question="", cost="", reference="")

    class refuses_bright(Method):
        def attribute(self, call):
            if bool((call.inputs[0].mean((1, 2, 3)) > refuses_bright.limit).any()):
                raise CannotExplain("too bright")
            return METHODS.parse("saliency").attribute(call)

    class refuses_all(Method):
        def attribute(self, call):
            raise CannotExplain("never")

    refuses_bright.limit = 0.0
    for recipe in (refuses_bright, refuses_all):
        recipe.taxonomy = taxonomy
        METHODS.register(recipe)
    yield refuses_bright
    for name in ("refuses_bright", "refuses_all"):
        del METHODS._recipes[name]


def test_a_method_that_refuses_some_images_keeps_the_others(picky, changed, bench):
    changed(('["saliency"', '["refuses_bright", "saliency"'))
    study = Study.create(bench / "study.toml", bench / "out")
    means = study.model.prepare(study.images.tensor())[0].mean((1, 2, 3))
    picky.limit = float(means.median())
    bright = {image for image, mean in zip(study.images.ids, means.tolist(), strict=True) if mean > picky.limit}
    rows = study.run().to_pylist()
    assert {(row["image"], row["method"], row["stage"]) for row in rows} == {
        (i, "refuses_bright", "explain") for i in bright
    }
    assert all(row["sentence"] == "too bright" for row in rows)
    table = study.scores.table
    explained = set(table.filter(pc.equal(table["method"], "refuses_bright"))["image"].to_pylist())
    assert explained == set(study.images.ids) - bright
    assert set(table.filter(pc.equal(table["method"], "saliency"))["image"].to_pylist()) == set(study.images.ids)
    same = [image for image in study.chosen if image not in bright]
    assert torch.allclose(study.maps("refuses_bright", same), study.maps("saliency", same), atol=1e-6)


def test_a_method_that_refuses_the_model_is_told_once(picky, changed, bench):
    changed(('["saliency"', '["refuses_all", "saliency"'))
    study = finished(bench)
    rows = study.failures.to_pylist()
    assert [(row["image"], row["method"], row["sentence"]) for row in rows] == [("", "refuses_all", "never")]
    assert "refuses_all" not in study.methods


def test_a_study_in_which_no_method_works_does_not_begin(picky, changed, bench):
    changed(('["saliency", "integrated_gradients(steps=3)", "gradcam"]', '["refuses_all"]'))
    with pytest.raises(BadStudy, match="no method explains this model; never"):
        finished(bench)


def test_another_study_file_for_the_same_directory_is_refused(changed, bench):
    finished(bench)
    toml = changed(("seed = 3", "seed = 4"))
    with pytest.raises(BadStudy, match="begun with seed = 3 and the study file now says 4"):
        Study.create(toml, bench / "out")


def test_a_study_that_only_failed_to_begin_may_be_mended(changed, bench):
    changed(('weights = "net.safetensors"', 'weights = "absent.safetensors"'))
    with pytest.raises(CannotExplain, match="absent"):
        finished(bench)
    changed(("absent.safetensors", "net.safetensors"), ("seed = 3", "seed = 4"))
    assert finished(bench).config.seed == 4


def test_changed_labels_are_refused(bench):
    study = finished(bench)
    labels = bench / "data" / "labels.csv"
    labels.write_text(labels.read_text().replace("im00.png,a", "im00.png,b"))
    with pytest.raises(BadStudy, match="images or labels changed"):
        Study(study.path).run()


def test_changed_weights_are_refused(bench, new_net):
    study = finished(bench)
    new_net(bench / "net.safetensors", width=6)
    with pytest.raises(BadStudy, match="weights changed"):
        Study(study.path).run()


def test_a_changed_definition_is_refused_on_resume(bench):
    study = finished(bench)
    path = study.path / "study.toml"
    values = dict(read_toml(path).values)
    values["plan"]["definitions"]["saliency"] = "0" * 16
    path.write_text(spelt_toml(values))
    with pytest.raises(BadStudy, match="saliency is defined differently"):
        Study(study.path).run()


def test_a_moved_study_is_read_and_goes_on(bench):
    study = finished(bench)
    before = contents(study)
    shutil.move(study.path, bench / "moved")
    moved = Study(bench / "moved")
    parts(moved)["part-00001.parquet"].unlink()
    moved.run()
    assert contents(moved) == before


def test_a_directory_that_is_no_study_is_neither_opened_nor_overwritten(bench):
    (bench / "full").mkdir()
    (bench / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadStudy, match="holds no study; choose another"):
        Study.create(bench / "study.toml", bench / "full")
    with pytest.raises(BadStudy, match="holds no study"):
        Study(bench / "full")


def test_a_study_of_a_newer_format_is_refused(bench):
    study = finished(bench)
    path = study.path / "study.toml"
    path.write_text(path.read_text().replace("format = 2", "format = 99"))
    with pytest.raises(BadStudy, match="format 99"):
        Study(study.path)


def test_the_users_own_study_file_is_never_overwritten(bench):
    before = (bench / "study.toml").read_text()
    with pytest.raises(BadStudy, match="use pellucid run --out"):
        Study.create(bench / "study.toml", bench)
    assert (bench / "study.toml").read_text() == before


def test_a_net_for_other_channels_is_one_sentence(bench, new_net):
    new_net(bench / "net.safetensors", channels=4)
    with pytest.raises(Exception, match="channels") as caught:
        finished(bench)
    assert "\n" not in str(caught.value)


def test_classes_in_another_order_than_the_model_are_refused(changed, bench):
    changed(('path = "data"', 'path = "data"\nclasses = ["b", "a"]'))
    with pytest.raises(BadStudy, match="the model's classes are a, b and the images' b, a"):
        finished(bench)


def test_a_factory_that_merely_lies_about_needs_trust(changed, bench, monkeypatch):
    (bench / "mynet.py").write_text(
        "from pellucid.models import residual_net\n"
        "def build():\n"
        "    return residual_net(classes=2, channels=3, dims=2, width=4, depth=2, stem_stride=1)\n"
    )
    monkeypatch.syspath_prepend(bench)
    toml = changed(('weights = "net.safetensors"', 'weights = "net.safetensors"\nfactory = "mynet:build"'))
    with pytest.raises(UntrustedModel, match="--trust"):
        Study.create(toml, bench / "out").run()
    assert "mynet" not in sys.modules
    assert Study.create(toml, bench / "out", trust=True).run().num_rows == 0


def test_images_without_the_expert_mask_are_left_out_where_asked(changed, bench):
    from PIL import Image

    for name in ("im00", "im01", "im02"):
        Image.new("L", (16, 16)).save(bench / "data" / "masks" / f"{name}_truth.png")
    changed(("images = 0", "images = 0\nrequire_mask = true"))
    assert set(finished(bench).chosen) == {f"im{index:02d}.png" for index in range(3, 8)}


@pytest.mark.parametrize("target", ['"label"', '"b"', "1", "'LogOdds(index=1)'"])
def test_targets_may_be_labels_classes_or_values(changed, bench, target):
    changed(("images = 0", f"images = 4\ntarget = {target}"))
    study = finished(bench)
    told = set(study.scores.table["target"].to_pylist())
    assert told <= {
        "Class(index=1)",
        "Class(index=0)",
        'Class(index="b")',
        "LogOdds(index=1)",
        "Class(index=(0,))",
        "Class(index=(1,))",
    }
    assert len(told) == (2 if target == '"label"' else 1)


def test_a_target_that_means_nothing_is_refused(changed, bench):
    changed(("images = 0", 'images = 4\ntarget = "predictd"'))
    with pytest.raises(BadStudy, match="is no class"):
        finished(bench)


def test_a_second_run_of_the_same_study_at_once_is_refused(bench):
    study = finished(bench)
    with study._store.locked(), pytest.raises(BadStudy, match="another process"):
        Study(study.path).run()


def test_a_study_trains_its_model_once_and_keeps_it(changed, bench):
    labels = bench / "data" / "labels.csv"
    rows = labels.read_text().replace("test,g0", "train,g0").replace("test,g1", "train,g1").replace("test,g2", "val,g2")
    labels.write_text(rows)
    changed(('[model]\nweights = "net.safetensors"', "[fit]\nepochs = 1\nwidth = 4\ndepth = 2"))
    study = finished(bench)
    weights = study.path / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    study.run()
    assert weights.stat().st_mtime_ns == before
    assert set(study.chosen) == {"im06.png", "im07.png"}
    assert study.history.num_rows == 1


def test_a_setting_that_the_read_back_study_knows_is_the_one_given(done):
    given, _ = read_config(done.path.parent / "study.toml")
    assert done.config == given


def test_metrics_are_tested_once_and_the_result_is_kept(done, tmp_path):
    table = done.self_test.table
    assert set(table["metric"].to_pylist()) == {"relevance_mass", "insertion(steps=3)"}
    copy = tmp_path / "copy"
    shutil.copytree(done.path, copy)
    before = (copy / "selftest.parquet").stat().st_mtime_ns
    Study(copy).run()
    assert (copy / "selftest.parquet").stat().st_mtime_ns == before
    (copy / "selftest.parquet").unlink()
    Study(copy).run()
    assert (copy / "selftest.parquet").read_bytes() == (done.path / "selftest.parquet").read_bytes()
    assert (copy / "findings.json").read_bytes() == (done.path / "findings.json").read_bytes()


def test_a_metric_that_failed_its_test_has_no_say_and_is_named(done, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(done.path, copy)
    rows = [row | {"passed": row["metric"] != "insertion(steps=3)", "reason": "it cannot tell"}
            for row in done.self_test.table.to_pylist()]  # fmt: skip
    study = Study(copy)
    pq.write_table(pa.Table.from_pylist(rows, schema=done.self_test.table.schema), copy / "selftest.parquet")
    for name in ("ranking.parquet", "findings.json"):
        (copy / name).unlink()
    study.run()
    named = [finding for finding in study.findings if finding["kind"] == "metric_failed"]
    assert [finding["subject"] for finding in named] == ["insertion(steps=3)"]
    stored = pq.read_table(copy / "ranking.parquet")
    assert stored.equals(study.ranking.table)
    sides = {row["family"] for row in stored.to_pylist() if row["metric"] == "overall"}
    assert sides == {"plausibility"}
    told = {row["metric"]: row["left_out"] for row in study.ranking.metrics.to_pylist()}
    assert told["insertion"] == "it cannot tell"


def test_a_study_may_leave_the_test_of_its_metrics_out(changed, bench):
    changed(('mask = "truth"', 'mask = "truth"\nself_test = false'))
    study = finished(bench)
    assert study.self_test is None
    assert study.ranking.table.num_rows


def test_every_explained_image_has_a_verdict(done):
    table = done.tables["cases"]
    assert table["image"].to_pylist() == list(done.chosen)
    assert all(sentence.endswith(".") for sentence in table["sentence"].to_pylist())
    assert {"verdict-methods", "verdict-supports", "verdict-limits"} <= {finding["id"] for finding in done.findings}
