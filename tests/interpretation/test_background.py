"""Is the background named where it is read, and only there?"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d

from pellucid.interpretation import find_background_use
from pellucid.interpretation.swaps import composed, grown, plan_swaps, pulled
from pellucid.models import Model

OBJECT_ONLY = ("object brightness", "object area", "spot")


def found_of(lab, name, **more):
    images = lab.cells(lab.TRAITS[name], **more)
    return find_background_use(lab.evidence(lab.MODELS[name], images))


def test_a_model_that_reads_the_background_colour_is_named_and_the_colour_carries_it(lab):
    (finding,), table = found_of(lab, "background colour", channels=3)
    assert (finding.kind, finding.subject, finding.verdict) == ("shortcut", "background", "supported")
    assert finding.statement.startswith("The background is being used: with the object unchanged")
    assert "spread over the background" in finding.statement
    assert int(re.search(r"background's mean colour alone carries (\d+) %", finding.statement)[1]) > 75
    assert 0.05 < finding.low <= finding.value <= finding.high
    assert finding.value == pytest.approx(np.mean(table["pull"].to_pylist()))


@pytest.mark.parametrize("corner", [(0, -1), (-1, 0)])
def test_a_model_that_reads_a_corner_is_named_with_the_place(lab, corner):
    where = tuple(slice(0, 4) if side == 0 else slice(lab.SIZE - 4, lab.SIZE) for side in corner)
    images = lab.cells(lambda random, label: {})
    pixels = images.tensor()
    pixels[1::2, :, *where] += 0.4
    tagged = replace(images, load=lambda name: pixels[images.ids.index(name)])
    model = lambda x: lab.two(20 * (x[:, :, *where].mean((1, 2, 3)) - 0.4))  # noqa: E731
    (finding,), _ = find_background_use(lab.evidence(model, tagged))
    y, x = ("6 %" if side == 0 else "94 %" for side in corner)
    assert f"most of it sits in one place, at Y {y}, X {x} of the image" in finding.statement
    assert finding.low > 0.5


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", OBJECT_ONLY)
def test_no_background_is_named_where_the_label_is_carried_by_the_object_only(lab, name, seed):
    findings, table = found_of(lab, name, count=24, seed=100 + seed, channels=1 + 2 * (seed % 2))
    assert findings == []
    assert table.num_rows == 24
    assert abs(np.mean(table["pull"].to_pylist())) < 0.01


def test_a_coarse_tint_that_the_model_ignores_is_not_named(lab):
    images = lab.cells(lambda random, label: {"tint": 0.15 * label, "spot": 0.3 * label})
    assert find_background_use(lab.evidence(lab.MODELS["spot"], images))[0] == []


def grainy(x):
    """The area whose pixels differ from their neighbours: an object known by its grain."""
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    strength = avg_pool2d(conv2d(x.mean(1, keepdim=True), kernel, padding=1).square(), 3, 1, 1)
    return torch.sigmoid(200 * (strength - 0.06))[..., 2:-2, 2:-2].sum((1, 2, 3))


def striped(lab, seed=0, count=40):
    """Grainy objects of two sizes on smooth stripes: filling an object's gap leaves a grain like the object's own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: lab.SIZE, : lab.SIZE]
    pixels, outlines, labels = [], [], [row % 2 for row in range(count)]
    for label in labels:
        angle, phase = random.uniform(0, np.pi), random.uniform(0, 6)
        stripes = 0.4 + 0.2 * np.sin((y * np.cos(angle) + x * np.sin(angle)) * 2 * np.pi / 8 + phase)
        inside = lab.disc((lab.SIZE / 2 - 0.5,) * 2, (4.5, 8.0)[label] + random.normal(0, 0.2))
        image = np.where(inside, 0.4 + 0.12 * random.standard_normal(y.shape), stripes)
        pixels.append(torch.from_numpy(np.stack([image])).float())
        outlines.append(torch.from_numpy(inside).long())
    return lab.image_set(torch.stack(pixels), outlines, labels)


def test_the_gap_of_a_larger_donor_is_no_background(lab):
    images = striped(lab)
    sizes = grainy(images.tensor())
    middle = float(sizes[::2].mean() + sizes[1::2].mean()) / 2
    evidence = lab.evidence(lambda x: lab.two(0.1 * (grainy(x) - middle)), images)
    assert evidence.predictions["predicted"].to_pylist() == list(images.labels)
    assert find_background_use(evidence)[0] == []


