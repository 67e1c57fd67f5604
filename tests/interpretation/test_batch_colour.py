"""Is a stain that betrays the class found where it sits and where the model reads it, and never called gone by mistake?"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pellucid.images import flatten_outside
from pellucid.interpretation import find_batch_colour
from pellucid.interpretation.batches import find_batches, mean_colour, region_of
from pellucid.models import fit

ROWS = 72
STAIN = np.array([0.1, -0.05, -0.05])[:, None, None]
MIDDLE = slice(12, 16)


def inside_colour(x):
    """Reads the first colour against the second in the middle of the object: the stain and nothing else."""
    red = (x[:, 0, MIDDLE, MIDDLE] - x[:, 1, MIDDLE, MIDDLE]).mean((1, 2)) - 0.075
    return torch.stack([-red, red], 1) * 40


def stained(lab, *, stain=1.0, tint=0.0, own=True):
    """Class 1 lies in smears of its own, whose cells are stained; the other smears hold class 0 and some of class 1's twins."""
    groups = [f"{'new' if row % 2 else 'old'} {row // 12}" for row in range(ROWS)]

    def traits(random, label):
        colour = 0.7 + stain * label * STAIN + random.normal(0, 0.01, (3, 1, 1))
        return {"brightness": colour, "tint": tint * label}

    images = lab.cells(traits, count=ROWS, channels=3, groups=groups)
    batch = (
        ["2021" if row % 2 else "2019" for row in range(ROWS)] if own else [str(row % 4 // 2) for row in range(ROWS)]
    )
    return replace(images, metadata=images.metadata.append_column("year", pa.array(batch)))


def found(lab, images, model, **more):
    findings, table = find_batch_colour(lab.evidence(model, images, batch="year", **more))
    return findings, {row["region"]: row for row in table.to_pylist()}


def test_with_a_flat_background_the_confounder_is_found_to_have_moved_into_the_object(lab):
    images = flatten_outside(stained(lab, tint=0.2), "object")
    (finding,), rows = found(lab, images, inside_colour)
    assert (finding.id, finding.kind, finding.verdict) == ("batch-inside", "confounder", "supported")
    assert "has moved into the object's own colour" in finding.statement
    assert "not gone" in finding.statement
    assert rows["inside"]["accuracy"] > 0.95
    assert rows["outside"]["accuracy"] == pytest.approx(0.5, abs=0.15)
    assert rows["outside"]["pull"] == 0
    assert rows["inside"]["low"] > 0.3
    assert rows["inside"]["away"] < 0.5 * rows["inside"]["pull"]


def test_a_stain_of_object_and_background_is_named_where_the_model_reads_it(lab):
    images = stained(lab, tint=0.2)
    (inside,), _ = found(lab, images, inside_colour)
    assert "sits in the object's own colour" in inside.statement
    outside, rows = found(lab, images, lab.MODELS["background colour"])
    assert [(one.id, one.verdict) for one in outside] == [("batch-outside", "supported"), ("batch-inside", "undecided")]
    assert rows["inside"]["pull"] == pytest.approx(0, abs=1e-6)


def test_a_stain_that_the_model_ignores_stays_open(lab):
    (finding,), rows = found(lab, flatten_outside(stained(lab), "object"), lab.MODELS["spot"])
    assert finding.verdict == "undecided"
    assert "stays open" in finding.statement
    assert rows["inside"]["accuracy"] > 0.95


def test_batches_without_a_trace_in_colour_are_refuted_for_colour_only(lab):
    (finding,), rows = found(lab, flatten_outside(stained(lab, stain=0.0), "object"), lab.MODELS["object area"])
    assert finding.verdict == "refuted"
    assert "traces other than colour" in finding.statement
    assert max(row["accuracy_low"] for row in rows.values()) <= 0.5


def test_a_batch_that_every_class_shares_alike_is_no_confounder(lab):
    assert found(lab, stained(lab, own=False), inside_colour) == ([], {})


def test_smears_of_one_class_are_the_batch_where_none_is_named(lab):
    groups = [f"new {row // 18}" if row % 3 == 2 else f"old {row // 6}" for row in range(ROWS)]
    images = lab.cells(
        lambda random, label: {"brightness": 0.7 + 0.1 * (label == 2)}, count=ROWS, classes=3, groups=groups
    )

    def bright(x):
        grey = x[:, 0, MIDDLE, MIDDLE].mean((1, 2))
        return torch.stack([0 * grey, 0 * grey, 60 * (grey - 0.75)], 1)

    evidence = lab.evidence(bright, images)
    batches = find_batches(evidence)
    assert batches.name == "smears"
    assert batches.names == ("of kind 2", "of the others")
    findings, _ = find_batch_colour(evidence)
    assert findings[0].id == "batch-inside"
    assert findings[0].verdict == "supported"


def test_too_few_images_of_a_batch_are_refused_in_one_sentence(lab):
    images = stained(lab)
    year = ["2019"] * (ROWS - 5) + ["2021"] * 5
    few = replace(images, metadata=images.metadata.set_column(1, "year", pa.array(year)))
    (finding,), _ = found(lab, few, inside_colour)
    assert finding.kind == "refused"
    assert "fewer than two batches (year)" in finding.evidence


def test_the_same_colours_give_the_same_findings_whatever_the_order_of_the_images(lab):
    images = stained(lab)
    turned = images.select(images.ids[::-1])
    assert found(lab, images, inside_colour)[0][0].value == pytest.approx(
        found(lab, turned, inside_colour)[0][0].value, abs=0.05
    )


def test_regions_part_the_image_and_their_mean_is_a_plain_mean(lab):
    images = stained(lab)
    (case,) = lab.evidence(inside_colour, images).cases(1)
    parts = torch.stack([region_of(case, region) for region in ("inside", "rim", "outside")])
    assert bool((parts.sum(0) == 1).all())
    naive = [float(np.mean([case.image[0, y, x] for y, x in zip(*np.where(parts[0]), strict=True)]))]
    assert float(mean_colour(case, "inside")[0]) == pytest.approx(naive[0])


def test_a_net_that_is_trained_on_flat_backgrounds_is_told_where_it_reads_the_batch_now(lab):
    """The background is the strong cue and the stain a weak one: without the first the net learns the second."""
    images = replace(stained(lab, tint=0.3), group_column="smear")
    ids = {}
    for kind, shown in (("raw", images), ("flat", flatten_outside(images, "object"))):
        net = fit(
            shown, epochs=15, width=4, depth=1, batch_size=8, learning_rate=0.01, augment=False, device="cpu"
        ).model
        findings, _ = found(lab, shown, net)
        ids[kind] = {one.id: one for one in findings if one.verdict == "supported"}
    assert "batch-outside" in ids["raw"]
    assert "batch-outside" not in ids["flat"]
    assert "has moved into the object's own colour" in ids["flat"]["batch-inside"].statement
