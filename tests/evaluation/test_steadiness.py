import pytest
import torch
from torch import nn

from pellucid.attribution import explain
from pellucid.errors import ShapeError
from pellucid.evaluation import augmentation_curves
from pellucid.evaluation.augmentation import augmentation_robustness
from pellucid.models import Model


def net():
    """A net that reads the mean of red against the mean of blue: no pose changes it."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[4.0, 1.0, -4.0], [-4.0, -1.0, 4.0]]))
    return Model(model.requires_grad_(False), classes=("red", "blue"), task="classification")


def images():
    x = 0.2 + 0.2 * torch.rand(4, 3, 16, 16)
    x[:, 0, 5:11, 5:11] += 0.4
    return x


def curves(metric, model=None, methods=("gradient", "input_x_gradient"), x=None):
    model, x = model or net(), images() if x is None else x
    return augmentation_curves(model, x, [explain(model, x, method) for method in methods], metric).to_pylist()


def test_a_constant_change_of_light_keeps_a_linear_models_gradient_and_has_both_directions():
    rows = curves(augmentation_robustness(transforms=("brightness",), steps=2, strength=0.5, similarity="cosine"))
    assert sorted({row["strength"] for row in rows}) == [-0.5, -0.25, 0.25, 0.5]
    assert {row["method"] for row in rows} == {"", "gradient", "input_x_gradient"}
    assert all(row["value"] == pytest.approx(1, abs=1e-5) for row in rows if row["method"] == "gradient")
    assert all(0 <= row["value"] <= 1 for row in rows if row["method"] == "")
    assert all(row["n"] == 4 for row in rows)


def test_a_weak_change_moves_the_map_less_than_a_strong_one():
    rows = curves(augmentation_robustness(transforms=("rotation",), steps=2))
    told = {row["strength"]: row["value"] for row in rows if row["method"] == "input_x_gradient"}
    assert told[0.5] > told[1.0]
    assert told[-0.5] > told[-1.0]


def test_the_curve_does_not_stop_where_the_model_gives_way():
    metric = augmentation_robustness(transforms=("hue",), steps=1, cut=0.01)
    rows = curves(metric)
    assert any(row["method"] == "" and row["value"] < 0.99 for row in rows)
    assert {row["strength"] for row in rows if row["method"] == "input_x_gradient"} == {-1.0, 1.0}


def test_images_that_no_change_fits_are_refused():
    line = Model(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)))
    with pytest.raises(ShapeError, match="rotation cannot be done"):
        curves(augmentation_robustness(transforms=("rotation",)), line, ("gradient",), torch.rand(2, 1, 8))
