"""Targets of every kind with every method: verified as on the zoo's own targets, and held to what is linear in a target."""

from dataclasses import replace

import pytest
import torch

import pellucid
from pellucid.attribution import METHODS
from pellucid.models.targets import Class, Contrast, Latent, LogOdds, Output, Region, Similarity
from pellucid.testing.zoo import ZOO, small, verify

HEAVY = {"blur_ig", "extremal_perturbation", "expressive_gradients", "guided_ig"}
DIRECTION = torch.randn(16, generator=torch.Generator().manual_seed(3))
MASK = torch.zeros(16, 20, dtype=torch.bool)
MASK[3:6, 2:9] = True

TARGETS = {
    "class": ("resnet18", Class(index=(1, 2))),
    "contrast": ("resnet18", Contrast(positive=0, negative=3)),
    "contrast of a transformer": ("vit", Contrast(positive=0, negative=(3, 1))),
    "log-odds": ("resnet18", LogOdds(index=2)),
    "object": ("unet_transposed", Region(index=1)),
    "mask": ("unet_transposed", Region(index=2, mask=MASK)),
    "point": ("unet_interpolated", Region(index=0, point=(7, 11))),
    "output": ("regression", Output(index=0)),
    "similarity": ("embedding", Similarity(reference=DIRECTION[:8])),
    "latent": ("resnet18", Latent(index=3, layer="layers.2")),
}

LINEAR = (
    "gradient", "input_x_gradient", "smoothgrad(samples=3)", "integrated_gradients(steps=6)", "blur_ig(steps=6)",
    "expected_gradients(samples=4)", "deeplift", "deep_shap", "lrp", "attn_lrp", "gradcam", "hirescam", "xgradcam",
    "occlusion(window=6, stride=4)", 'ablation(segments="channels")', "rise(samples=12, grid=3)",
    'lime(segments="grid(2, 2)", samples=12)', 'kernel_shap(segments="grid(2, 2)")',
    'shapley_sampling(segments="grid(2, 2)", samples=8)', 'owen(segments="grid(4, 4)", groups=4, samples=4)',
)  # fmt: skip
"""Methods whose map of a difference of two targets is the difference of their maps."""


@pytest.mark.parametrize("kind", TARGETS)
def test_every_method_is_right_for_every_kind_of_target_or_says_why_not(kind):
    name, target = TARGETS[kind]
    net = replace(ZOO[name], target=target)
    refused = {method for method in sorted(METHODS) if method not in HEAVY and verify(net, small(method)).refused}
    always = {"attention_flow", "attention_maps", "attention_rollout", "chefer", "legrad"}  # of a net without attention
    positive = {"deep_taylor", "excitation_backprop"}  # of one class of a rectified net
    unruled = {"pattern_net", "pattern_attribution", "deconvnet", "guided_backprop", "guided_gradcam"}
    assert refused <= always | positive | unruled, f"refused for {target}: {sorted(refused)}"
    if name == "resnet18":
        assert not refused & unruled


@pytest.mark.parametrize("method", LINEAR)
def test_the_map_of_a_contrast_is_the_difference_of_the_maps_of_its_classes(method):
    net, x = ZOO["resnet18"].model(), ZOO["resnet18"].inputs()
    why = pellucid.explain(net, x, method, Contrast(positive=0, negative=3))
    one, other = (pellucid.explain(net, x, method, index).values for index in (0, 3))
    size = float(torch.maximum(one.abs(), other.abs()).max())
    torch.testing.assert_close(why.values, one - other, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("method", LINEAR)
def test_the_map_of_a_region_is_the_mean_of_the_maps_of_its_points(method):
    net, x = ZOO["unet_transposed"].model(), ZOO["unet_transposed"].inputs()
    box = pellucid.explain(net, x, method, Region(index=1, box=((4, 7), (6, 9)))).values
    points = [
        pellucid.explain(net, x, method, Region(index=1, point=(row, column))).values
        for row in (4, 5)
        for column in (7, 8)
    ]
    size = max(float(values.abs().max()) for values in points)
    torch.testing.assert_close(box, torch.stack(points).mean(0), rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize(
    "method", [text for text in LINEAR if "kernel" not in text] + ["saliency", "layercam", "hsic(grid=2, samples=24)"]
)
def test_the_object_is_the_one_of_the_unperturbed_prediction(method):
    net, x = ZOO["unet_transposed"].model(), ZOO["unet_transposed"].inputs(rows=1)
    predicted = net.network(x).argmax(1)[0] == 1
    assert 0 < predicted.sum() < predicted.numel()
    free = pellucid.explain(net, x, method, Region(index=1))
    frozen = pellucid.explain(net, x, method, Region(index=1, mask=predicted))
    assert torch.equal(free.values, frozen.values)
    assert torch.equal(free.output, frozen.output)


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient", "gradcam", "hirescam", "lrp"])
def test_log_odds_weigh_the_classes_by_their_slopes(method):
    net, x = ZOO["resnet18"].model(), ZOO["resnet18"].inputs()
    logits = net.network(x).detach().requires_grad_()
    own, others = logits[:, 2], logits[:, [0, 1, 3]].logsumexp(1)
    (slopes,) = torch.autograd.grad((own - others).sum(), logits)
    maps = [pellucid.explain(net, x, method, index).values for index in range(4)]
    expected = sum(slopes[:, index].view(-1, 1, 1, 1) * maps[index] for index in range(4))
    odds = pellucid.explain(net, x, method, LogOdds(index=2)).values
    torch.testing.assert_close(odds, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["gradient", "occlusion(window=6, stride=4)", "lrp", "deeplift", "gradcam"])
def test_similarity_to_an_axis_is_that_unit_over_the_length(method):
    net, x = ZOO["embedding"].model(), ZOO["embedding"].inputs()
    axis = torch.eye(8)[2]
    similar = pellucid.explain(net, x, method, Similarity(reference=axis))
    embedded = net.network.neck(net.network.tower(x).mean((2, 3)))
    torch.testing.assert_close(similar.output, (embedded[:, 2] / embedded.norm(dim=1)).detach())
    assert similar.values.any()


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("unet_transposed", None, r"target=None has no meaning for a dense output .*Region"),
        ("unet_transposed", Class(index=1), r"use Region\(index, box=...\)"),
        ("regression", None, r"give pellucid.targets.Output\(index\)"),
        ("resnet18", Region(index=1), "use Class"),
        ("vgg", Similarity(reference=DIRECTION), "say layer="),
        ("embedding", Similarity(reference=DIRECTION), "the reference has 16 numbers and the layer 8"),
    ],
)
@pytest.mark.parametrize("method", ["gradient", "lrp", "deeplift", "occlusion(window=6, stride=4)", "gradcam"])
def test_a_target_that_does_not_fit_is_refused_by_every_engine_alike(name, target, said, method):
    net = ZOO[name]
    with pytest.raises(pellucid.PellucidError, match=said):
        pellucid.explain(net.model(), net.inputs(), method, target)
