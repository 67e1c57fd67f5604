import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pellucid.errors import CannotExplain
from pellucid.models import load_model
from pellucid.models.sources import ModelSource, Opened, registry, source_of, sources

from .conftest import onnx_model


class Numbers(ModelSource):
    """Somebody's own format: one number in a text file."""

    name = "numbers"
    title = "a number"

    def recognises(self, path):
        return path.is_file() and path.read_bytes().startswith(b"scale ")

    def open(self, asked):
        scale = float(asked.path.read_text().split()[1])
        return Opened(network=lambda x: scale * x.flatten(1), classes=("p", "q"))


class Entry:
    value = "somebody:Numbers"

    def __init__(self, named):
        self.named = named

    def load(self):
        return self.named


@pytest.fixture
def installed(monkeypatch):
    """Let a package offer a source by its entry point."""

    def install(named):
        monkeypatch.setattr(registry, "entry_points", lambda group: [Entry(named)] if group == registry.GROUP else [])
        sources.cache_clear()

    yield install
    sources.cache_clear()


def test_a_source_of_another_package_is_found_by_its_entry_point(tmp_path, installed):
    (tmp_path / "net.scale").write_text("scale 3")
    with pytest.raises(CannotExplain, match="no weights file"):
        load_model(tmp_path / "net.scale")
    installed(Numbers)
    model = load_model(tmp_path / "net.scale")
    assert torch.equal(model.network(torch.ones(1, 1, 2)), torch.full((1, 2), 3.0))
    assert (model.classes, model.source.kind) == (("p", "q"), "numbers")


def test_an_entry_point_that_names_something_else_is_refused(tmp_path, installed):
    (tmp_path / "net.scale").write_text("scale 3")
    installed(dict)
    with pytest.raises(CannotExplain, match=r"'somebody:Numbers' of pellucid.model_sources is dict, no ModelSource"):
        load_model(tmp_path / "net.scale")


def test_what_lies_there_is_told_by_its_content_and_not_by_its_name(tmp_path, sequential):
    makers = {
        "safetensors": lambda path: save_file(sequential.state_dict(), path),
        "torch_file": lambda path: torch.save(sequential.state_dict(), path),
        "onnx": lambda path: path.write_bytes(onnx_model(sequential).SerializeToString()),
    }
    for name in ("net.pt", "net.onnx", "net.safetensors", "net"):
        for kind, make in makers.items():
            make(tmp_path / name)
            assert source_of(tmp_path / name).name == kind


@pytest.mark.parametrize("name", ["", "model.txt"])
def test_what_is_no_model_is_one_sentence(tmp_path, name):
    (tmp_path / "model.txt").write_text("a text")
    with pytest.raises(CannotExplain, match=r"is no (folder of a model|weights file) that can be read"):
        load_model(tmp_path / name)


def test_a_hub_name_is_not_looked_up():
    with pytest.raises(CannotExplain, match="nothing is downloaded"):
        load_model("google/vit-base-patch16-224")


def test_every_built_in_source_is_described():
    for source in registry.BUILT_IN:
        assert source.title
        assert source.name.isidentifier()
    assert len({source.name for source in registry.BUILT_IN}) == len(registry.BUILT_IN)


def test_a_factory_for_what_holds_its_own_network_is_refused(tmp_path, sequential):
    (tmp_path / "net.onnx").write_bytes(onnx_model(sequential).SerializeToString())
    with pytest.raises(CannotExplain, match="an ONNX graph, which holds its own network: leave factory= out"):
        load_model(tmp_path / "net.onnx", factory=nn.Identity)
    with pytest.raises(CannotExplain, match="no setting 'width'; it takes output, channels_last"):
        load_model(tmp_path / "net.onnx", settings={"width": 3})
