import numpy as np
import pytest
import torch

import pellucid
from pellucid.errors import CannotExplain, ShapeError, UntrustedModel
from pellucid.models import load_model, weights_hash

from .conftest import onnx_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FORWARD_ONLY = ["occlusion(window=3)", "ablation(segments=4)", "rise(samples=8)", "kernel_shap(segments=4, samples=20)"]


@pytest.fixture
def saved(tmp_path, sequential):
    def save(name="net.onnx", **settings):
        onnx.save(onnx_model(sequential, **settings), tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.parametrize("batch", ["n", 1, 2, 7])
def test_a_graph_equals_torch_whatever_batch_it_was_saved_for(saved, sequential, x, batch):
    model = load_model(saved(batch=batch), classes=("a", "b"))
    with torch.inference_mode():
        torch.testing.assert_close(model.network(x), sequential(x), atol=1e-5, rtol=0)
        torch.testing.assert_close(model.network(x[:2]), model.network(x)[:2], atol=1e-6, rtol=0)
    for method in FORWARD_ONLY:
        e, bare = pellucid.explain(model, x, method, target=1), pellucid.explain(sequential, x, method, target=1)
        torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=0)
    assert model.known.rows == (None if batch == "n" else batch)


def test_a_graph_is_forward_only_and_says_so(saved, x):
    model = load_model(saved())
    has = model.capabilities
    assert (has.gradients, has.layers, has.attention, has.spatial_rank) == (False, False, False, 2)
    for method, needed in (
        ("integrated_gradients", "gradients"),
        ("eigencam", "layers"),
        ("attention_rollout", "attention"),
    ):
        with pytest.raises(CannotExplain, match=f"{method} needs {needed}.*occlusion"):
            pellucid.explain(model, x, method)


def test_channels_last_graphs_are_told_and_not_guessed(saved, sequential, x):
    path = saved(channels_last=True)
    with pytest.raises(ShapeError, match=r"cannot take images of shape \(3, 9, 9\)"):
        pellucid.explain(load_model(path), x, "occlusion(window=3)")
    model = load_model(path, settings={"channels_last": True})
    with torch.inference_mode():
        torch.testing.assert_close(model.network(x), sequential(x), atol=1e-5, rtol=0)


def test_one_of_several_outputs_is_chosen_by_name(saved, sequential, x):
    path = saved(more=("probabilities",))
    with pytest.raises(CannotExplain, match=r"outputs scores .* probabilities .*settings=\{'output'"):
        load_model(path)
    with pytest.raises(CannotExplain, match="'logit'"):
        load_model(path, settings={"output": "logit"})
    with torch.inference_mode():
        found = load_model(path, settings={"output": "probabilities"}).network(x)
        torch.testing.assert_close(found, sequential(x).softmax(1), atol=1e-5, rtol=0)


def test_the_number_of_inputs_is_checked(saved, x):
    with pytest.raises(ShapeError, match="takes the inputs x and was given 2"):
        load_model(saved()).network(x, x)


def test_whole_number_inputs_are_refused_with_what_to_do(tmp_path):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4, 4])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    with pytest.raises(CannotExplain, match=r"takes tensor\(uint8\).*Cast"):
        load_model(tmp_path / "n.onnx")


def beside(path, location):
    """Move the tensors of a graph into a file beside it, under the name that the graph then tells."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="held.bin", size_threshold=0)
    content = path.read_bytes()
    graph = onnx.load(path, load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(graph.SerializeToString())
    return content


def test_tensors_beside_the_graph_are_read_and_belong_to_its_hash(saved, sequential, x):
    path = saved()
    beside(path, "held.bin")
    model = load_model(path)
    with torch.inference_mode():
        torch.testing.assert_close(model.network(x), sequential(x), atol=1e-5, rtol=0)
    assert model.source.sha256 == weights_hash(path)
    held = np.fromfile(path.parent / "held.bin", np.uint8)
    held[-1] ^= 1
    held.tofile(path.parent / "held.bin")
    assert weights_hash(path) != model.source.sha256


@pytest.mark.parametrize("name", ["../held.bin", "{folder}/held.bin", "link.bin"])
def test_tensors_outside_the_folder_are_never_read(saved, name):
    path = saved()
    beside(path, name.format(folder=path.parent.parent))
    (path.parent / "held.bin").rename(path.parent.parent / "held.bin")
    (path.parent / "link.bin").symlink_to(path.parent.parent / "held.bin")
    with pytest.raises(UntrustedModel, match=r"lies outside .*trusted or not"):
        load_model(path, trust=True)


def test_a_missing_or_damaged_file_is_one_sentence(saved):
    path = saved()
    beside(path, "gone.bin")
    with pytest.raises(CannotExplain, match=r"gone\.bin, which is not beside it"):
        load_model(path)
    path = saved("cut.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CannotExplain, match=r"damaged|cannot be opened"):
        load_model(path)
