import numpy as np
import pytest
import torch

from pellucid.interpretation import find_leak


def images_of(lab, radius_of, count=48):
    """Draw bright discs whose size `radius_of` gives; the mask is the disc, the label alternates."""
    random = np.random.default_rng(0)
    pixels, marks, labels = [], [], [row % 2 for row in range(count)]
    for label in labels:
        inside = lab.disc(random.uniform(9, 19, 2), radius_of(random, label))
        image = np.full((1, lab.SIZE, lab.SIZE), 0.2) + 0.02 * random.standard_normal((1, lab.SIZE, lab.SIZE))
        pixels.append(torch.from_numpy(np.where(inside, 0.4 + 0.4 * label, image)).float())
        marks.append(torch.from_numpy(inside).long())
    return lab.image_set(torch.stack(pixels), marks, labels)


def reads_brightness(lab):
    return lambda x: lab.two(60 * (x.amax((1, 2, 3)) - 0.6))


def test_an_outline_that_goes_with_the_class_leaks_and_joined_outlines_leak_less(lab):
    images = images_of(lab, lambda random, label: (2.5, 4.5)[label] + random.normal(0, 0.2))
    (finding,), table = find_leak(lab.evidence(reads_brightness(lab), images), "object")
    told = {row["hole"]: row for row in table.to_pylist()}
    own, joined = told["its own shape"], told["its shape joined with 3 others'"]
    assert finding.verdict == "supported"
    assert finding.value == own["outline"] > 0.9
    assert own["outline_low"] > own["chance"] == 0.5
    assert joined["outline"] < own["outline"] - 0.1


def test_an_outline_that_knows_nothing_of_the_class_is_not_called_a_leak(lab):
    images = images_of(lab, lambda random, label: random.uniform(2.5, 4.5))
    (finding,), _ = find_leak(lab.evidence(reads_brightness(lab), images), "object")
    assert finding.verdict == "refuted"
    assert finding.value == pytest.approx(0.5, abs=0.2)


def test_removal_is_measured_under_every_hole_and_fill(lab):
    images = images_of(lab, lambda random, label: random.uniform(2.5, 4.5))
    _, table = find_leak(lab.evidence(reads_brightness(lab), images), "object")
    assert len(table) == 6
    for row in table.to_pylist():
        # bright discs (class 1) are gone with their hole: those 24 calls change, the dark ones stay
        assert (row["kept"], row["n"]) == (24, 48)
    greyed = [row["drop"] for row in table.to_pylist() if row["fill"] == "greyed out"]
    assert all(drop > 0 for drop in greyed)


def test_without_marked_images_of_two_classes_nothing_is_said(lab):
    images = images_of(lab, lambda random, label: 3.0, count=8)
    findings, table = find_leak(lab.evidence(reads_brightness(lab), images), "object")
    assert findings == []
    assert table.num_rows == 0