def test_swaps_keep_the_object_and_differ_only_outside_it(lab):
    evidence = lab.evidence(lab.MODELS["spot"], lab.cells(lab.TRAITS["object area"], count=12))
    planned = plan_swaps(evidence.cases(12), np.random.default_rng(0), 2)
    swaps, other, same = composed(planned)
    assert len(swaps) == 12
    for swap, one, two in zip(swaps, other, same, strict=True):
        own = grown(swap.case.outline)
        assert torch.equal(one[:, own], swap.case.image[:, own])
        assert torch.equal(two[:, own], swap.case.image[:, own])
        assert not torch.equal(one, two)
        assert swap.donor.label != swap.case.label == swap.null.label
        assert len({swap.case.id, swap.donor.id, swap.null.id}) == 3


def test_donors_come_from_other_groups_where_there_are_any(lab):
    groups = [f"s{row // 4}" for row in range(24)]
    evidence = lab.evidence(lab.MODELS["spot"], lab.cells(lab.TRAITS["spot"], count=24, groups=groups))
    for swap in plan_swaps(evidence.cases(24), np.random.default_rng(0), 2):
        assert swap.case.group not in {swap.donor.group, swap.null.group}


def test_the_pull_is_what_goes_from_the_own_class_to_the_donors(lab):
    evidence = lab.evidence(lab.MODELS["corner tag"], lab.cells(lab.TRAITS["corner tag"], count=20))
    swaps, other, same = composed(plan_swaps(evidence.cases(20), np.random.default_rng(0), 1))
    pulls = pulled(evidence, swaps, other, evidence.probabilities(same))
    for swap, pull, one, two in zip(swaps, pulls, other, same, strict=True):
        there, here = (torch.softmax(evidence.model.network(image[None]).double(), 1)[0] for image in (one, two))
        own, foreign = swap.case.label, swap.donor.label
        assert pull == pytest.approx(float(here[own] - there[own] + there[foreign] - here[foreign]) / 2, abs=1e-6)


def three(x):
    """Three classes: two told apart by the object's brightness, the third by the background's colour."""
    bright = 60 * (x[:, :, 12:16, 12:16].mean((1, 2, 3)) - 0.7)
    tinted = 80 * (x[:, 0, -3:, :].mean((1, 2)) - 0.34)
    return torch.stack([-bright, bright, tinted], 1)


def test_the_class_whose_background_is_read_is_named_beside_the_whole(lab):
    def traits(random, label):
        return {"brightness": (0.62, 0.78, 0.7)[label], "tint": 0.25 * (label == 2)}

    findings, _ = find_background_use(lab.evidence(three, lab.cells(traits, count=60, classes=3)))
    assert [finding.subject for finding in findings] == ["background", "background of kind 2"]
    assert "The background is being used for class kind 2" in findings[1].statement
    assert findings[1].low > findings[0].value
    assert len({finding.id for finding in findings}) == 2


def test_calibration_changes_the_share_of_probability_that_is_moved(lab):
    images = lab.cells(lab.TRAITS["corner tag"])
    sharp, soft = (
        find_background_use(lab.evidence(Model(lab.MODELS["corner tag"], temperature=temperature), images))[0][0].value
        for temperature in (1.0, 4.0)
    )
    assert soft < 0.8 * sharp


def test_a_one_logit_net_is_tested_like_its_twin_of_two_logits(lab):
    images = lab.cells(lab.TRAITS["corner tag"], count=24)
    one = find_background_use(lab.evidence(lambda x: 2 * lab.MODELS["corner tag"](x)[:, 1:], images))
    two = find_background_use(lab.evidence(lab.MODELS["corner tag"], images))
    assert one[1]["pull"].to_pylist() == pytest.approx(two[1]["pull"].to_pylist(), abs=1e-5)


def refusal(lab, images, model=None, **more):
    findings, table = find_background_use(lab.evidence(model or lab.MODELS["background colour"], images, **more))
    (finding,) = findings
    assert (finding.kind, finding.verdict, finding.value) == ("refused", "undecided", None)
    assert finding.statement == "Whether the background is being used was not tested."
    assert table.num_rows == 0
    return finding.evidence


