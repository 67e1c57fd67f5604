import copy

import numpy as np
import pytest
import torch

import pellucid
from pellucid.errors import CannotExplain, ShapeError, UntrustedModel
from pellucid.models import Normalise, load_model, weights_hash
from pellucid.models.sources.bioimageio_older import modernised

from .conftest import SOURCE, onnx_model

METHODS = ["gradient", "lrp", "deeplift", "gradcam", "occlusion(window=4, stride=4)"]


def prepared(images):
    """What the package's own preprocessing gives, by hand, image by image."""
    rows = images.double().flatten(1)
    rows = 255 * rows
    return (
        ((rows - rows.mean(1, keepdim=True)) / (rows.std(1, correction=0, keepdim=True) + 1e-6)).float().view_as(images)
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_a_package_explains_as_its_network_does_on_images_that_it_prepared(package, zipped):
    made = package()
    path = made.write()
    path = made.zipped() if zipped else path
    model = load_model(path, trust=True)
    images = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.prepare(images)[0], prepared(images), atol=1e-5, rtol=1e-5)
    for method in METHODS:
        e, bare = pellucid.explain(model, images, method), pellucid.explain(made.net, prepared(images), method)
        torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=1e-4)


def test_the_description_says_classes_task_and_axes_and_its_test_is_repeated(package):
    model = load_model(package().write(), trust=True)
    assert (model.classes, model.task) == (("a", "b", "c"), "classification")
    assert model.capabilities.spatial_rank == 2
    assert model.capabilities.layers
    assert model.source.kind == "bioimageio"
    assert any("multiplied by 255" in note for note in model.source.notes)
    said = next(note for note in model.source.notes if "reproduced" in note)
    assert float(said.split("to ")[1].split()[0]) < 1e-6


def test_a_row_never_depends_on_the_others(package):
    model = load_model(package().write(), trust=True)
    images = torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.prepare(images)[0][2:3], model.prepare(images[2:3])[0], atol=0, rtol=0)


def test_an_output_that_is_not_the_test_output_is_refused_with_how_far_it_lies(package):
    path = package().write(wrong=0.25)
    with pytest.raises(CannotExplain, match=r"missed by up to 0\.25 .*allows 0\.001"):
        load_model(path, trust=True)
    model = load_model(path, trust=True, settings={"test": False})
    assert not any("reproduced" in note for note in model.source.notes)


def test_the_package_may_allow_more(package):
    made = package()
    made.told["config"] = {"bioimageio": {"reproducibility_tolerance": [{"absolute_tolerance": 0.01}]}}
    assert load_model(made.write(wrong=0.005), trust=True).classes == ("a", "b", "c")


def test_without_trust_nothing_of_it_runs_and_a_factory_of_ones_own_does(package, tmp_path, monkeypatch):
    made = package()
    path = made.write()
    with pytest.raises(UntrustedModel, match=r"calling Net of net\.py.*factory=.*trust='sha256:"):
        load_model(path)
    (tmp_path / "own_net_of_a_user.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    model = load_model(path, factory="own_net_of_a_user:Net", settings={"classes": 3})
    torch.testing.assert_close(model.network(prepared(made.images)), made.net(prepared(made.images)))
    assert load_model(path, trust=f"sha256:{weights_hash(path)}").source.settings == {"classes": 3}
    assert not list(path.rglob("*.pyc"))


def test_torchscript_weights_open_with_trust_and_without_layers(package):
    made = package()
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(made.net, prepared(made.images)), made.root / "net.ts")
    made.told["weights"]["torchscript"] = {"source": "net.ts", "pytorch_version": "2.6", "parent": "pytorch_state_dict"}
    path = made.write()
    with pytest.raises(UntrustedModel, match="TorchScript weights, a program of their own"):
        load_model(path, settings={"weights": "torchscript"})
    model = load_model(path, trust=True, settings={"weights": "torchscript"})
    assert not model.capabilities.layers
    e, bare = (
        pellucid.explain(one, made.images, "gradient") for one in (model, pellucid.Model(made.net, preprocess=prepared))
    )
    torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=1e-4)


def test_onnx_weights_open_freely_and_forward_only(package):
    onnx = pytest.importorskip("onnx")
    made = package()
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                              torch.nn.Linear(4, 2)).eval()  # fmt: skip
    graph = onnx_model(net)
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(graph, made.root / "net.onnx")
    made.net = net
    made.told["weights"]["onnx"] = {"source": "net.onnx", "opset_version": 17, "parent": "pytorch_state_dict"}
    made.told["outputs"][0]["axes"][1]["channel_names"] = ["a", "b"]
    path = made.write()
    with pytest.raises(UntrustedModel, match=r"settings=\{'weights': 'onnx'\}"):
        load_model(path)
    model = load_model(path, settings={"weights": "onnx"})
    assert model.capabilities.gradients is False
    assert any("reproduced" in note for note in model.source.notes)


