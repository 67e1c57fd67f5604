import hashlib
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pellucid.errors import CannotExplain, ShapeError, UntrustedModel
from pellucid.models import Model, Normalise, Source, load_model, residual_net, save_model, weights_hash

OWN = "pellucid.models.networks:residual_net"
SETTINGS = {"classes": 3, "channels": 2, "dims": 2, "width": 4, "depth": 2}
X = torch.rand(2, 2, 10, 10, generator=torch.Generator().manual_seed(0))

FACTORIES = """
import torch
from torch import nn

def net(outputs=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, outputs))

def broken():
    raise ValueError("no such backbone")

def text():
    return "a net"

answer = 42
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """A user's importable module of factories."""
    (tmp_path / "factories_of_a_user.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    return "factories_of_a_user"


@pytest.fixture
def saved(tmp_path):
    """A saved reference net and the model it was."""
    torch.manual_seed(0)
    model = Model(
        residual_net(**SETTINGS), classes=("a", "b", "c"), preprocess=Normalise((0.5, 0.4), (0.2, 0.1)),
        task="classification", embedding="pool", temperature=1.5, source=Source(OWN, SETTINGS, (2, 10, 10)),
    )  # fmt: skip
    path = tmp_path / "net.safetensors"
    save_model(model, path)
    return path, model


def linear(outputs=2):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, outputs))


def test_a_saved_model_loads_as_it_was(saved):
    path, model = saved
    loaded = load_model(path)
    with torch.inference_mode():
        assert torch.equal(loaded.network(*loaded.prepare(X)), model.module.eval()(*model.prepare(X)))
    for name in ("classes", "preprocess", "task", "embedding", "temperature"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.source == Source(OWN, SETTINGS, (2, 10, 10), weights_hash(path))
    assert not loaded.module.training


def test_what_is_given_wins_over_what_the_file_says(saved):
    loaded = load_model(
        saved[0], classes=("x", "y", "z"), preprocess=Normalise((0.0, 0.0), (1.0, 1.0)), task="regression"
    )
    assert loaded.classes == ("x", "y", "z")
    assert loaded.preprocess == Normalise((0.0, 0.0), (1.0, 1.0))
    assert loaded.task == "regression"


def test_a_saved_model_can_be_saved_again(saved, tmp_path):
    path, _ = saved
    save_model(load_model(path), tmp_path / "again.safetensors")
    assert weights_hash(tmp_path / "again.safetensors") == weights_hash(path)


def test_the_hash_is_the_sha256_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    assert weights_hash(tmp_path / "file") == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state},
                                  lambda state: {f"module.{name}": value for name, value in state.items()}])  # fmt: skip
