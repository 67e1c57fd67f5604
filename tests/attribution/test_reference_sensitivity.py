"""What a map owes to its reference: closed forms, references made of other images, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import pellucid
from pellucid.attribution import FILLS, METHODS, reference_images
from pellucid.attribution.fills import Image
from pellucid.errors import BadRecipe, ShapeError
from pellucid.models import Model, Normalise

sensitivity = pellucid.reference_sensitivity


def linear(size=12):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 2)).eval()


def test_a_linear_model_has_the_maps_of_closed_form_under_every_reference(pixels):
    net, x = linear(), pixels(3, 3, 2, 2)
    given = torch.rand(3, 2, 2)
    found = sensitivity(net, x, fills={"zero": "zero", "half": 0.5, "mean": "mean", "mine": given}, target=1)
    weight = net[1].weight[1].view(3, 2, 2).detach()
    references = {"zero": 0, "half": 0.5, "mean": x.mean((2, 3), keepdim=True), "mine": given}
    for name, reference in references.items():
        expected = weight * (x - reference)
        torch.testing.assert_close(found.explanations[name].values, expected, rtol=1e-4, atol=1e-5)
        totals = [row["total"] for row in found.table.to_pylist() if row["fill"] == name]
        np.testing.assert_allclose(totals, expected.flatten(1).sum(1), rtol=1e-3, atol=1e-4)


def test_agreement_and_overlap_equal_those_of_each_pair_by_hand(pixels):
    net, x, names = linear(75), pixels(4, 3, 5, 5), ("zero", "mean", "blur")
    found = sensitivity(net, x, "integrated_gradients(steps=2)", names, target=0, top=0.2, ids=list("abcd"))
    maps = [found.explanations[name].values.sum(1).flatten(1).numpy() for name in names]
    for one in range(3):
        for two in range(3):
            each = [spearmanr(a, b).statistic for a, b in zip(maps[one], maps[two], strict=True)]
            assert found.agreement[one, two] == pytest.approx(np.mean(each))
            tops = [[set(np.argsort(-np.abs(row))[:5]) for row in maps[side]] for side in (one, two)]
            common = [len(a & b) / 5 for a, b in zip(*tops, strict=True)]
            assert found.overlap[one, two] == pytest.approx(np.mean(common))
    row = found.table.to_pylist()[1]
    assert (row["image"], row["fill"]) == ("b", "zero")
    others = [spearmanr(maps[0][1], maps[other][1]).statistic for other in (1, 2)]
    assert row["agreement"] == pytest.approx(np.mean(others))


def test_references_that_are_the_same_agree_fully_and_a_method_that_ignores_them_does_too(pixels):
    net, x = linear(), pixels(2, 3, 2, 2)
    found = sensitivity(net, x, fills={"zero": "zero", "none": 0.0, "black": torch.zeros(3, 2, 2)})
    np.testing.assert_allclose(found.agreement, 1)
    np.testing.assert_allclose(found.overlap, 1)
    assert found.method == "integrated_gradients"


@pytest.mark.parametrize("method", ["occlusion(window=2)", "expected_gradients(samples=4)", "deep_shap", "deeplift",
                                    "kernel_shap(segments=4, samples=30)", "guided_ig(steps=4)"])  # fmt: skip
def test_every_kind_of_reference_is_asked_for_under_its_own_name(method, pixels):
    net, x = linear(48), pixels(2, 3, 4, 4)
    given = torch.rand(1, 3, 4, 4)
    found = sensitivity(net, x, method, {"zero": "zero", "noise": "noise", "given": given}, seed=3)
    assert found.table.num_rows == 6
    assert not torch.equal(found.explanations["zero"].values, found.explanations["given"].values)
    assert found.fills["zero"].startswith("zero: zero in model space")


def test_one_reference_a_row_is_that_rows_own(pixels):
    net, x, references = linear(), pixels(3, 3, 2, 2), pixels(3, 3, 2, 2, seed=9)
    found = sensitivity(net, x, fills={"zero": "zero", "own": references}, target=[0, 1, 0])
    weight = net[1].weight[torch.tensor([0, 1, 0])].view(3, 3, 2, 2).detach()
    torch.testing.assert_close(found.explanations["own"].values, weight * (x - references), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.explanations["own"].reference_output, net(references)[range(3), [0, 1, 0]].detach()
    )


def test_given_images_go_through_the_models_preprocessing_and_named_fills_do_not(pixels):
    model = Model(linear(), preprocess=Normalise((0.5,) * 3, (0.25,) * 3))
    x, grey = pixels(2, 3, 2, 2), torch.full((3, 2, 2), 0.5)
    found = sensitivity(model, x, fills={"zero": "zero", "grey": grey})
    torch.testing.assert_close(found.explanations["zero"].values, found.explanations["grey"].values)


def test_it_draws_both_tables(pixels):
    figure = sensitivity(linear(), pixels(2, 3, 2, 2), fills=("zero", "mean", "noise")).plot()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["rank correlation", "overlap of the top 10%"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["zero", "mean", "noise"]


def test_every_named_fill_runs_by_default(pixels):
    found = sensitivity(linear(48), pixels(1, 3, 4, 4), "integrated_gradients(steps=2)")
    assert list(found.fills) == list(FILLS)


def test_what_cannot_be_compared_is_refused(pixels):
    net, x = linear(), pixels(2, 3, 2, 2)
    with pytest.raises(BadRecipe, match="stands against no reference"):
        sensitivity(net, x, "saliency")
    with pytest.raises(BadRecipe, match="at least two"):
        sensitivity(net, x, fills=("zero",))
    with pytest.raises(ShapeError, match="does not fit images"):
        sensitivity(net, x, fills={"zero": "zero", "small": torch.zeros(3, 1, 1)})


def test_an_image_as_a_baseline_is_a_value_that_compares_by_content(pixels):
    image = pixels(3, 2, 2)
    method = METHODS["integrated_gradients"](baseline=image)
    assert method == METHODS["integrated_gradients"](baseline=image.clone()[None][0].numpy())
    assert str(method) == f'integrated_gradients(baseline="image(sha256:{Image(image).digest[:16]})")'
    with pytest.raises(BadRecipe, match="cannot be read back from its digest"):
        METHODS.parse(str(method))
    with pytest.raises(ShapeError, match="does not fit images"):
        pellucid.explain(linear(), pixels(1, 3, 2, 2), METHODS["integrated_gradients"](baseline=image[:1]))
    with pytest.raises(BadRecipe, match="finite floating-point"):
        METHODS["integrated_gradients"](baseline=image * torch.nan)


def test_the_class_mean_the_nearest_other_and_a_sample_are_what_they_say(pixels):
    images, labels = pixels(6, 1, 3, 3, seed=4), [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(reference_images.class_mean(images, labels, 1), images[2:4].mean(0, keepdim=True))
    x = pixels(4, 1, 3, 3)
    found = reference_images.nearest_other(x, [0, 1, 2, 0], images, labels)
    for row, own in enumerate([0, 1, 2, 0]):
        apart = [float((x[row] - image).norm()) if label != own else np.inf
                 for image, label in zip(images, labels, strict=True)]  # fmt: skip
        assert torch.equal(found[row], images[int(np.argmin(apart))])
    drawn = reference_images.background_sample(images, seed=5)
    assert torch.equal(drawn, reference_images.background_sample(images, seed=5))
    assert any(torch.equal(drawn[0], image) for image in images)
    for call, said in (
        (lambda: reference_images.class_mean(images, labels, 7), "no image has the label 7"),
        (lambda: reference_images.class_mean(images, labels[:2], 0), "2 labels were given for 6 images"),
        (lambda: reference_images.nearest_other(x[:1], [0], images[:2], [0, 0]), "no image of another class"),
        (lambda: reference_images.nearest_other(x[..., :2], [0] * 4, images, labels), "cannot be references"),
    ):
        with pytest.raises(ShapeError, match=said):
            call()


@pytest.mark.parametrize("shape", [(9,), (8, 9), (5, 6, 7)])
def test_in_painting_keeps_what_is_not_masked_and_continues_a_ramp_into_the_hole(shape):
    ramp = torch.linspace(0, 1, shape[-1]).expand(2, 2, *shape).clone()
    masks = torch.zeros(2, *shape, dtype=torch.bool)
    hole = (slice(None), *[slice(2, 4)] * len(shape))
    masks[hole] = True
    spoilt = torch.where(masks[:, None], torch.tensor(7.0), ramp)
    found = reference_images.inpainted(spoilt, masks)
    assert torch.equal(found[~masks[:, None].expand_as(found)], ramp[~masks[:, None].expand_as(ramp)])
    torch.testing.assert_close(found, ramp, rtol=0, atol=0.1)
    with pytest.raises(ShapeError, match="covers the whole image"):
        reference_images.inpainted(ramp, torch.ones_like(masks))
    with pytest.raises(ShapeError, match="do not fit images"):
        reference_images.inpainted(ramp, masks[:1])
