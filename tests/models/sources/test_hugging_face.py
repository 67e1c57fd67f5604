import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import pellucid
from pellucid.errors import CannotExplain, ShapeError, UntrustedModel
from pellucid.models import Normalise, load_model, weights_hash
from pellucid.models.targets import Region

from .conftest import write_json

transformers = pytest.importorskip("transformers")

NAMED = {"num_labels": 3, "id2label": {0: "round", 1: "spiky", 2: "ghost"}}
SEGFORMER = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 12], "patch_sizes": [3, 3],
    "strides": [2, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 8,
}  # fmt: skip
NETS = {
    "ViTForImageClassification": ("ViTConfig", {
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24, "image_size": 16,
        "patch_size": 4}),
    "SwinForImageClassification": ("SwinConfig", {
        "image_size": 16, "patch_size": 2, "embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}),
    "ConvNextForImageClassification": ("ConvNextConfig", {
        "hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2, "patch_size": 2, "image_size": 16}),
    "ResNetForImageClassification": ("ResNetConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}),
    "SegformerForImageClassification": ("SegformerConfig", SEGFORMER),
    "SegformerForSemanticSegmentation": ("SegformerConfig", SEGFORMER),
}  # fmt: skip
PIXELS = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
          "image_std": [0.2, 0.3, 0.4]}  # fmt: skip
ATTENTION = ("attention_rollout", "attention_flow", "chefer", "legrad")


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Each net as it is, and the folder that it was saved to."""
    found = {}
    transformers.utils.logging.disable_progress_bar()
    for name, (config, settings) in NETS.items():
        torch.manual_seed(0)
        made = getattr(transformers, config)(**settings, **NAMED, attn_implementation="eager")
        net = getattr(transformers, name)(made).eval()
        folder = tmp_path_factory.mktemp(name)
        net.save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", PIXELS)
        found[name] = (net, folder)
    transformers.utils.logging.enable_progress_bar()
    return found


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def target(name):
    return Region(1) if "Segmentation" in name else 1


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", ["gradient", "lrp", "deeplift", "gradcam", "occlusion(window=8, stride=8)"])
def test_a_folder_explains_as_the_net_that_was_saved(nets, images, name, method):
    net, folder = nets[name]
    model = load_model(folder)
    bare = pellucid.Model(net, preprocess=Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 3:6] = True
    wanted = Region(1, mask=mask) if "Segmentation" in name else 1
    e, b = (pellucid.explain(one, images, method, target=wanted) for one in (model, bare))
    torch.testing.assert_close(e.values, b.values, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(e.output, b.output)


def test_the_folder_says_classes_task_shape_and_pixels(nets):
    for name, (_, folder) in nets.items():
        model = load_model(folder)
        assert model.classes == ("round", "spiky", "ghost")
        assert model.task == ("segmentation" if "Segmentation" in name else "classification")
        assert model.preprocess == Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        has = model.capabilities
        assert (has.gradients, has.layers, has.spatial_rank) == (True, True, 2)
        assert has.attention is not ("ResNet" in name or "ConvNext" in name)
        assert model.source.kind == "hugging_face"
        if model.embedding is not None:
            assert model.layer(model.embedding) is not None
    assert load_model(nets["ViTForImageClassification"][1]).source.shape == (3, 16, 16)


@pytest.mark.parametrize("method", ATTENTION)
def test_attention_is_seen_in_a_vit_and_equals_that_of_the_saved_net(nets, images, method):
    net, folder = nets["ViTForImageClassification"]
    model = load_model(folder, preprocess=Normalise((0.0,) * 3, (1.0,) * 3))
    e, bare = pellucid.explain(model, images, method, target=1), pellucid.explain(net, images, method, target=1)
    assert e.values.shape == (2, 1, 4, 4)
    torch.testing.assert_close(e.values, bare.values)
    assert model.network.config._attn_implementation == "eager"


def test_the_attention_that_is_read_is_the_networks_own(nets, images):
    net, folder = nets["ViTForImageClassification"]
    e = pellucid.explain(load_model(folder), images, "attention_maps(query='class')", target=1)
    with torch.inference_mode():
        told = net(load_model(folder).prepare(images)[0], output_attentions=True).attentions
    last = told[-1].mean(1)[:, 0, 1:].reshape(2, 1, 4, 4)
    torch.testing.assert_close(e.values, last, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ATTENTION)
def test_attention_methods_refuse_by_name_what_has_no_map_over_all_tokens(nets, images, method):
    for name, why in (
        ("SwinForImageClassification", "attends inside windows"),
        ("SegformerForImageClassification", "64 queries for 16 keys"),
        ("ConvNextForImageClassification", f"{method} needs attention"),
        ("ResNetForImageClassification", f"{method} needs attention"),
    ):
        with pytest.raises(CannotExplain, match=why):
            pellucid.explain(load_model(nets[name][1]), images, method, target=1)


def test_layers_that_see_no_image_are_not_taken_for_feature_maps(nets, images):
    e = pellucid.explain(load_model(nets["SwinForImageClassification"][1]), images, "gradcam", target=1)
    assert "bias" not in e.warnings[0]
    assert bool(e.values.any())


def test_another_size_is_one_sentence(nets):
    with pytest.raises(ShapeError, match=r"cannot take images of shape \(3, 24, 24\)"):
        pellucid.explain(load_model(nets["ViTForImageClassification"][1]), torch.rand(1, 3, 24, 24), "gradient")


@pytest.fixture
def copied(nets, tmp_path):
    def copy(name="ViTForImageClassification", **config):
        folder = tmp_path / "copy"
        shutil.copytree(nets[name][1], folder)
        told = json.loads((folder / "config.json").read_text()) | config
        write_json(folder / "config.json", {key: value for key, value in told.items() if value is not None})
        return folder

    return copy


@pytest.mark.parametrize(
    ("pixels", "made"),
    [
        ({}, (0.5, 0.25)),
        ({"do_rescale": False}, (0.5 / 255, 0.25 / 255)),
        ({"do_normalize": False}, None),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, (1.5 / 2, 0.25 / 2)),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, (0.5, 0.5)),
    ],
)
def test_what_is_done_to_pixels_is_that_of_the_image_processor(copied, pixels, made):
    """By hand: the library gets whole numbers, 255 times what is read here."""
    folder = copied()
    write_json(folder / "preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.25] * 3} | pixels)
    found = load_model(folder).preprocess
    assert found == (None if made is None else Normalise((pytest.approx(made[0]),) * 3, (pytest.approx(made[1]),) * 3))


def test_a_folder_without_names_or_pixels_makes_none_up(copied):
    folder = copied(id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    (folder / "preprocessor_config.json").unlink()
    model = load_model(folder)
    assert (model.classes, model.preprocess) == ((), None)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"auto_map": {"AutoModel": "code.Net"}}, UntrustedModel, "brings Python code of its own .*never run"),
        ({"quantization_config": {"bits": 8}}, CannotExplain, "quantised"),
        ({"architectures": ["ViTModel"]}, CannotExplain, r"ViTModel.*ForImageClassification"),
        ({"architectures": None}, CannotExplain, "holds vit"),
        ({"architectures": ["NoForImageClassification"]}, CannotExplain, "does not know"),
        ({"num_hidden_layers": 3}, CannotExplain, "missing weights .* random numbers"),
        ({"hidden_size": 24}, CannotExplain, "cannot be opened|mismatched"),
    ],
)
def test_what_cannot_be_used_is_refused(copied, change, error, says):
    with pytest.raises(error, match=says):
        load_model(copied(**change), trust=True)


def test_pickled_weights_are_refused_with_how_to_convert(copied):
    folder = copied()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UntrustedModel, match=r"pytorch_model\.bin.*save_pretrained"):
        load_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CannotExplain, match=r"no model\.safetensors; nothing is downloaded"):
        load_model(folder)


def test_weights_in_several_files_are_read_and_none_outside_the_folder(copied, images):
    folder = copied()
    whole = load_file(folder / "model.safetensors")
    before = load_model(folder)
    places = {name: f"part-{place % 2}.safetensors" for place, name in enumerate(sorted(whole))}
    for part in set(places.values()):
        save_file({name: whole[name] for name in whole if places[name] == part}, folder / part, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    write_json(index, {"metadata": {}, "weight_map": places})
    after = load_model(folder)
    with torch.inference_mode():
        assert torch.equal(after.network(images).logits, before.network(images).logits)
    (folder / "part-0.safetensors").write_bytes((folder / "part-0.safetensors").read_bytes() + b" ")
    assert weights_hash(folder) != after.source.sha256
    write_json(index, {"metadata": {}, "weight_map": dict.fromkeys(places, "../part.safetensors")})
    with pytest.raises(UntrustedModel, match="lies outside the folder"):
        load_model(folder)


def test_files_that_are_not_read_do_not_change_the_hash(copied):
    folder = copied()
    was = weights_hash(folder)
    (folder / "README.md").write_text("words")
    assert weights_hash(folder) == was
    write_json(folder / "preprocessor_config.json", PIXELS | {"image_std": [1, 1, 1]})
    assert weights_hash(folder) != was


def test_the_library_is_offline_while_a_folder_is_opened_and_as_it_was_afterwards(copied, monkeypatch):
    import os

    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen = []
    read = transformers.ViTForImageClassification.from_pretrained

    def spy(*args, **settings):
        seen.append((constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE"), settings["trust_remote_code"]))
        return read(*args, **settings)

    monkeypatch.setattr(transformers.ViTForImageClassification, "from_pretrained", spy)
    load_model(copied())
    assert seen == [(True, "1", False)]
    assert constants.HF_HUB_OFFLINE is False
    assert "HF_HUB_OFFLINE" not in os.environ
