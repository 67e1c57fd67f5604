"""Is a class that lives in groups of its own named, and nothing where groups are shared as usual?"""

from dataclasses import replace

import pytest
import torch

from pellucid.interpretation import find_confounders
from pellucid.interpretation.confounding import background_probe

ROWS = 48


def found(lab, groups, *, labels=None, classes=3, tint=0.0):
    images = lab.cells(lambda random, label: {"tint": tint * (label == 2)}, count=ROWS, classes=classes, groups=groups)
    images = images if labels is None else replace(images, labels=tuple(labels))
    return find_confounders(lab.evidence(lambda x: x.flatten(1)[:, :classes], images))


def shared(size=6):
    """Smears of `size` cells each, all classes mixed."""
    return [f"s{row // size}" for row in range(ROWS)]


def alone(label=2, size=6):
    """The same, but cells of one class come from smears of their own."""
    return [f"x{row // 12}" if row % 3 == label else name for row, name in enumerate(shared(size))]


def test_a_class_alone_in_its_groups_is_named_with_its_numbers(lab):
    (finding,) = found(lab, alone())
    assert (finding.kind, finding.subject, finding.verdict) == ("confounder", "kind 2", "supported")
    assert finding.statement.startswith("Class kind 2 shares no smear with any other class")
    assert "4 smears of two images or more hold kind 2 (16 images) and nothing else" in finding.evidence


def test_classes_that_share_their_groups_are_not_named(lab):
    assert found(lab, shared()) == []


def test_a_class_that_shares_a_single_group_is_not_alone(lab):
    groups = alone()
    groups[2] = groups[0]
    assert found(lab, groups) == []


def test_patients_of_one_diagnosis_each_say_nothing_of_a_class(lab):
    assert found(lab, [f"patient {row % 3} {row // 12}" for row in range(ROWS)]) == []


def test_one_patient_of_two_diagnoses_does_not_make_the_third_a_confounder(lab):
    groups = [f"patient {row % 3} {row // 12}" for row in range(ROWS)]
    groups[1] = groups[0]
    assert found(lab, groups) == []


def test_groups_of_one_image_cannot_share_and_have_no_say(lab):
    groups = [f"cell {row}" if row % 3 == 2 else name for row, name in enumerate(shared())]
    assert found(lab, groups) == []


def test_two_classes_in_separate_groups_name_neither(lab):
    assert found(lab, [f"s{row % 2}" for row in range(ROWS)], classes=2) == []


def test_images_without_a_group_stand_for_themselves(lab):
    groups = [None if row % 3 == 2 else name for row, name in enumerate(shared())]
    assert found(lab, groups) == []
    images = lab.cells(lambda random, label: {}, count=4, groups=["a", None, "", "b"])
    evidence = lab.evidence(lab.MODELS["spot"], images)
    assert evidence.groups(images.ids) == ["a", "image 001", "image 002", "b"]


def test_without_groups_or_labels_there_is_nothing_to_say(lab):
    images = lab.cells(lambda random, label: {}, count=12)
    assert find_confounders(lab.evidence(lab.MODELS["spot"], images)) == []
    evidence = lab.evidence(lab.MODELS["spot"], lab.cells(lambda random, label: {}, count=12, groups=["s"] * 12))
    assert find_confounders(replace(evidence, images=replace(evidence.images, labels=None))) == []


def test_the_probe_says_how_far_background_colour_alone_gives_the_class(lab):
    (tinted,), (plain,) = (found(lab, alone(), tint=tint) for tint in (0.4, 0.0))
    accuracy = [float(finding.evidence.split("balanced accuracy ")[1][:4]) for finding in (tinted, plain)]
    assert "(chance 0.33, 48 images, out of sample)" in tinted.evidence
    assert accuracy[0] > accuracy[1] + 0.15


def test_a_class_of_few_images_is_named_without_a_probe(lab):
    labels = [0 if row % 3 == 2 and row > 12 else row % 3 for row in range(ROWS)]
    groups = [f"x{row // 24}" if label == 2 else name for row, (label, name) in
              enumerate(zip(labels, shared(), strict=True))]  # fmt: skip
    (finding,) = found(lab, groups, labels=labels)
    assert "balanced accuracy" not in finding.evidence


@pytest.mark.parametrize("groups", [None, [f"s{row // 3}" for row in range(ROWS)]])
def test_the_probe_is_at_chance_where_backgrounds_know_nothing_and_right_where_they_know_all(lab, groups):
    for tint, low, high in ((0.0, 0.0, 0.72), (0.5, 0.9, 1.0)):
        images = lab.cells(lambda random, label, tint=tint: {"tint": tint * label}, count=ROWS, groups=groups)
        accuracy, chance = background_probe(lab.evidence(lab.MODELS["spot"], images).cases(ROWS), 0)
        assert chance == 0.5
        assert low <= accuracy <= high


def test_the_probe_leaves_whole_groups_out_where_every_class_has_several(lab):
    """Colour names the smear and the smear the class: within smears the probe looks perfect, across them it guesses."""
    tints = torch.rand((6, 6), generator=torch.Generator().manual_seed(3))
    smears = [row % 6 for row in range(ROWS)]
    images = lab.cells(lambda random, label: {}, count=ROWS, channels=6, groups=[f"s{smear}" for smear in smears])
    pixels = images.tensor() + tints[smears][:, :, None, None]
    coloured = replace(images, load=lambda name: pixels[images.ids.index(name)])
    cases = lab.evidence(lab.MODELS["spot"], coloured).cases(ROWS)
    apart, _ = background_probe(cases, 0)
    mixed, _ = background_probe([replace(case, group="one") for case in cases], 0)
    assert apart < 0.7
    assert mixed > 0.95


def test_a_probe_over_few_groups_of_one_class_each_still_sees_every_class(lab):
    groups = [f"a{row // 2 % 20}" if row % 2 == 0 else f"b{row // 2 % 3}" for row in range(ROWS)]
    images = lab.cells(lambda random, label: {"tint": 0.5 * label}, count=ROWS, groups=groups)
    accuracy, _ = background_probe(lab.evidence(lab.MODELS["spot"], images).cases(ROWS), 0)
    assert accuracy > 0.9
