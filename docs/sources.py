"""Write ``docs/sources.md``: what each source of models lets each family of methods do, found by trying.

python docs/sources.py
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import torch
import transformers
import yaml
from monai.networks.nets import DenseNet121
from onnx import TensorProto, helper, numpy_helper
from rich.progress import track
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

import pellucid
from pellucid.models import load_model, residual_net
from pellucid.models.sources import source_of
from pellucid.models.sources.registry import BUILT_IN

PAGE = Path(__file__).parent / "sources.md"
METHODS = {
    "gradient": "integrated_gradients(steps=4)",
    "rules": "lrp",
    "activation maps": "gradcam",
    "attention": "attention_rollout",
    "perturbation": "occlusion(window=8, stride=8)",
}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NET = {"classes": 2, "channels": 3, "dims": 2, "width": 4, "depth": 2}
OWN = "pellucid.models.networks:residual_net"
VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
       "intermediate_size": 24, "num_labels": 2}  # fmt: skip
Made = tuple[Path, dict[str, Any]]


def net() -> nn.Module:
    """Return a small residual network."""
    torch.manual_seed(0)
    return residual_net(**NET).eval()


def safetensors(folder: Path) -> Made:
    save_file(net().state_dict(), folder / "net.safetensors")
    return folder / "net.safetensors", {"factory": OWN, "settings": NET}


def state_dict(folder: Path) -> Made:
    torch.save(net().state_dict(), folder / "net.pt")
    return folder / "net.pt", {"factory": OWN, "settings": NET}


def pickled(folder: Path) -> Made:
    torch.save(net(), folder / "net.pt")
    return folder / "net.pt", {}


def scripted(folder: Path) -> Made:
    torch.jit.save(torch.jit.trace(net(), IMAGES), folder / "net.ts")
    return folder / "net.ts", {}


def exported(folder: Path) -> Made:
    program = torch.export.export(net(), (IMAGES,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2", {}


def pipeline(folder: Path) -> Made:
    rows = np.random.default_rng(0).random((20, IMAGES[0].numel()))
    joblib.dump(LogisticRegression().fit(rows, rows[:, 0] > 0.5), folder / "net.joblib")
    return folder / "net.joblib", {}


def graph(folder: Path) -> Made:
    held = [numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "w")]
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["p"]),
             helper.make_node("Flatten", ["p"], ["y"])]  # fmt: skip
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])]
    taken = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    made = helper.make_graph(nodes, "g", given, taken, held)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    return folder / "net.onnx", {}


def hugging_face(folder: Path, made: nn.Module) -> Made:
    transformers.utils.logging.disable_progress_bar()
    made.save_pretrained(folder / "net")  # type: ignore[operator]
    return folder / "net", {}


def vit(folder: Path) -> Made:
    return hugging_face(folder, ViTForImageClassification(ViTConfig(**VIT)))


def resnet(folder: Path) -> Made:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=2)
    return hugging_face(folder, ResNetForImageClassification(config))


def package(folder: Path, weights: str = "pytorch_state_dict") -> Made:
    """Write a bioimage.io package of the residual network."""
    torch.save(net().state_dict(), folder / "net.pt")
    torch.jit.save(torch.jit.trace(net(), IMAGES), folder / "net.ts")
    axes = [{"type": "batch"}, {"type": "channel", "channel_names": ["r", "g", "b"]},
            *({"type": "space", "id": name, "size": 16} for name in "yx")]  # fmt: skip
    module, name = OWN.split(":")
    told = {
        "type": "model", "format_version": "0.5.4", "name": "tiny net",
        "inputs": [{"id": "image", "axes": axes, "data": {"type": "float32"}}],
        "outputs": [{"id": "answer", "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["a", "b"]}]}],
        "weights": {
            "pytorch_state_dict": {"source": "net.pt", "pytorch_version": 2.6,
                                   "architecture": {"import_from": module, "callable": name, "kwargs": NET}},
            "torchscript": {"source": "net.ts", "pytorch_version": 2.6, "parent": "pytorch_state_dict"}},
    }  # fmt: skip
    (folder / "rdf.yaml").write_text(yaml.safe_dump(told))
    return folder, {"settings": {"weights": weights}}


def bundle(folder: Path) -> Made:
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    settings = {
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": 2,
        "init_features": 8,
        "growth_rate": 4,
        "block_config": [2, 2],
    }
    torch.save(DenseNet121(**settings).state_dict(), folder / "models" / "model.pt")
    told = {"network_def": {"_target_": "DenseNet121", **settings}}
    (folder / "configs" / "inference.json").write_text(json.dumps(told))
    return folder, {}


CASES: dict[str, Callable[[Path], Made]] = {
    "safetensors and a factory": safetensors,
    "state dict of torch and a factory": state_dict,
    "pickled network": pickled,
    "Hugging Face folder, ViT": vit,
    "Hugging Face folder, ResNet": resnet,
    "bioimage.io package, PyTorch weights": package,
    "bioimage.io package, TorchScript weights": lambda folder: package(folder, "torchscript"),
    "MONAI bundle": bundle,
    "exported program (.pt2)": exported,
    "TorchScript archive": scripted,
    "ONNX graph": graph,
    "scikit-learn pipeline (pickle, joblib, skops)": pipeline,
}


def tried(model: Any, method: str) -> str:
    """Return a mark, or the reason why not."""
    try:
        pellucid.explain(model, IMAGES, method, target=1 if method != METHODS["perturbation"] else None)
    except pellucid.PellucidError as error:
        return str(error)
    return ""


def reason(sentence: str) -> str:
    """Return why a method refused, without the numbers and names of the one case."""
    for known, short in (
        ("needs gradients", "nothing can be differentiated"), ("needs layers", "its layers cannot be seen"),
        ("needs attention", "it has no attention that can be seen"), ("no product of a softmax", "the network has no attention"),
        ("has no rule for", "its operations were compiled: no rule can be put in their place"),
        ("cannot see into TorchScript", "its operations were compiled: no rule can be put in their place"),
    ):  # fmt: skip
        if known in sentence:
            return short
    return sentence


def rows() -> tuple[list[str], dict[str, int]]:
    """Open every case and try every family on it."""
    notes: dict[str, int] = {}
    table = []
    for title, make in track(CASES.items(), "opening models"):
        with tempfile.TemporaryDirectory() as name:
            path, settings = make(Path(name))
            try:
                load_model(path, **settings)
                consent = "freely"
            except pellucid.UntrustedModel:
                consent = "with trust"
            model = load_model(path, trust=True, **settings)
            cells = []
            for method in METHODS.values():
                refused = tried(model, method)
                number = notes.setdefault(reason(refused), len(notes) + 1) if refused else 0
                cells.append(f"–<sup>{number}</sup>" if number else "✓")
            kind = source_of(path).name
        table.append(f"| {title} | `{kind}` | {consent} | {' | '.join(cells)} |")
    return table, notes


def page() -> str:
    """Return the whole page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, notes = rows()
    consents = [f"- {source.title}: {source.consent or 'runs nothing'}" for source in BUILT_IN]
    head = f"| source | kind | opens | {' | '.join(METHODS)} |\n|{'---|' * (3 + len(METHODS))}"
    return "\n".join([
        "# Where models come from", "",
        "Made by `python docs/sources.py`, which opens a small model of every kind and tries one method of every family:",
        f"{', '.join(f'`{method}`' for method in METHODS.values())}.", "",
        head, *table, "",
        "A network or any other callable of your own is `pellucid.Model(network)`: a network takes every family, a callable",
        "perturbation only. Pages to start from: [bioimage.io](models/bioimageio.md), [Hugging Face](models/hugging_face.md),",
        "[MONAI](models/monai.md), [ONNX](models/onnx.md).", "",
        *(f"{number}. {text}" for text, number in notes.items()), "",
        "## What could run on opening", "",
        "What could run code is refused unless you say `trust=True`, or `trust=\"sha256:...\"` for one content only; on the command",
        "line that is `--trust`, and `[model] trust` keeps a study to the content. A study records the hash and refuses another",
        "content before it is opened. Nothing is downloaded.", "",
        *consents, "",
        "Another package adds a source with a `pellucid.models.sources.ModelSource` in the entry point group",
        "`pellucid.model_sources`.", "",
    ])  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
