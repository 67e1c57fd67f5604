import math

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.errors import BadTarget
from pellucid.models import Model
from pellucid.models.targets import (
    TARGETS,
    Class,
    Contrast,
    Latent,
    LogOdds,
    Output,
    Region,
    Similarity,
    Target,
    resolve,
)  # fmt: skip

LOGITS = torch.tensor([[1.0, 2.0, -1.0], [0.5, -0.5, 3.0]])
MODEL = Model(lambda x: x, classes=("a", "b", "c"))
ROWS = torch.arange(2)


def read(target, outputs=LOGITS, model=MODEL, rows=ROWS):
    return target.freeze(model, outputs)(outputs, rows)


def maps():
    """Two rows, two classes, 2 x 3 pixels: class 1 wins where the second map is larger."""
    first = torch.zeros(2, 2, 3)
    second = torch.tensor([[[1.0, -1, -1], [2, -1, -1]], [[-1.0, -1, 5], [-1, -1, -1]]])
    return torch.stack([first, second], 1)


def test_a_class_is_read_by_number_name_and_row():
    assert read(Class(1)).tolist() == [2.0, -0.5]
    assert read(Class("c")).tolist() == [-1.0, 3.0]
    assert read(Class(-1)).tolist() == [-1.0, 3.0]
    assert read(Class(("a", 2))).tolist() == [1.0, 3.0]


def test_a_frozen_class_keeps_its_row_when_rows_are_repeated_and_outputs_change():
    frozen = Class((0, 2)).freeze(MODEL, LOGITS)
    perturbed = torch.tensor([[9.0, 8, 7], [6, 5, 4], [3, 2, 1]])
    assert frozen(perturbed, torch.tensor([1, 0, 1])).tolist() == [7.0, 6.0, 1.0]


def test_contrast_is_the_difference_of_two_logits():
    assert read(Contrast("b", "a")).tolist() == [1.0, -1.0]


def test_log_odds_equal_log_p_over_one_minus_p():
    chance = LOGITS.double().softmax(1)[:, 1]
    assert torch.allclose(read(LogOdds(1)).double(), (chance / (1 - chance)).log(), atol=1e-6)


def test_log_odds_of_a_one_logit_net_are_the_logit():
    assert read(LogOdds(0), torch.tensor([[0.7], [-2.0]])).tolist() == pytest.approx([0.7, -2.0])


def test_log_odds_stay_finite_where_the_probability_rounds_to_one():
    assert read(LogOdds(0), torch.tensor([[200.0, 0.0]]), rows=torch.tensor([0])).item() == 200.0


def test_an_output_is_read_as_it_is():
    assert read(Output(2)).tolist() == [-1.0, 3.0]


def test_a_region_without_bounds_is_where_the_class_was_predicted():
    assert read(Region(1), maps()).tolist() == [1.5, 5.0]


def test_a_region_stays_where_it_was_when_the_output_changes():
    frozen = Region(1).freeze(MODEL, maps())
    changed = torch.zeros(2, 2, 2, 3)
    changed[:, 1, :, 0] = 4.0
    assert frozen(changed, ROWS).tolist() == [4.0, 0.0]


def test_a_region_reads_its_box_point_and_mask():
    assert read(Region(1, box=((0, 0), (2, 2))), maps()).tolist() == [0.25, -1.0]
    assert read(Region(1, point=(1, 0)), maps()).tolist() == [2.0, -1.0]
    mask = torch.zeros(2, 3)
    mask[0, 2] = mask[0, 0] = 1
    assert read(Region(1, mask=mask), maps()).tolist() == [0.0, 2.0]
    each = torch.stack([mask, mask.flip(0)])
    assert read(Region(1, mask=each), maps()).tolist() == [0.0, -1.0]


def test_a_one_map_segmentation_is_predicted_where_its_logit_is_positive():
    assert read(Region(0), maps()[:, 1:]).tolist() == [1.5, 5.0]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Region(0, box=((0, 0), (3, 3))), "does not lie"),
        (Region(0, point=(-1, 0)), "does not lie"),
        (Region(0, box=((1, 1), (1, 2))), "does not lie"),
        (Region(0, point=(1,)), "one number for each axis"),
        (Region(0, point=(1, 1), box=((0, 0), (1, 1))), "takes one of"),
        (Region(0, mask=torch.ones(3, 3)), "axes are"),
        (Region(0, mask=torch.zeros(2, 3)), "mask holds no pixel"),
        (Region(7), "output 7 does not exist"),
    ],
)
def test_a_region_that_does_not_fit_is_refused(target, says):
    with pytest.raises(BadTarget, match=says):
        target.freeze(MODEL, maps())


