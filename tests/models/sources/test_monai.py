"""Networks of MONAI as they are used, and the bundles that they are published in."""

import json
import sys
import warnings

import pytest
import torch
from safetensors.torch import save_file

import pellucid
from pellucid.errors import CannotExplain, PellucidError, UntrustedModel
from pellucid.models import Model, load_model
from pellucid.models.targets import Region

from .conftest import write_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    nets = pytest.importorskip("monai.networks.nets")

DENSE = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 3,
    "init_features": 8,
    "growth_rate": 4,
    "block_config": [2, 2],
}


def seeded(make, **settings):
    torch.manual_seed(0)
    return make(**settings).eval()


@pytest.fixture(scope="module")
def densenet():
    return seeded(nets.DenseNet121, **DENSE)


@pytest.fixture(scope="module")
def unet():
    """Three axes, PReLU, instance norm, transposed convolutions."""
    return seeded(
        nets.UNet, spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,), num_res_units=1
    )


@pytest.fixture(scope="module")
def swin():
    pytest.importorskip("einops")
    return seeded(
        nets.SwinUNETR,
        in_channels=1,
        out_channels=2,
        feature_size=12,
        depths=(1,) * 4,
        num_heads=(1,) * 4,
        spatial_dims=2,
    )


def images(*sizes):
    return torch.rand(2, 1, *sizes, generator=torch.Generator().manual_seed(1))


