"""Methods that are fitted on the training images: once, before the first image is explained, and kept in the study."""

import pytest
import torch

from pellucid import fit_patterns
from pellucid.attribution import Patterns, explain
from pellucid.errors import BadStudy
from pellucid.study import Study, check_study

METHODS = ["saliency", "pattern_net", "pattern_attribution", 'smoothgrad(samples=2, method="pattern_net")']


def bench_with(write_bench, folder, methods, *, training=True):
    bench = write_bench(folder)
    listed = ", ".join(f"'{method}'" for method in methods)
    toml = bench / "study.toml"
    toml.write_text(
        toml.read_text().replace('"saliency", "integrated_gradients(steps=3)", "gradcam"', listed)
        .replace('"relevance_mass", "sparseness", "insertion(steps=3)"', '"relevance_mass", "parameter_randomisation(stages=1)"')
    )  # fmt: skip
    labels = bench / "data" / "labels.csv"
    if training:
        labels.write_text(labels.read_text().replace("test,g0", "train,g0").replace("test,g1", "training,g1"))
    return bench


@pytest.fixture(scope="module")
def done(tmp_path_factory, new_bench):
    bench = bench_with(new_bench, tmp_path_factory.mktemp("patterns"), METHODS)
    study = Study.create(bench / "study.toml", bench / "out")
    study.run()
    return study


def test_the_runner_fits_patterns_on_the_training_images_and_keeps_them(done):
    setup = done._setup
    training = [image for image in setup.images.ids if image not in set(done.chosen)]
    assert len(training) == 4
    patterns = Patterns.load(done.path / "fitted" / "patterns.safetensors")
    # equal to rounding only: this process may run another number of threads than the study's plan
    again = fit_patterns(setup.model, setup.images.tensor(training))
    torch.testing.assert_close(dict(patterns.tensors), dict(again.tensors), rtol=1e-5, atol=1e-7)
    assert done.failures.num_rows == 0
    ids = list(done.chosen)
    x = setup.images.tensor(ids)
    stored = setup.maps.read(explain(setup.model, x, "pattern_net").method, range(len(ids)))
    own = explain(setup.model, x, "pattern_net", ids=ids, seed=done.config.seed).values
    torch.testing.assert_close(stored, own, rtol=1e-4, atol=1e-6)
    assert float(stored.abs().max()) > 0


def test_what_was_fitted_is_in_the_study_file_and_is_not_fitted_again(done):
    path = done.path / "fitted" / "patterns.safetensors"
    assert done._store.settings()["provenance"]["patterns"] == Patterns.load(path).digest
    before = path.stat().st_mtime_ns
    done.run()
    assert path.stat().st_mtime_ns == before


def test_worker_processes_open_the_same_patterns(done):
    again = Study.create(done.path.parent / "study.toml", done.path.parent / "workers")
    again.run(workers=2)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        assert (again.path / "scores" / name).read_bytes() == (done.path / "scores" / name).read_bytes()


def test_other_or_lost_patterns_are_refused_on_resume(tmp_path, new_bench):
    bench = bench_with(new_bench, tmp_path, ["pattern_net"])
    study = Study.create(bench / "study.toml", bench / "out")
    study.run()
    path = study.path / "fitted" / "patterns.safetensors"
    kept = Patterns.load(path)
    Patterns({name: tensor + 1e-3 for name, tensor in kept.tensors.items()}).save(path)
    with pytest.raises(BadStudy, match="changed since the study began"):
        Study(study.path).run()
    path.unlink()
    with pytest.raises(BadStudy, match="is gone"):
        Study(study.path).run()
    kept.save(path)
    Study(study.path).run()


def test_without_training_images_the_methods_are_left_out_with_the_reason(tmp_path, new_bench):
    bench = bench_with(new_bench, tmp_path, ["saliency", "pattern_net"], training=False)
    study = Study.create(bench / "study.toml", bench / "out")
    study.run()
    said = study.failures.to_pylist()
    assert any('with the value "train"' in row["sentence"] for row in said)
    assert {row["method"] for row in said} == {"pattern_net"}
    assert "pattern_net" not in study.methods
    assert "saliency" in study.methods


def test_a_check_tries_the_fit_on_a_few_images(tmp_path, new_bench):
    assert check_study(bench_with(new_bench, tmp_path / "a", ["pattern_net"]) / "study.toml").problems == ()
    problems = check_study(
        bench_with(new_bench, tmp_path / "b", ["pattern_net"], training=False) / "study.toml"
    ).problems
    assert any("this study names none" in problem for problem in problems)
