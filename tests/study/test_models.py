"""Models of other sources in a study file: named, checked, pinned to their content."""

import pickle
from pathlib import Path

import pytest
import torch

from pellucid.errors import BadStudy, PellucidError, UntrustedModel
from pellucid.models import residual_net, weights_hash
from pellucid.study import Study, check_study

NET = {"classes": 2, "channels": 3, "dims": 2, "width": 4, "depth": 2, "stem_stride": 1}
CHEAP = 'methods = ["occlusion(window=8, stride=8)"]'


@pytest.fixture
def pickled(bench):
    torch.manual_seed(0)
    torch.save(residual_net(**NET).eval(), bench / "net.pt")
    return bench / "net.pt"


def naming(changed, model, methods=CHEAP):
    return changed(
        ('weights = "net.safetensors"', model),
        ('methods = ["saliency", "integrated_gradients(steps=3)", "gradcam"]', methods),
        ('["relevance_mass", "sparseness", "insertion(steps=3)"]', '["relevance_mass"]'),
        ("images = 0", "images = 2"),
    )


@pytest.fixture
def graph(bench):
    """A graph of one convolution, mean over space."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    held = [numpy_helper.from_array(torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0)).numpy(), "w")]
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["p"]),
             helper.make_node("Flatten", ["p"], ["y"])]  # fmt: skip
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])]
    taken = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    made = helper.make_model(
        helper.make_graph(nodes, "g", given, taken, held), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(made, bench / "net.onnx")
    return bench / "net.onnx"


def test_a_study_runs_on_a_graph_and_check_says_which_methods_it_does_not_take(changed, bench, graph):
    methods = 'methods = ["occlusion(window=8, stride=8)", "gradcam"]'
    toml = naming(changed, 'path = "net.onnx"\nclasses = ["a", "b"]', methods)
    checked = check_study(toml)
    assert any("net.onnx (onnx, sha256:" in note for note in checked.notes)
    assert [problem.split(":")[0] for problem in checked.problems] == ["gradcam"]
    assert "needs gradients" in checked.problems[0]
    study = Study.create(toml, bench / "out")
    failures = study.run()
    assert set(failures["method"].to_pylist()) == {"gradcam"}
    assert study.settings["model"]["path"] == str(graph)
    assert study.settings["provenance"]["model"] == weights_hash(graph)
    assert bool(study.maps("occlusion(window=8, stride=8)").isfinite().all())


def test_what_could_execute_needs_trust_from_the_command_line_and_not_from_the_file(changed, bench, pickled):
    pinned = f'path = "net.pt"\ntrust = "sha256:{weights_hash(pickled)}"\nclasses = ["a", "b"]'
    toml = naming(changed, pinned)
    with pytest.raises(UntrustedModel, match="on the command line say --trust"):
        check_study(toml)
    assert check_study(toml, trust=True).problems == ()


class Evil:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return Path.write_text, (self.proof, "executed")


@pytest.mark.parametrize("pinned", [True, False])
def test_another_content_than_the_trusted_one_is_refused_before_it_is_opened(changed, bench, pickled, pinned):
    proof = bench / "proof"
    pin = f'\ntrust = "sha256:{weights_hash(pickled)}"' if pinned else ""
    toml = naming(changed, f'path = "net.pt"{pin}\nclasses = ["a", "b"]')
    study = Study.create(toml, bench / "out", trust=True)
    study.run()
    pickled.write_bytes(pickle.dumps(Evil(proof)))
    with pytest.raises(BadStudy, match="weights changed since"):
        Study(study.path, trust=True).model  # noqa: B018  # opens it
    if pinned:
        with pytest.raises(UntrustedModel, match="the study file trusts sha256:"):
            check_study(toml, trust=True)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ('path = "net.pt"\nweights = "net.pt"', "give one of them"),
        ('path = "net.pt"\ntrust = "yes"', r"model\.trust does not fit"),
        ('path = "gone.pt"', "there is no weights file"),
    ],
)
def test_a_place_is_named_once_and_a_hash_is_one(changed, bench, model, says):
    with pytest.raises(PellucidError, match=says):
        check_study(naming(changed, model))
