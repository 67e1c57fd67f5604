import pytest
import torch
from torch import nn

import pellucid
from pellucid.errors import CannotExplain, PellucidError, ShapeError, UntrustedModel
from pellucid.models import load_model
from pellucid.models.targets import Latent

DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


@pytest.fixture(scope="module")
def exported(net, x, tmp_path_factory):
    """A program for any number of images, and one each for one and for two at once."""
    folder = tmp_path_factory.mktemp("programs")
    for rows, shapes in (("any", DYNAMIC), (1, None), (2, None)):
        given = x[:2] if rows == "any" else x[:rows]
        torch.export.save(torch.export.export(net, (given,), dynamic_shapes=shapes), folder / f"{rows}.pt2")
    return folder


@pytest.fixture(scope="module")
def scripted(net, x, tmp_path_factory):
    path = tmp_path_factory.mktemp("scripted") / "net.pt"
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(net, x[:2]), path)
    return path


@pytest.mark.parametrize("rows", ["any", 1, 2])
def test_an_exported_program_equals_the_module_for_any_number_of_images(exported, net, x, rows):
    model = load_model(exported / f"{rows}.pt2", trust=True)
    for method in ("gradient", "integrated_gradients(steps=4)", "occlusion(window=3)", "smoothgrad(samples=2)"):
        e, bare = pellucid.explain(model, x, method, target=1), pellucid.explain(net, x, method, target=1)
        torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(e.output, bare.output)
    assert model.source.shape == (3, 9, 9)
    assert model.capabilities.spatial_rank == 2


@pytest.mark.parametrize("rows", ["any", 1])
def test_the_layers_of_an_exported_program_keep_their_names(exported, net, x, rows):
    model = load_model(exported / f"{rows}.pt2", trust=True)
    assert {name for name, _ in net.named_modules()} <= {name for name, _ in model.module.named_modules()}
    for method in ('gradcam(at="features.3")', 'layercam(at="features")', 'scorecam(at="features.3")'):
        e, bare = pellucid.explain(model, x, method, target=1), pellucid.explain(net, x, method, target=1)
        torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=1e-4)
    e = pellucid.explain(model, x, "gradient", target=Latent(2, "features.3"))
    torch.testing.assert_close(e.values, pellucid.explain(net, x, "gradient", target=Latent(2, "features.3")).values)


def test_a_program_for_several_images_at_once_has_no_layers_to_tap(exported, x):
    model = load_model(exported / "2.pt2", trust=True)
    assert not model.capabilities.layers
    with pytest.raises(CannotExplain, match="gradcam needs layers"):
        pellucid.explain(model, x, "gradcam")
    assert "exactly 2 images at once" in model.source.notes[0]


@pytest.mark.parametrize("method", ["lrp", "deeplift", "guided_backprop", "attn_lrp", "excitation_backprop"])
def test_rules_cannot_be_put_into_a_compiled_program_and_are_refused(exported, scripted, x, method):
    for path in (exported / "any.pt2", scripted):
        with pytest.raises(PellucidError, match="use gradient, integrated_gradients"):
            pellucid.explain(load_model(path, trust=True), x, method, target=1)


def test_torchscript_gives_gradients_and_answers_and_no_layers(scripted, net, x):
    model = load_model(scripted, trust=True)
    has = model.capabilities
    assert (has.gradients, has.layers, has.attention, has.spatial_rank) == (True, False, False, 2)
    for method in ("gradient", "integrated_gradients(steps=4)", "occlusion(window=3)", "rise(samples=8)"):
        e, bare = pellucid.explain(model, x, method, target=1), pellucid.explain(net, x, method, target=1)
        torch.testing.assert_close(e.values, bare.values, atol=1e-5, rtol=1e-4)
    for method, needed in (("gradcam", "layers"), ("attention_rollout", "attention")):
        with pytest.raises(CannotExplain, match=f"{method} needs {needed}"):
            pellucid.explain(model, x, method)


@pytest.mark.parametrize("part", [nn.BatchNorm2d(3), nn.Dropout(0.5)])
def test_a_program_exported_in_training_mode_is_refused(tmp_path, x, part):
    net = nn.Sequential(part, nn.Flatten(), nn.Linear(243, 2)).train()
    torch.export.save(torch.export.export(net, (x[:2],), dynamic_shapes=DYNAMIC), tmp_path / "net.pt2")
    with pytest.raises(CannotExplain, match=r"training mode.*model\.eval\(\) before torch\.export"):
        load_model(tmp_path / "net.pt2", trust=True)


def test_images_of_another_size_than_the_program_was_exported_for_are_one_sentence(exported):
    with pytest.raises(ShapeError, match=r"cannot take images of shape \(3, 8, 8\)"):
        pellucid.explain(load_model(exported / "any.pt2", trust=True), torch.rand(2, 3, 8, 8), "occlusion(window=3)")


def test_a_damaged_program_is_one_sentence(exported, scripted, tmp_path):
    import zipfile

    for path in (exported / "any.pt2", scripted):
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / path.name, "w") as broken:
            for name in whole.namelist():
                spoilt = name.endswith(("model.json", "data.pkl"))
                broken.writestr(name, b"" if spoilt else whole.read(name))
        with pytest.raises(UntrustedModel):
            load_model(tmp_path / path.name)
        with pytest.raises(CannotExplain, match="cannot be opened"):
            load_model(tmp_path / path.name, trust=True)