def test_a_network_that_takes_channels_last_is_given_them(package):
    made = package(axes="byxc")
    last = SOURCE.replace("self.conv(x)", "self.conv(x.movedim(-1, 1))")
    (made.root / "net.py").write_text(last)
    model = load_model(made.write(), trust=True)
    torch.testing.assert_close(model.network(prepared(made.images)), made.net(prepared(made.images)))
    e = pellucid.explain(model, made.images, "integrated_gradients(steps=4)")
    assert e.values.shape == made.images.shape


def test_a_shift_and_scale_becomes_one_that_can_be_undone_and_saved(package):
    made = package()
    made.told["inputs"][0]["preprocessing"] = [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 10.0}},
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 100.0, "std": 50.0}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
    ]
    wanted = (2.0 * made.raw.astype(np.float32) + 10 - 100) / 50
    model = load_model(made.write(wanted), trust=True)
    assert isinstance(model.preprocess, Normalise)
    torch.testing.assert_close(model.prepare(made.images)[0], torch.from_numpy(wanted), atol=1e-4, rtol=1e-5)


def test_percentiles_and_clipping_are_the_packages_own(package):
    made = package()
    made.told["inputs"][0]["preprocessing"] = [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], "min_percentile": 5.0, "max_percentile": 95.0}},
        {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
    ]
    values = made.raw.astype(np.float32)
    low, high = np.percentile(values, [5, 95])
    wanted = np.clip((values - low) / (high - low + 1e-6), 0, 1).astype(np.float32)
    model = load_model(made.write(wanted), trust=True)
    torch.testing.assert_close(model.prepare(made.images)[0], torch.from_numpy(wanted), atol=1e-4, rtol=1e-4)


def test_statistics_of_a_whole_data_set_are_refused_and_ones_own_preprocessing_helps(package):
    made = package()
    made.told["inputs"][0]["preprocessing"][1]["kwargs"]["axes"] = ["batch", "channel", "y", "x"]
    with pytest.raises(CannotExplain, match="statistics of a whole data set"):
        load_model(made.write(), trust=True)


def test_floating_point_packages_say_how_images_are_scaled(package):
    made = package(dtype="float32")
    path = made.write()
    model = load_model(path, trust=True)
    assert any("takes the values as they are" in note for note in model.source.notes)
    counts = torch.rand(1, 1, 12, 10)
    scaled = load_model(path, trust=True, settings={"range": 255})
    torch.testing.assert_close(model.prepare(255 * counts)[0], scaled.prepare(counts)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda told: told["weights"]["pytorch_state_dict"].update(source="https://zoo.org/w.pt"), CannotExplain,
         "nothing is downloaded"),
        (lambda told: told["weights"]["pytorch_state_dict"].update(source="../../w.pt"), UntrustedModel, "lies outside"),
        (lambda told: told["weights"]["pytorch_state_dict"].update(sha256="0" * 64), CannotExplain, "hash differs"),
        (lambda told: told["weights"]["pytorch_state_dict"].update(source="gone.pt"), CannotExplain, "not in the package"),
        (lambda told: told["weights"]["pytorch_state_dict"]["architecture"].update(callable="Other"), CannotExplain,
         r"net\.py has no Other"),
        (lambda told: told["weights"]["pytorch_state_dict"]["architecture"].update(kwargs={"classes": 4}), CannotExplain,
         "does not fit the network"),
        (lambda told: told["inputs"].append({**told["inputs"][0], "id": "second"}), CannotExplain, "inputs raw, second"),
        (lambda told: told.pop("inputs"), CannotExplain, "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(package, change, error, says):
    made = package()
    made.write()
    change(made.told)
    with pytest.raises(error, match=says):
        load_model(made.describe(), trust=True)


def test_keras_weights_are_named_and_refused(package):
    made = package()
    made.told["weights"] = {"keras_hdf5": {"source": "weights.pt", "tensorflow_version": "2.1"}}
    with pytest.raises(CannotExplain, match="weights for keras_hdf5 only"):
        load_model(made.describe(), trust=True)


def test_images_of_several_channels_are_refused_where_one_is_taken(package):
    made = package(axes="byx")
    made.told["inputs"][0]["preprocessing"][1]["kwargs"]["axes"] = ["y", "x"]
    (made.root / "net.py").write_text(SOURCE.replace("self.conv(x)", "self.conv(x[:, None])"))
    model = load_model(made.describe(), trust=True)
    torch.testing.assert_close(model.network(prepared(made.images)), made.net(prepared(made.images)))
    assert any("brings no test images" in note for note in model.source.notes)
    with pytest.raises(ShapeError, match="one channel, not of 2"):
        model.prepare(torch.rand(1, 2, 12, 10))


def test_the_range_that_is_said_is_that_of_the_test_too(package):
    made = package(dtype="float32")
    made.told["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": 0.01, "offset": -1.0}}]
    path = made.write(made.raw * np.float32(0.01) - 1)
    for scale in (1.0, 255.0):
        model = load_model(path, trust=True, settings={"range": scale})
        assert any("reproduced" in note for note in model.source.notes)
        torch.testing.assert_close(model.prepare(made.images / scale)[0], 0.01 * made.images - 1, atol=1e-5, rtol=1e-5)