def centre(*sizes):
    mask = torch.zeros(sizes, dtype=torch.bool)
    mask[tuple(slice(size // 4, size // 2) for size in sizes)] = True
    return Region(1, mask=mask)


CASES = {"densenet": ((16, 16), lambda *_: 1), "unet": ((8, 8, 8), centre), "swin": ((64, 64), centre)}


@pytest.mark.parametrize("name", CASES)
def test_relevance_balances_on_nets_of_monai(request, name):
    net = request.getfixturevalue(name)
    sizes, target = CASES[name]
    for method in ("lrp", "attn_lrp", "deeplift"):
        e = pellucid.explain(net, images(*sizes), method, target=target(*sizes))
        size = float(e.output.abs().max())
        assert float(e.gap.max()) < 1e-4 * max(size, 1.0)
        assert bool(e.values.any())


@pytest.mark.parametrize("name", CASES)
def test_class_activation_maps_name_the_layer_that_they_look_at(request, name):
    net = request.getfixturevalue(name)
    sizes, target = CASES[name]
    e = pellucid.explain(net, images(*sizes), "gradcam", target=target(*sizes))
    assert e.values.shape[:2] == (2, 1)
    assert e.values.ndim == 2 + len(sizes)
    assert e.warnings[0].startswith("at=")
    assert bool(e.values.any())


@pytest.mark.parametrize(
    ("name", "method", "says"),
    [
        ("unet", "guided_backprop", "calls none; use gradient"),
        ("densenet", "attention_rollout", "no product of a softmax with values"),
        ("swin", "attention_rollout", "attends inside windows"),
    ],
)
def test_what_cannot_work_is_refused_by_name(request, name, method, says):
    sizes, target = CASES[name]
    with pytest.raises(CannotExplain, match=says):
        pellucid.explain(request.getfixturevalue(name), images(*sizes), method, target=target(*sizes))


def test_the_number_of_axes_is_seen(densenet, unet):
    assert (Model(densenet).capabilities.spatial_rank, Model(unet).capabilities.spatial_rank) == (2, 3)


# --- bundles -------------------------------------------------------------------------------------------------------


class Bundle:
    """A bundle in a folder, as the model zoo lays it out."""

    def __init__(self, root, net):
        self.root = root
        self.config = {
            "imports": ["$import glob"], "bundle_root": ".", "device": "$torch.device('cpu')",
            "network_def": {"_target_": "DenseNet121", **DENSE, "pretrained": False},
            "network": "$@network_def.to(@device)",
            "preprocessing": {"_target_": "Compose", "transforms": [
                {"_target_": "LoadImaged", "keys": "image"}, {"_target_": "ScaleIntensityd", "keys": "image"}]},
        }  # fmt: skip
        self.metadata = {"network_data_format": {
            "inputs": {"image": {"type": "image", "num_channels": 1, "spatial_shape": [16, 16], "channel_def": {"0": "image"}}},
            "outputs": {"pred": {"type": "probabilities", "format": "classification", "num_channels": 3,
                                 "channel_def": {"0": "healthy", "1": "rust", "2": "miner"}}}}}  # fmt: skip
        (root / "models").mkdir(parents=True)
        torch.save(net.state_dict(), root / "models" / "model.pt")

    def write(self):
        write_json(self.root / "configs" / "inference.json", self.config)
        write_json(self.root / "configs" / "metadata.json", self.metadata)
        return self.root


@pytest.fixture
def bundle(tmp_path, densenet):
    return Bundle(tmp_path / "bundle", densenet)


def test_a_bundle_opens_with_trust_only_and_explains_as_its_net(bundle, densenet):
    path = bundle.write()
    with pytest.raises(UntrustedModel, match=r"evaluated as Python.*factory=.*trust='sha256:"):
        load_model(path)
    model = load_model(path, trust=True)
    for method in ("lrp", "gradcam", "occlusion(window=8, stride=8)"):
        e, bare = (pellucid.explain(one, images(16, 16), method, target=1) for one in (model, densenet))
        torch.testing.assert_close(e.values, bare.values, atol=1e-6, rtol=1e-5)


def test_a_bundle_says_classes_task_shape_and_what_it_would_do_to_images(bundle):
    model = load_model(bundle.write(), trust=True)
    assert (model.classes, model.task, model.source.shape) == (
        ("healthy", "rust", "miner"),
        "classification",
        (1, 16, 16),
    )
    assert "LoadImaged, ScaleIntensityd) is not applied" in model.source.notes[0]


def test_a_bundle_may_use_its_own_scripts_and_nothing_is_left_behind(bundle):
    (bundle.root / "scripts").mkdir()
    (bundle.root / "scripts" / "__init__.py").write_text("")
    (bundle.root / "scripts" / "own_net_of_a_bundle.py").write_text(
        "from monai.networks.nets import DenseNet121\n\n\ndef make(**settings):\n    return DenseNet121(**settings)\n"
    )
    bundle.config["network_def"] = {"_target_": "scripts.own_net_of_a_bundle.make", **DENSE}
    before = list(sys.path), sys.dont_write_bytecode
    assert load_model(bundle.write(), trust=True).classes == ("healthy", "rust", "miner")
    assert (list(sys.path), sys.dont_write_bytecode) == before
    assert not list(bundle.root.rglob("*.pyc"))


def test_a_net_that_asks_for_published_weights_gets_those_of_the_bundle(bundle, densenet, monkeypatch):
    import torch.hub

    def downloaded(*args, **settings):
        message = "weights were downloaded"
        raise AssertionError(message)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", downloaded)
    monkeypatch.setattr("monai.networks.nets.densenet.load_state_dict_from_url", downloaded, raising=False)
    bundle.config["network_def"]["pretrained"] = True
    model = load_model(bundle.write(), trust=True)
    with torch.inference_mode():
        assert torch.equal(model.network(images(16, 16)), densenet(images(16, 16)))


def test_safetensors_and_torchscript_weights_are_read(bundle, densenet):
    path = bundle.write()
    save_file(densenet.state_dict(), path / "models" / "model.safetensors")
    (path / "models" / "model.pt").unlink()
    with torch.inference_mode():
        wanted = densenet(images(16, 16))
        assert torch.equal(load_model(path, trust=True).network(images(16, 16)), wanted)
    (path / "models" / "model.safetensors").unlink()
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(densenet, images(16, 16)), path / "models" / "model.ts")
    model = load_model(path, trust=True)
    assert not model.capabilities.layers
    with torch.inference_mode():
        torch.testing.assert_close(model.network(images(16, 16)), wanted)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda it: (it.root / "models" / "model.pt").unlink(),
            "no weights models/model.safetensors .*nothing is downloaded",
        ),
        (lambda it: it.config.update(network_def="$1 + 1"), "is int and no network"),
        (lambda it: it.config.pop("network_def"), "network_def cannot be built"),
        (lambda it: it.config["network_def"].update(_target_="NoSuchNet"), "cannot be built"),
        (lambda it: it.config["network_def"].update(out_channels=4), "does not fit the network"),
    ],
)
def test_a_bundle_that_does_not_work_is_one_sentence(bundle, change, says):
    change(bundle)
    with pytest.raises(PellucidError, match=says):
        load_model(bundle.write(), trust=True)


def test_an_archive_of_a_bundle_says_to_unpack_it(bundle, tmp_path):
    import shutil

    bundle.write()
    path = shutil.make_archive(str(tmp_path / "bundle"), "zip", tmp_path, "bundle")
    with pytest.raises(UntrustedModel):
        load_model(path)
    with pytest.raises(CannotExplain, match="unpack it and give the folder"):
        load_model(path, trust=True)


def test_a_damaged_description_is_one_sentence(bundle):
    path = bundle.write()
    (path / "configs" / "metadata.json").write_text(json.dumps([1]))
    with pytest.raises(CannotExplain, match="no description of a bundle"):
        load_model(path, trust=True)
