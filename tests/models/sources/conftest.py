"""Tiny models in every form in which models come, made anew for the tests."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.pool(self.relu(self.conv(x))).flatten(1))
"""


class Net(nn.Module):
    """A convolution, a reused ReLU and a head: enough for every family of methods."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3))
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        h = self.act(self.features(x))
        return self.head(self.act(h + 0.1).mean((2, 3)))


@pytest.fixture(scope="session")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="session")
def x():
    return torch.rand(5, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def fingerprint(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Package:
    """A bioimage.io package in a folder, whose description can be changed before it is written."""

    def __init__(self, root: Path, *, axes: str = "bcyx", dtype: str = "uint8") -> None:
        self.root = root
        root.mkdir(parents=True)
        (root / "net.py").write_text(SOURCE)
        made: dict[str, type[nn.Module]] = {}
        exec(SOURCE, made)
        torch.manual_seed(0)
        self.net = made["Net"](3).eval()
        torch.save(self.net.state_dict(), root / "weights.pt")
        self.raw = np.random.default_rng(0).integers(0, 255, (1, 1, 12, 10)).astype(dtype)
        self.images = torch.from_numpy(self.raw.astype(np.float32) / (255 if dtype == "uint8" else 1))
        self.axes = axes
        named = {"b": {"type": "batch"}, "c": {"type": "channel", "channel_names": ["grey"]},
                 "y": {"type": "space", "id": "y", "size": {"min": 8, "step": 1}, "scale": 0.5, "unit": "micrometer"},
                 "x": {"type": "space", "id": "x", "size": {"min": 8, "step": 1}}}  # fmt: skip
        self.told = {
            "type": "model", "format_version": "0.5.4", "name": "tiny net", "description": "a tiny net",
            "authors": [{"name": "Ann Author"}], "license": "MIT", "cite": [{"text": "x", "doi": "10.1000/xyz123"}],
            "documentation": "README.md", "timestamp": "2026-01-01T00:00:00",
            "inputs": [{"id": "raw", "axes": [named[letter] for letter in axes], "data": {"type": dtype},
                        "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                                          {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}},
                                          {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]}],
            "outputs": [{"id": "prob", "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["a", "b", "c"]}],
                         "data": {"type": "float32"},
                         "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}]}],
            "weights": {"pytorch_state_dict": {"source": "weights.pt", "pytorch_version": "2.6", "architecture": {
                "source": "net.py", "callable": "Net", "kwargs": {"classes": 3}}}},
        }  # fmt: skip

    def write(self, prepared: np.ndarray | None = None, *, wrong: float = 0.0) -> Path:
        """Write the description with its test tensors; the output is that of `prepared`, off by `wrong`."""
        if prepared is None:
            values = self.raw.astype(np.float32)
            prepared = (values - values.mean()) / (values.std() + 1e-6)
        with torch.inference_mode():
            output = self.net(torch.from_numpy(prepared)).softmax(1).numpy() + np.float32(wrong)
        order = ["bcyx".index(letter) for letter in self.axes]
        np.save(self.root / "in.npy", self.raw.transpose(order))
        np.save(self.root / "out.npy", output)
        self.told["inputs"][0]["test_tensor"] = {"source": "in.npy", "sha256": fingerprint(self.root / "in.npy")}
        self.told["outputs"][0]["test_tensor"] = {"source": "out.npy", "sha256": fingerprint(self.root / "out.npy")}
        for entry in self.told["weights"].values():
            entry["sha256"] = fingerprint(self.root / entry["source"])
            if "source" in entry.get("architecture", {}):
                entry["architecture"]["sha256"] = fingerprint(self.root / entry["architecture"]["source"])
        return self.describe()

    def older(self, version: str, steps: list[dict], prepared: np.ndarray) -> Path:
        """Write the description as format 0.3 or 0.4 has it; the output is the network's own, of `prepared`."""
        self.write(prepared)
        with torch.inference_mode():
            np.save(self.root / "out.npy", self.net(torch.from_numpy(prepared)).numpy())
        network = {
            "architecture": "net.py:Net",
            "architecture_sha256": fingerprint(self.root / "net.py"),
            "kwargs": {"classes": 3},
        }
        weights = {"source": "weights.pt", "sha256": fingerprint(self.root / "weights.pt")}
        self.told = {
            "type": "model", "format_version": version, "name": "tiny net", "description": "a tiny net",
            "authors": [{"name": "Ann Author"}], "license": "MIT", "cite": [{"text": "x", "doi": "10.1000/xyz123"}],
            "documentation": "README.md", "timestamp": "2020-01-01T00:00:00", "covers": ["gone.png"], "tags": [],
            "test_inputs": ["in.npy"], "test_outputs": ["out.npy"],
            "inputs": [{"name": "raw", "axes": "bcyx", "data_type": "uint8", "data_range": [0, 255],
                        "shape": {"min": [1, 1, 8, 8], "step": [0, 0, 1, 1]}, "preprocessing": steps}],
            "outputs": [{"name": "prob", "axes": "bc", "data_type": "float32", "shape": [1, 3]}],
            "weights": {"pytorch_state_dict": {**weights, **network}},
        }  # fmt: skip
        if version.startswith("0.3."):
            self.told["weights"]["pytorch_state_dict"] = weights
            self.told |= {"language": "python", "framework": "pytorch", "source": network["architecture"],
                          "sha256": network["architecture_sha256"], "kwargs": network["kwargs"]}  # fmt: skip
        if version in {"0.3.0", "0.3.1"}:
            self.told["authors"] = ["Ann Author"]
            del self.told["type"]
        return self.describe()

    def describe(self) -> Path:
        """Write the description alone."""
        (self.root / "rdf.yaml").write_text(yaml.safe_dump(self.told))
        return self.root

    def zipped(self) -> Path:
        """Return the folder as an archive beside it."""
        return Path(shutil.make_archive(str(self.root), "zip", self.root))


@pytest.fixture
def package(tmp_path):
    pytest.importorskip("bioimageio.core")
    return lambda **settings: Package(tmp_path / "package", **settings)


def onnx_model(net, *, batch="n", channels_last=False, more=()):
    """Return a graph of a convolution, a ReLU, a mean and a linear layer, with the weights of `net`."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    convolution, linear = net[0], net[4]
    names = {"w": convolution.weight, "b": convolution.bias, "lw": linear.weight, "lb": linear.bias}
    held = [numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in names.items()]
    first = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if channels_last else []
    nodes = [
        *first, helper.make_node("Conv", ["t" if channels_last else "x", "w", "b"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]), helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("Gemm", ["f", "lw", "lb"], ["scores"], transB=1),
        *(helper.make_node("Softmax", ["scores"], [name]) for name in more),
    ]  # fmt: skip
    sizes = [batch, "h", "v", 3] if channels_last else [batch, 3, "h", "v"]
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, sizes)]
    taken = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, 2]) for name in ("scores", *more)]
    graph = helper.make_graph(nodes, "tiny", given, taken, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
def sequential():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()  # fmt: skip


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return Path.write_text, (self.proof, "executed")


def evil_pickle(path, proof):
    path.write_bytes(pickle.dumps(Evil(proof)))
    return path


def write_json(path, told):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))
