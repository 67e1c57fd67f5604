import json
import os
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.images.phantoms import cells
from pellucid.models import Model, Source, residual_net, save_model
from pellucid.study import Study, runner

STUDY = """\
[images]
path = "data"
labels = "labels.csv"
masks = ["object", "truth"]
group = "group"
[model]
weights = "net.safetensors"
[explain]
methods = ["saliency", "gradcam"]
images = 4
[evaluate]
metrics = ["relevance_mass", "sparseness"]
mask = "truth"
"""

NET = {"classes": 2, "channels": 3, "dims": 2, "width": 4, "depth": 2, "stem_stride": 2}


@pytest.fixture(autouse=True)
def short_report(monkeypatch):
    """The report has tests of its own; here it need only be asked for."""
    shown = SimpleNamespace(write_report=lambda study, path: path.write_text("report"))
    monkeypatch.setitem(sys.modules, "pellucid.show", shown)


@pytest.fixture
def bench(tmp_path):
    cells(8, size=(24, 24)).write(tmp_path / "data")
    network = residual_net(**NET).eval()
    source = Source(factory="pellucid.models.networks:residual_net", settings=NET)
    classes = ("control", "treated")
    save_model(Model(network, classes=classes, task="classification", source=source), tmp_path / "net.safetensors")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result):
    """Exit code 2 and one sentence on stderr."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("pellucid: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    return result.stderr


def test_run_ends_with_zero_and_says_where_the_report_is(bench):
    result = call("run", bench / "study.toml", "--out", bench / "out")
    assert result.exit_code == 0, result.output
    assert f"report: {bench / 'out' / 'report.html'}" in result.stdout
    assert Study(bench / "out").scores.table.num_rows == 4 * 4 * 2


def test_without_out_the_study_goes_beside_its_file(bench):
    (bench / "study.toml").rename(bench / "leaves.toml")
    assert call("run", bench / "leaves.toml").exit_code == 0
    assert Study(bench / "leaves").findings is not None


def test_running_the_studys_own_file_goes_on_with_it(bench):
    call("run", bench / "study.toml", "--out", bench / "out")
    part = bench / "out" / "scores" / "part-00000.parquet"
    before = part.stat().st_mtime_ns
    assert call("run", bench / "out" / "study.toml").exit_code == 0
    assert part.stat().st_mtime_ns == before


def test_failed_images_are_listed_with_exit_code_one(bench):
    (bench / "data" / "images" / "cell_00003.png").write_bytes(b"no picture")
    result = call("run", bench / "study.toml", "--out", bench / "out")
    assert result.exit_code == 1
    assert "cell_00003.png" in result.stderr


def test_a_misspelt_key_is_one_sentence_with_its_line(bench):
    (bench / "study.toml").write_text(STUDY.replace("metrics =", "metrcs ="))
    for command in ("run", "check"):
        said = refused(call(command, bench / "study.toml"))
        assert "study.toml:12:" in said
        assert "did you mean metrics" in said


def test_a_missing_study_file_is_one_sentence(bench):
    assert "there is no study file" in refused(call("run", bench / "no.toml"))


def test_a_missing_mask_file_is_one_sentence(bench):
    (bench / "data" / "masks" / "truth" / "cell_00002.png").unlink()
    assert "cell_00002" in refused(call("run", bench / "study.toml", "--out", bench / "out"))


def test_a_label_that_is_no_class_is_one_sentence(bench):
    (bench / "study.toml").write_text(STUDY.replace("[model]", '[model]\nclasses = ["control", "other"]'))
    assert "'treated' is no class" in refused(call("run", bench / "study.toml"))


class Payload:
    def __reduce__(self):
        return (os.mkdir, (os.environ["PELLUCID_PAYLOAD"],))


def test_weights_that_could_execute_code_are_refused_and_do_not(bench, monkeypatch):
    monkeypatch.setenv("PELLUCID_PAYLOAD", str(bench / "executed"))
    torch.save(Payload(), bench / "net.pt")
    (bench / "study.toml").write_text(STUDY.replace("net.safetensors", "net.pt"))
    for command in ("run", "check"):
        assert "could execute code" in refused(call(command, bench / "study.toml"))
    assert not (bench / "executed").exists()


def test_weights_that_cannot_be_unpickled_are_one_sentence(bench):
    (bench / "net.pt").write_bytes(pickle.dumps({"a": 1})[:-3])
    (bench / "study.toml").write_text(STUDY.replace("net.safetensors", "net.pt"))
    assert "net.pt" in refused(call("run", bench / "study.toml"))


def test_an_interrupted_run_ends_with_130_and_keeps_its_parts(bench, monkeypatch):
    (bench / "study.toml").write_text(STUDY + "[run]\nshard = 1\n")
    real = runner.run_task

    def interrupted(job):
        if job.task == 2:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(runner, "run_task", interrupted)
    result = call("run", bench / "study.toml", "--out", bench / "out")
    assert result.exit_code == 130
    assert "finished parts are kept" in result.stderr
    monkeypatch.setattr(runner, "run_task", real)
    assert len(list((bench / "out" / "scores").iterdir())) == 2
    assert call("run", bench / "study.toml", "--out", bench / "out").exit_code == 0


def test_check_tells_what_it_saw_and_writes_nothing(bench):
    before = sorted(bench.rglob("*"))
    result = call("check", bench / "study.toml")
    assert result.exit_code == 0, result.output
    assert "8 of C 3 × Y 24 × X 24, 2 classes" in result.stdout
    assert re.search(r"explaining: [1-9]\d* forwards and [1-9]\d* backwards, (less than|about) ", result.stdout)
    assert sorted(bench.rglob("*")) == before


def test_check_tells_what_would_fail(bench):
    text = STUDY.replace('masks = ["object", "truth"]\n', "").replace('mask = "truth"\n', "")
    (bench / "study.toml").write_text(text.replace('"gradcam"', "\"gradcam(at='nowhere')\""))
    result = call("check", bench / "study.toml")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
    assert "relevance_mass need" in result.stderr


def test_check_refuses_a_corrupt_first_image_and_a_mask_that_is_not_there(bench):
    (bench / "study.toml").write_text(STUDY.replace('mask = "truth"', 'mask = "thruth"'))
    assert "'thruth' is no mask" in refused(call("check", bench / "study.toml"))


def test_the_data_folder_can_be_given_on_the_command_line(bench):
    (bench / "data").rename(bench / "elsewhere")
    assert "data" in refused(call("check", bench / "study.toml"))
    assert call("check", bench / "study.toml", "--data", bench / "elsewhere").exit_code == 0


@pytest.mark.parametrize("command", ["methods", "metrics"])
def test_the_catalogues_are_for_people_and_machines(command):
    rows = json.loads(call(command, "--json").stdout)
    assert {"saliency" if command == "methods" else "insertion"} <= {row["name"] for row in rows}
    assert all({"name", "settings", "needs", "cost", "reference"} <= set(row) for row in rows)
    assert rows[0]["name"] in call(command).stdout


def test_report_of_what_is_no_study_is_one_sentence(tmp_path):
    assert "holds no study" in refused(call("report", tmp_path))


def test_a_wrong_option_is_exit_code_two():
    assert call("run").exit_code == 2
    assert call("demo", "--phantom", "moon").exit_code == 2


def test_the_demonstration_refuses_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds no demonstration" in refused(call("demo", "--out", tmp_path))


def test_the_console_script_gives_the_exit_code_and_no_traceback(bench):
    command = [sys.executable, "-c", "from pellucid.cli import main; main()", "run", str(bench / "no.toml")]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert not result.stdout
