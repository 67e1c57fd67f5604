"""What could run on opening does not, without consent, and leaves no trace; with consent it does, so the threat is real."""

import contextlib
import hashlib
import socket
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pellucid.errors import CannotExplain, PellucidError, UntrustedModel
from pellucid.models import load_model, save_model, weights_hash
from pellucid.models.model import Model, Source

from .conftest import SOURCE, Evil, evil_pickle, write_json


def refused(path, proof, **settings):
    """Open it in every way that is no consent to this content, and look for the trace that it would leave."""
    other = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    for trust in (False, other):
        with pytest.raises(UntrustedModel, match=r"trust=|trusted was"):
            load_model(path, trust=trust, **settings)
        assert not proof.exists()


def runs(path, proof, **settings):
    """With consent it does leave the trace: the file was a threat, and the test proves something."""
    with contextlib.suppress(PellucidError):
        load_model(path, trust=True, **settings)
    assert proof.exists(), "the file was no threat, so the test proves nothing"


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.onnx", "net.joblib"])
def test_a_pickle_under_any_name(tmp_path, name):
    proof = tmp_path / "proof"
    path = evil_pickle(tmp_path / name, proof)
    refused(path, proof)
    runs(path, proof)


def test_a_pickle_in_an_archive_of_torch(tmp_path):
    proof = tmp_path / "proof"
    torch.save({"weight": torch.ones(2), "more": Evil(proof)}, tmp_path / "net.pt")
    refused(tmp_path / "net.pt", proof, factory=nn.Identity)
    runs(tmp_path / "net.pt", proof)


def test_a_compressed_pickle(tmp_path):
    import joblib

    proof = tmp_path / "proof"
    joblib.dump(Evil(proof), tmp_path / "net.joblib", compress=3)
    refused(tmp_path / "net.joblib", proof)
    runs(tmp_path / "net.joblib", proof)


def test_an_exported_program(tmp_path, net, x):
    proof, path = tmp_path / "proof", tmp_path / "net.pt2"
    program = torch.export.export(net, (x[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "good.pt2")
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(path, "w") as evil:
        for name in good.namelist():
            call = f"__import__('pathlib').Path('{proof}').touch() or Symbol('".encode()
            evil.writestr(
                name, good.read(name).replace(b"Symbol('", call, 1) if name.endswith("model.json") else good.read(name)
            )
    refused(path, proof)
    runs(path, proof)


class _Writes(nn.Module):
    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.size = 0

    @torch.jit.export
    def __getstate__(self):
        return (self.place, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.place = state[0]
        self.training = state[1]
        self.size = torch.from_file(self.place, True, 4).numel()

    def forward(self, x):
        return x


def test_a_torchscript_archive(tmp_path):
    proof = tmp_path / "proof"
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.script(_Writes(str(proof))), tmp_path / "net.pt")
    proof.unlink(missing_ok=True)
    refused(tmp_path / "net.pt", proof)
    runs(tmp_path / "net.pt", proof)


def test_a_factory_that_the_file_names(tmp_path, monkeypatch):
    proof = tmp_path / "proof"
    (tmp_path / "evil_factory_of_a_file.py").write_text(
        f"from pathlib import Path\nfrom torch import nn\nPath({str(proof)!r}).touch()\ndef net():\n    return nn.Linear(1, 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    save_model(Model(nn.Linear(1, 1), source=Source("evil_factory_of_a_file:net")), tmp_path / "net.safetensors")
    refused(tmp_path / "net.safetensors", proof)
    runs(tmp_path / "net.safetensors", proof)


def test_the_configuration_of_a_monai_bundle(tmp_path):
    pytest.importorskip("monai")
    proof, bundle = tmp_path / "proof", tmp_path / "bundle"
    write_json(
        bundle / "configs" / "inference.json", {"network_def": f"$__import__('pathlib').Path({str(proof)!r}).touch()"}
    )
    (bundle / "models").mkdir()
    save_file({"weight": torch.ones(1)}, bundle / "models" / "model.safetensors")
    refused(bundle, proof)
    runs(bundle, proof)


def test_the_source_code_of_a_bioimageio_package(package):
    made = package()
    proof = made.root.parent / "proof"
    (made.root / "net.py").write_text(f"from pathlib import Path\nPath({str(proof)!r}).touch()\n{SOURCE}")
    for path in (made.write(), made.zipped()):
        refused(path, proof)
    runs(path, proof)


def test_a_function_of_a_library_that_a_package_names(package):
    made = package()
    proof = made.root.parent / "proof"
    made.told["weights"]["pytorch_state_dict"]["architecture"] = {
        "import_from": "os", "callable": "mkdir", "kwargs": {"path": str(proof)},
    }  # fmt: skip
    refused(made.write(), proof)
    runs(made.root, proof)


def test_the_processing_code_of_a_package_is_never_run(package):
    made = package()
    proof = made.root.parent / "proof"
    (made.root / "step.py").write_text(
        f"from pathlib import Path\nPath({str(proof)!r}).touch()\ndef step():\n    return None\n"
    )
    made.write()
    made.told["outputs"][0]["postprocessing"].append(
        {"id": "custom", "callable": "step", "source": "step.py", "kwargs": {}}
    )
    notes = load_model(made.describe(), trust=True).source.notes
    assert any("code of its own, which is not run" in note for note in notes)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["../proof", "/{folder}/proof", "..\\proof", "inner/../../proof"])
def test_an_archive_that_would_write_outside_itself(package, name):
    made = package()
    made.write()
    path, proof = made.zipped(), made.root.parent / "proof"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name.format(folder=made.root.parent), "executed")
    for trust in (False, True):
        with pytest.raises(UntrustedModel, match=r"leads out of the archive.*trusted or not"):
            load_model(path, trust=trust)
    assert not proof.exists()


def test_a_link_in_an_archive_is_refused(package):
    made = package()
    made.write()
    path = made.zipped()
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UntrustedModel, match="leads out"):
        load_model(path, trust=True)