def test_a_state_dict_loads_with_its_factory(tmp_path, factories, wrap):
    net = linear()
    torch.save(wrap(net.state_dict()), tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt", factory=f"{factories}:net", classes=("a", "b"))
    assert torch.equal(loaded.network(X[:, :1, :2, :2]), net(X[:, :1, :2, :2]))
    assert loaded.source.factory == f"{factories}:net"


def test_settings_reach_the_factory_and_are_kept(tmp_path, factories):
    save_file(linear(5).state_dict(), tmp_path / "net.safetensors")
    loaded = load_model(tmp_path / "net.safetensors", factory=f"{factories}:net", settings={"outputs": 5})
    assert loaded.network(X[:, :1, :2, :2]).shape == (2, 5)
    assert loaded.source.settings == {"outputs": 5}


def test_a_factory_may_be_the_function_itself(tmp_path):
    save_file(linear().state_dict(), tmp_path / "net.safetensors")
    assert load_model(tmp_path / "net.safetensors", factory=linear).source.factory.endswith(":linear")


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return Path.write_text, (self.proof, "executed")


@pytest.mark.parametrize("hidden", [lambda evil: evil, lambda evil: {"weight": torch.ones(2), "extra": evil}])
@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_malicious_pickle_does_not_run(tmp_path, factories, hidden, protocol):
    proof, path = tmp_path / "proof", tmp_path / "net.pt"
    if protocol == "torch":
        torch.save(hidden(Evil(proof)), path)
    else:
        path.write_bytes(pickle.dumps(hidden(Evil(proof))))
    for factory in (None, f"{factories}:net"):
        with pytest.raises(UntrustedModel, match=r"state_dict\(\).*trust=True"):
            load_model(path, factory=factory)
    assert not proof.exists()
    if protocol == "torch":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert proof.exists(), "the file was no threat, so the test proves nothing"


def test_a_malicious_pickle_does_not_run_under_a_safe_name(tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "net.safetensors"
    torch.save(Evil(proof), path)
    with pytest.raises(UntrustedModel):
        load_model(path, factory=OWN)
    assert not proof.exists()


def described(path, factory, settings):
    told = {"classes": [], "normalise": None, "task": None, "embedding": None, "temperature": 1.0,
            "factory": factory, "settings": settings, "shape": None}  # fmt: skip
    save_file({"weight": torch.ones(1)}, path, metadata={"pellucid": json.dumps(told)})


def test_a_factory_that_the_file_names_is_not_called(tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "net.safetensors"
    described(path, "pathlib:Path.touch", {"self": str(proof)})
    with pytest.raises(UntrustedModel, match="is code"):
        load_model(path)
    described(path, "os:mkdir", {"path": str(proof)})
    with pytest.raises(UntrustedModel, match="asks to call os:mkdir"):
        load_model(path)
    with pytest.raises(UntrustedModel, match="gives arguments for os:mkdir"):
        load_model(path, factory="os:mkdir")
    described(path, "pellucid.models.networks:Mapping", {})
    with pytest.raises(UntrustedModel, match="is code"):
        load_model(path)
    assert not proof.exists()


def test_with_trust_the_file_may_name_its_factory(tmp_path, factories):
    net = linear(3)
    path = tmp_path / "net.safetensors"
    save_model(Model(net, source=Source(f"{factories}:net", {"outputs": 3})), path)
    for arguments in ({}, {"factory": f"{factories}:net"}):
        with pytest.raises(UntrustedModel, match="is code"):
            load_model(path, **arguments)
    for arguments in ({"trust": True}, {"factory": f"{factories}:net", "settings": {"outputs": 3}}):
        assert torch.equal(load_model(path, **arguments).network(X[:, :1, :2, :2]), net(X[:, :1, :2, :2]))


def test_a_pickled_module_opens_with_trust_only(tmp_path):
    net = linear()
    torch.save(net, tmp_path / "net.pt")
    with pytest.raises(UntrustedModel, match="convert it once"):
        load_model(tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt", trust=True, classes=("a", "b"))
    assert torch.equal(loaded.network(X[:, :1, :2, :2]), net(X[:, :1, :2, :2]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_opens_with_trust_only(tmp_path):
    net = linear().eval()
    torch.jit.save(torch.jit.trace(net, X[:, :1, :2, :2]), tmp_path / "net.pt")
    with pytest.raises(UntrustedModel, match="TorchScript"):
        load_model(tmp_path / "net.pt", factory=OWN)
    loaded = load_model(tmp_path / "net.pt", trust=True)
    assert torch.equal(loaded.network(X[:, :1, :2, :2]), net(X[:, :1, :2, :2]))
    assert not loaded.capabilities.layers


def test_an_exported_program_opens_with_trust_only(tmp_path):
    net, x = linear().eval(), X[:, :1, :2, :2]
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    with pytest.raises(UntrustedModel, match="exported program"):
        load_model(tmp_path / "net.pt2")
    loaded = load_model(tmp_path / "net.pt2", trust=True)
    assert torch.equal(loaded.network(x), net(x))
    assert loaded.source.sha256 == weights_hash(tmp_path / "net.pt2")


def test_onnx_names_its_extra_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(CannotExplain, match=r'pip install "pellucid\[onnx\]"'):
        load_model(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (None, "say factory="),
        ("net", "package.module:function"),
        ("..net:build", "package.module:function"),
        ("no_such_package.net:build", "cannot be imported: No module named 'no_such_package'"),
        ("{user}:nett", "has no 'nett'"),
        ("{user}:answer", "is int and cannot be called"),
        ("{user}:text", "returned str; it must return an nn.Module"),
        ("{user}:broken", "failed: no such backbone"),
    ],
)
def test_a_factory_that_does_not_work_is_one_sentence(tmp_path, factories, factory, says):
    save_file(linear().state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(CannotExplain, match=says):
        load_model(tmp_path / "net.safetensors", factory=factory and factory.format(user=factories))


def test_settings_that_the_factory_does_not_take_are_named(tmp_path, factories):
    save_file(linear().state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(CannotExplain, match=r"cannot be called with settings.*'width'"):
        load_model(tmp_path / "net.safetensors", factory=f"{factories}:net", settings={"width": 3})


def test_weights_that_do_not_fit_are_named(tmp_path, factories):
    path, factory = tmp_path / "net.safetensors", f"{factories}:net"
    save_file({"1.weight": torch.ones(2, 4), "head.bias": torch.ones(2)}, path)
    with pytest.raises(CannotExplain, match=r"1 missing \(first '1.bias'\) and 1 unexpected \(first 'head.bias'\)"):
        load_model(path, factory=factory)
    save_file(linear(3).state_dict(), path)
    with pytest.raises(CannotExplain, match=r"'1.weight' has shape \(3, 4\) in the file and \(2, 4\) in the network"):
        load_model(path, factory=factory)


@pytest.mark.parametrize("cut", [12, 200, -10])
def test_a_damaged_file_is_one_sentence(saved, cut):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CannotExplain, match=r"damaged|no weights file"):
        load_model(path)


def test_a_damaged_state_dict_is_one_sentence(tmp_path):
    torch.save(linear().state_dict(), tmp_path / "net.pt")
    (tmp_path / "net.pt").write_bytes((tmp_path / "net.pt").read_bytes()[:-300])
    with pytest.raises(CannotExplain, match=r"no weights file|damaged"):
        load_model(tmp_path / "net.pt", factory=OWN)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "net.pt").write_text("weights")
    with pytest.raises(CannotExplain, match="no weights file"):
        load_model(tmp_path / "net.pt")
    with pytest.raises(CannotExplain, match="there is no weights file"):
        load_model(tmp_path / "absent.pt")


def test_tensors_that_are_no_state_dict_are_refused(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "net.pt")
    with pytest.raises(CannotExplain, match="no state dict"):
        load_model(tmp_path / "net.pt", factory=OWN)


def test_what_is_code_cannot_be_saved(tmp_path):
    with pytest.raises(CannotExplain, match="plain callable"):
        save_model(Model(lambda x: x), tmp_path / "net.safetensors")
    with pytest.raises(CannotExplain, match="preprocessing"):
        save_model(Model(linear(), preprocess=lambda x: x), tmp_path / "net.safetensors")


def test_a_setting_that_the_own_factory_refuses_says_why(tmp_path):
    described(tmp_path / "net.safetensors", OWN, {"classes": 2, "dims": 7})
    with pytest.raises(ShapeError, match="dims=7"):
        load_model(tmp_path / "net.safetensors")