def test_fewer_than_twenty_outlined_images_give_no_verdict(lab):
    said = refusal(lab, lab.cells(lab.TRAITS["background colour"], count=19))
    assert "needs a classifier and 20 labelled, outlined images" in said
    assert "19 labelled images have an outline of the object (mask object)" in said
    assert found_of(lab, "background colour", count=20)[0][0].kind == "shortcut"


def test_images_without_labels_or_outlines_are_refused(lab):
    images = lab.cells(lab.TRAITS["background colour"])
    assert "0 labelled images" in refusal(lab, images, ids=(), predictions=lab.evidence(
        lab.MODELS["spot"], images).predictions.slice(0, 0))  # fmt: skip
    bare = replace(images, masks={"object": lambda name: None})
    assert "0 labelled images have an outline" in refusal(lab, bare)


def test_one_class_alone_has_no_other_background(lab):
    images = lab.cells(lab.TRAITS["background colour"])
    one = replace(images, labels=(0,) * 39 + (1,))
    assert "fewer than two classes have two images or more" in refusal(lab, one)


def test_every_image_of_another_class_is_refused_and_does_not_crash(lab):
    images = lab.cells(lambda random, label: {}, count=24, classes=24)
    assert "fewer than two classes" in refusal(lab, images, lambda x: x.flatten(1)[:, :24])


def test_images_of_one_group_cannot_tell_how_groups_differ(lab):
    images = lab.cells(lab.TRAITS["background colour"], groups=["s1"] * 40)
    assert "all 40 images come from one smear" in refusal(lab, images)


def test_objects_that_fill_the_image_are_no_donors_and_cost_the_others_nothing(lab):
    images = lab.cells(lab.TRAITS["background colour"], count=44)
    full = torch.ones(lab.SIZE, lab.SIZE, dtype=torch.long)
    full[:2] = 0
    outlines = {name: images.masks["object"](name) if row >= 4 else full for row, name in enumerate(images.ids)}
    mixed = replace(images, masks={"object": outlines.__getitem__})
    (finding,), table = find_background_use(lab.evidence(lab.MODELS["background colour"], mixed))
    assert finding.kind == "shortcut"
    assert not set(table["donor"].to_pylist()) & set(images.ids[:4])
    whole = replace(images, masks={"object": lambda name: full})
    assert "only 0 objects leave room for another background" in refusal(lab, whole)


def test_a_use_in_two_smears_of_four_is_not_proved_by_the_number_of_their_images(lab):
    """The model reads the background of bright objects only, and the objects of two smears are bright."""
    images = lab.cells(lab.TRAITS["background colour"], groups=[f"s{row // 10}" for row in range(40)])
    pixels = images.tensor()
    pixels[:20, :, 10:18, 10:18] -= 0.4
    shown = replace(images, load=lambda name: pixels[images.ids.index(name)])
    model = lambda x: (x[:, :, 12:16, 12:16].mean((1, 2, 3)) > 0.5)[:, None] * lab.MODELS["background colour"](x)  # noqa: E731
    grouped, table = find_background_use(lab.evidence(model, shown))
    alone = replace(shown, metadata=images.metadata.select([]))
    (single,), _ = find_background_use(lab.evidence(model, alone))
    assert grouped == []
    assert np.mean(table["pull"].to_pylist()) > 0.3
    assert single.low > 0.2
    assert "95 % interval from 40 groups" in single.evidence


def test_the_order_of_the_images_steers_nothing(lab):
    images = lab.cells(lab.TRAITS["corner tag"], count=24)
    turned = images.select(images.ids[::-1])
    one, two = (find_background_use(lab.evidence(lab.MODELS["corner tag"], each)) for each in (images, turned))
    assert one[0] == two[0]
    assert one[1].equals(two[1])


def test_the_statement_says_what_background_means_where_no_mask_is_named_as_the_object(lab):
    images = lab.cells(lab.TRAITS["background colour"])
    (finding,), _ = find_background_use(lab.evidence(lab.MODELS["background colour"], images, object_mask=None))
    assert finding.statement.startswith("The background (all but what the masks outline (object)) is being used")
    segmented = replace(images, masks={})
    (finding,), _ = find_background_use(lab.evidence(lab.MODELS["background colour"], segmented, object_mask=None))
    assert finding.statement.startswith(
        "The background (all but the object (segmented by Otsu's threshold)) is being used"
    )