# --- trust that is bound to a content ------------------------------------------------------------------------------


def test_trust_is_bound_to_the_content_by_its_hash(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(4, 2), path)
    with pytest.raises(UntrustedModel) as told:
        load_model(path)
    digest = f"sha256:{weights_hash(path)}"
    assert digest in str(told.value)
    assert load_model(path, trust=digest).source.sha256 == digest.removeprefix("sha256:")
    proof = tmp_path / "proof"
    evil_pickle(path, proof)
    with pytest.raises(UntrustedModel, match=r"content of .* changed: trusted was"):
        load_model(path, trust=digest)
    assert not proof.exists()


def test_a_pinned_file_that_opens_freely_is_refused_too_when_it_changed(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(nn.Linear(4, 2).state_dict(), path)
    digest = f"sha256:{weights_hash(path)}"
    build = lambda: nn.Linear(4, 2)  # noqa: E731
    assert load_model(path, factory=build, trust=digest).module is not None
    save_file(nn.Linear(4, 2).state_dict(), path)
    with pytest.raises(UntrustedModel, match="changed"):
        load_model(path, factory=build, trust=digest)


@pytest.mark.parametrize("trust", ["yes", "sha256:12", "", 1])
def test_trust_is_spelt_in_two_ways_only(tmp_path, trust):
    save_file({"weight": torch.ones(1)}, tmp_path / "net.safetensors")
    with pytest.raises(CannotExplain, match="neither True nor 'sha256:'"):
        load_model(tmp_path / "net.safetensors", trust=trust)


def test_the_hash_of_a_folder_is_that_of_names_and_contents(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / name / "configs"
        write_json(folder / "inference.json", {"x": 1})
        (folder / "more.txt").write_text("words")
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b")
    (tmp_path / "b" / "configs" / "more.txt").rename(tmp_path / "b" / "configs" / "less.txt")
    assert weights_hash(tmp_path / "a") != weights_hash(tmp_path / "b")


# --- no network ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_sockets(monkeypatch):
    """Fail at the first socket that anybody opens."""

    def refuse(*args, **settings):
        message = "a socket was opened"
        raise AssertionError(message)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return refuse


def test_no_socket_is_opened_by_a_hugging_face_folder(tmp_path, no_sockets):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=2
    )
    transformers.utils.logging.disable_progress_bar()
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    transformers.utils.logging.enable_progress_bar()
    import pellucid

    model = load_model(tmp_path / "net")
    assert pellucid.explain(model, torch.rand(1, 3, 16, 16), "gradcam").values.shape == (1, 1, 2, 2)


def test_no_socket_is_opened_by_a_bioimageio_package(package, no_sockets):
    import pellucid

    made = package()
    for path in (made.write(), made.zipped()):
        model = load_model(path, trust=True)
    assert pellucid.explain(model, made.images, "gradient").values.shape == made.images.shape


def test_no_compiled_file_and_no_path_is_left_behind(package):
    made = package()
    before = list(sys.path)
    load_model(made.write(), trust=True)
    assert sys.path == before
    assert sorted(file.name for file in made.root.rglob("*")) == [
        "in.npy",
        "net.py",
        "out.npy",
        "rdf.yaml",
        "weights.pt",
    ]