def test_a_class_that_is_predicted_nowhere_has_no_region():
    with pytest.raises(BadTarget, match="row 0 is empty: no pixel"):
        Region(1).freeze(MODEL, torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)], 1))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Class(3), "output 3 does not exist"),
        (Class("d"), "no class 'd'; the model has a, b, c"),
        (Class((0, 1, 2)), "3 classes for 2 rows"),
        (Region(0), "use Class"),
    ],
)
def test_a_target_that_does_not_fit_a_classifier_is_refused(target, says):
    with pytest.raises(BadTarget, match=says):
        target.freeze(MODEL, LOGITS)


def test_a_class_of_a_segmentation_is_refused_with_what_would_do():
    with pytest.raises(BadTarget, match="use Region"):
        Class(0).freeze(MODEL, maps())


def test_similarity_is_the_cosine_to_the_reference():
    model = Model(nn.Sequential(nn.Linear(2, 2)), embedding="0")
    frozen = Similarity(torch.tensor([3.0, 4.0])).freeze(model, LOGITS)
    assert frozen.layer == "0"
    assert frozen(torch.tensor([[6.0, 8.0], [-4.0, 3.0]]), ROWS).tolist() == pytest.approx([1.0, 0.0], abs=1e-7)
    with pytest.raises(BadTarget, match="reference has 2 numbers and the layer 3"):
        frozen(torch.ones(2, 3), ROWS)


def test_a_reference_without_direction_is_refused():
    with pytest.raises(BadTarget, match="no direction"):
        Similarity(torch.zeros(2)).freeze(Model(nn.Sequential(nn.Linear(2, 2)), embedding="0"), LOGITS)


def test_an_embedding_target_needs_to_know_the_layer():
    with pytest.raises(BadTarget, match="say layer="):
        Latent(0).freeze(Model(nn.Sequential(nn.Linear(2, 2))), LOGITS)


def test_a_latent_is_one_unit_averaged_over_space():
    frozen = Latent(1, layer="0").freeze(Model(nn.Sequential(nn.Linear(2, 2))), LOGITS)
    assert frozen(torch.tensor([[1.0, 2.0]]), ROWS[:1]).tolist() == [2.0]
    assert frozen(torch.arange(8.0).view(1, 2, 2, 2), ROWS[:1]).tolist() == [5.5]
    with pytest.raises(BadTarget, match="2 units"):
        Latent(2, layer="0").freeze(Model(nn.Sequential(nn.Linear(2, 2))), LOGITS)(torch.ones(1, 2), ROWS[:1])


@pytest.mark.parametrize(
    ("given", "means"),
    [
        (None, Class((1, 2))),
        (2, Class(2)),
        (np.int64(2), Class(2)),
        (torch.tensor(2), Class(2)),
        ("b", Class("b")),
        ([0, 1], Class((0, 1))),
        (np.array([0, 1]), Class((0, 1))),
        ([np.int64(0), "b"], Class((0, "b"))),
        (torch.tensor([0, 1]), Class((0, 1))),
        (Contrast(0, 1), Contrast(0, 1)),
    ],
)
def test_what_a_user_gives_becomes_a_target(given, means):
    assert resolve(given, MODEL, LOGITS) == means


@pytest.mark.parametrize("given", [1.5, [0.5, 1.0], np.array([0.5, 1.5]), torch.tensor(0.5), {"a": 1}])
def test_what_is_no_class_is_refused(given):
    with pytest.raises(BadTarget, match="is no class"):
        resolve(given, MODEL, LOGITS)


def test_the_default_of_a_one_logit_net_is_its_output():
    assert resolve(None, MODEL, torch.ones(2, 1)) == Output(0)


def test_no_default_is_guessed_for_regression_and_segmentation():
    with pytest.raises(BadTarget, match=r"pellucid\.targets\.Output"):
        resolve(None, Model(lambda x: x, task="regression"), LOGITS)
    with pytest.raises(BadTarget, match=r"Region\(index, box"):
        resolve(None, MODEL, maps())


@pytest.mark.parametrize(
    "target", [Class(1), Class("b"), Class((0, 1)), Contrast(1, "a"), LogOdds(0), Output(2), Latent(3, layer="pool"),
               Region(1, box=((0, 0), (2, 2))), Region(1, point=(1, 0))]
)  # fmt: skip
def test_a_target_prints_and_parses_to_the_equal_value(target):
    assert TARGETS.parse(str(target)) == target
    assert isinstance(target, Target)


def test_log_odds_of_two_classes_are_their_contrast():
    outputs = torch.tensor([[0.3, 1.9]])
    both = [read(target, outputs, rows=torch.tensor([0])).item() for target in (LogOdds(1), Contrast(1, 0))]
    assert math.isclose(*both, rel_tol=1e-6)
