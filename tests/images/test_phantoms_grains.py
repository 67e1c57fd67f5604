from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pellucid.errors import BadImage
from pellucid.images import phantoms, read_images
from pellucid.images.phantoms import GRAIN_FACTORS, Shortcut

LESIONS = ("fusarium_area", "skinned_area")


@pytest.fixture(scope="module")
def grains():
    return phantoms.grains(20, (64, 64), seed=1)


def test_an_unchanged_render_equals_the_image_bit_for_bit(grains):
    for image in grains.images.ids:
        assert torch.equal(grains.render(image), grains.images.load(image))


def test_image_i_does_not_depend_on_how_many_there_are(grains):
    few = phantoms.grains(3, (64, 64), seed=1)
    assert torch.equal(few.images.tensor(), grains.images.tensor(few.images.ids))


def test_a_healthy_kernel_has_an_empty_truth_and_a_sick_one_its_lesion_inside_the_kernel(grains):
    for image, label in zip(grains.images.ids, grains.images.labels, strict=True):
        truth = grains.factor_mask("truth", [image])[0]
        assert bool(truth.any()) is (label > 0)
        assert not (truth & ~grains.factor_mask("kernel_size", [image])[0]).any()


@pytest.mark.parametrize("name", LESIONS)
def test_curing_a_kernel_changes_the_lesion_and_nothing_else(grains, name):
    sick = [image for image in grains.images.ids if grains.factor_mask(name, [image]).any()]
    assert len(sick) >= 2
    for image in sick:
        cured = grains.render(image, **{name: 0.0})
        changed = (cured != grains.images.load(image)).any(0)
        lesion = grains.factor_mask(name, [image])[0]
        assert not (changed & ~lesion).any()
        assert changed.sum() > 0.9 * lesion.sum()
        assert grains.label(image, **{name: 0.0}) == 0


def test_lesions_have_the_area_of_the_factor():
    grains = phantoms.grains(20, (160, 160), seed=2)
    pixel = grains.images.record.spacing[0] / 1000
    for row in grains.factors.to_pylist():
        for name in LESIONS:
            paint = grains._paint(*grains._values(row["image"], {}))
            measured = paint.masks[name].sum() * pixel**2
            assert measured == pytest.approx(row[name], rel=0.15)


@pytest.mark.parametrize(
    ("defect", "classes"),
    [
        ("both", ("healthy", "fusarium", "skinned")),
        ("fusarium", ("healthy", "fusarium")),
        ("skinned", ("healthy", "skinned")),
    ],
)
def test_classes_follow_the_defect_and_are_balanced(defect, classes):
    grains = phantoms.grains(600, defect=defect)
    assert grains.images.classes == classes
    shares = np.bincount(grains.images.labels, minlength=len(classes)) / 600
    assert np.abs(shares - 1 / len(classes)).max() < 0.06
    for row, label in zip(grains.factors.to_pylist(), grains.images.labels, strict=True):
        present = [name.removesuffix("_area") for name in LESIONS if row[name] > 0]
        assert present == ([] if label == 0 else [classes[label]])


def test_nuisances_are_independent_of_each_other_and_of_the_defect():
    grains = phantoms.grains(1500)
    columns = {dial.name: grains.factors[dial.name] for dial in GRAIN_FACTORS[:4]}
    columns["label"] = grains.images.labels
    for one, other in combinations(columns, 2):
        assert abs(spearmanr(columns[one], columns[other]).statistic) < 0.09


@pytest.mark.parametrize("family", ["cells", "grains"])
def test_the_written_folder_reads_back_as_the_same_set(family, tmp_path):
    phantom = {
        "cells": lambda: phantoms.cells(6, (48, 48), shortcut=Shortcut()),
        "grains": lambda: phantoms.grains(6, (48, 48)),
    }[family]()
    read = read_images(
        phantom.write(tmp_path), labels="labels.csv", masks=["object", "truth"], split="split", group="group"
    )
    assert torch.equal(read.tensor(), phantom.images.tensor())
    names = [read.classes[label] for label in read.labels]
    assert names == [phantom.images.classes[label] for label in phantom.images.labels]
    assert read.column("split") == phantom.images.column("split")
    assert set(read.metadata.column_names) & {dial.name for dial in phantom.dials} == set()
    for mask in ("object", "truth"):
        for mine, theirs in zip(phantom.images.mask(mask), read.mask(mask), strict=True):
            assert torch.equal(mine, theirs.to(mine.dtype))


def test_misuse_is_refused_in_a_sentence():
    with pytest.raises(BadImage, match="no defect 'rust'; there are fusarium, skinned, both"):
        phantoms.grains(1, defect="rust")
    with pytest.raises(BadImage, match="at least 24 pixels"):
        phantoms.grains(1, (8, 8))


def test_a_tag_goes_with_the_first_defect_and_lies_beside_the_kernel():
    tagged, plain = (phantoms.grains(60, (48, 48), seed=2, shortcut=tag) for tag in (Shortcut(), None))
    assert tagged.factors["shortcut"].to_pylist() == [float(label == 1) for label in tagged.images.labels]
    for image, label in zip(tagged.images.ids, tagged.images.labels, strict=True):
        tag = tagged.factor_mask("shortcut", [image])[0] > 0
        kernel = tagged.images.mask("object", [image])[0] > 0
        assert bool(tag.any()) == (label == 1)
        assert not (tag & kernel).any()
        assert torch.equal(tagged.images.load(image)[:, ~tag], plain.images.load(image)[:, ~tag])