VERSIONS = ["0.3.0", "0.3.2", "0.3.6", "0.4.0", "0.4.5", "0.4.10"]
STANDARD = [{"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "cyx"}}]


@pytest.mark.parametrize("version", VERSIONS)
def test_packages_of_older_formats_open_with_network_preprocessing_axes_and_test(package, version):
    made = package()
    path = made.older(version, STANDARD, prepared(made.images).numpy())
    model = load_model(path, trust=True)
    assert len(model.classes) == 3
    assert model.capabilities.spatial_rank == 2
    assert any("reproduced" in note for note in model.source.notes)
    images = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    e, bare = pellucid.explain(model, images, "lrp"), pellucid.explain(made.net, prepared(images), "lrp")
    torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=1e-4)
    with pytest.raises(UntrustedModel, match=r"calling Net of net\.py"):
        load_model(path)


@pytest.mark.parametrize(
    ("steps", "by_hand"),
    [
        ([{"name": "scale_linear", "kwargs": {"gain": 2.0, "offset": 10.0}}], lambda raw: 2 * raw + 10),
        ([{"name": "scale_linear", "kwargs": {"gain": [2.0], "offset": [10.0], "axes": "yx"}}], lambda raw: 2 * raw + 10),
        ([{"name": "zero_mean_unit_variance", "kwargs": {"mode": "fixed", "mean": [100.0], "std": 50.0, "axes": "yx"}}],
         lambda raw: (raw - 100) / 50),
        ([{"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "cyx", "min_percentile": 5, "max_percentile": 95}},
          {"name": "clip", "kwargs": {"min": 0.0, "max": 1.0}}],
         lambda raw: np.clip((raw - np.percentile(raw, 5)) / (np.percentile(raw, 95) - np.percentile(raw, 5) + 1e-6), 0, 1)),
    ],
)  # fmt: skip
def test_the_steps_of_older_formats_do_what_they_did(package, steps, by_hand):
    made = package()
    wanted = by_hand(made.raw.astype(np.float64)).astype(np.float32)
    model = load_model(made.older("0.4.10", steps, wanted), trust=True)
    torch.testing.assert_close(model.prepare(made.images)[0], torch.from_numpy(wanted), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda told: told.update(format_version="0.2.1"), "format 0.2.1; 0.3, 0.4 and 0.5 are read"),
        (lambda told: told.update(format_version="0.6.0"), "format 0.6.0; 0.3, 0.4 and 0.5 are read"),
        (lambda told: told["inputs"][0]["preprocessing"][0].update(name="stretch"), "a step 'stretch'"),
        (lambda told: told["inputs"][0]["preprocessing"][0]["kwargs"].update(mode="per_dataset"), "statistics of a whole data set"),
        (lambda told: told["weights"]["pytorch_state_dict"].pop("architecture"), "names no architecture"),
        (lambda told: told["weights"]["pytorch_state_dict"].update(architecture="https://zoo.org/net.py:Net"), "nothing is downloaded"),
        (lambda told: told["weights"]["pytorch_state_dict"].update(architecture_sha256="0" * 64), "hash differs"),
        (lambda told: told["inputs"][0].pop("axes"), "cannot be read"),
    ],
)  # fmt: skip
def test_older_packages_that_cannot_be_used_are_one_sentence(package, change, says):
    made = package()
    made.older("0.4.10", copy.deepcopy(STANDARD), prepared(made.images).numpy())
    change(made.told)
    with pytest.raises(CannotExplain, match=says):
        load_model(made.describe(), trust=True)


def test_an_output_whose_size_follows_the_input_and_several_numbers_a_channel():
    told = {
        "inputs": [{"name": "raw", "axes": "bczyx", "data_type": "uint16", "shape": [1, 2, 8, 16, 16],
                    "preprocessing": [{"name": "zero_mean_unit_variance",
                                       "kwargs": {"mode": "fixed", "axes": "zyx", "mean": [1.0, 2.0], "std": [3.0, 4.0]}}]}],
        "outputs": [{"name": "seg", "axes": "bczyx", "data_type": "float32",
                     "shape": {"reference_tensor": "raw", "scale": [1, 1.5, 1, 1, 1], "offset": [0, 1, 0, -2, -2]},
                     "postprocessing": [{"name": "sigmoid"}]}],
        "weights": {"pytorch_script": {"source": "net.ts"}},
    }  # fmt: skip
    found = modernised(told)
    assert found["inputs"][0]["preprocessing"][0] == {
        "id": "fixed_zero_mean_unit_variance", "kwargs": {"axis": "channel", "mean": [1.0, 2.0], "std": [3.0, 4.0]}
    }  # fmt: skip
    channels, depth, height = found["outputs"][0]["axes"][1:4]
    assert channels["channel_names"] == [f"channel{number}" for number in range(5)]
    assert depth == {"type": "space", "id": "z", "size": {"tensor_id": "raw", "axis_id": "z", "offset": 0}}
    assert height["size"]["offset"] == -4
    assert found["weights"] == {"torchscript": {"source": "net.ts", "pytorch_version": "1.10"}}
    spec = pytest.importorskip("bioimageio.spec.model.v0_5")
    spec.OutputTensorDescr.model_validate(found["outputs"][0])
