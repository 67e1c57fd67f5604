"""The script for Slurm runs with a cluster of this machine in the place of Slurm's."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "slurm.py"
STUDY = """
[images]
phantom = "grains(count=40, size=(24, 24))"
[fit]
epochs = 1
width = 4
depth = 2
augment = false
[explain]
methods = ["saliency"]
images = 4
[evaluate]
metrics = ["sparseness"]
self_test = false
[run]
shard = 1
threads = 1
"""


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("slurm_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_runs_a_study_and_resumes_it(script, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    (tmp_path / "study.toml").write_text(STUDY)
    asked = []

    def here(arguments):
        asked.append(arguments)
        return distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        command = [str(tmp_path / "study.toml"), "--out", str(tmp_path / "out"), "--jobs", "2", "--queue", "gpu"]
        report = script.main(command, here)
        (tmp_path / "out" / "scores" / "part-00001.parquet").unlink()
        assert script.main(command, here) == report
    assert report.is_file()
    assert len(list((tmp_path / "out" / "scores").glob("part-*"))) == 4
    assert (asked[0].jobs, asked[0].queue) == (2, "gpu")


def test_what_slurm_is_asked_for(script, monkeypatch):
    given = {}

    class Module:
        @staticmethod
        def SLURMCluster(**options):
            given.update(options)

    monkeypatch.setitem(sys.modules, "dask_jobqueue", Module)
    import argparse

    script.slurm(argparse.Namespace(queue="gpu", memory="8GB", walltime="04:00:00", gpus=1, lifetime="225m"))
    assert given["processes"] == given["cores"] == 1
    assert given["job_extra_directives"] == ["--gres=gpu:1"]
    assert given["worker_extra_args"] == ["--resources", "GPU=1", "--lifetime", "225m"]
