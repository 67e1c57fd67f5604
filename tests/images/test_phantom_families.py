"""Harder truths: decoys, suppressors, conditional rules, doses and fields in which one cell decides."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.measure import label

from pellucid.errors import BadImage
from pellucid.images import phantoms
from pellucid.images.phantoms import FIELD_FACTORS, Decoys, Suppressors

SIZE = (48, 48)


def test_extras_leave_the_deciding_factors_and_labels_as_they_were():
    plain = phantoms.cells(30, SIZE, seed=2)
    rich = phantoms.cells(30, SIZE, seed=2, decoys=Decoys(), suppressors=Suppressors())
    assert rich.images.labels == plain.images.labels
    assert rich.factors.select(plain.factors.column_names).equals(plain.factors)
    assert set(rich.factors.column_names) - set(plain.factors.column_names) == {
        "decoy_number", "illumination", "stain", "correlated_noise",
    }  # fmt: skip


def test_without_decoys_an_image_is_the_plain_one_and_decoys_touch_only_their_mask():
    plain, decoyed = phantoms.cells(6, SIZE, seed=1), phantoms.cells(6, SIZE, seed=1, decoys=Decoys())
    for image in plain.images.ids:
        none, many = decoyed.render(image, decoy_number=0), decoyed.render(image, decoy_number=10)
        assert torch.equal(none, plain.images.load(image))
        mask = decoyed._paint(*decoyed._values(image, {"decoy_number": 10})).masks["decoy_number"]
        assert not ((none != many).any(0) & ~torch.from_numpy(mask)).any()


def test_decoys_are_as_strong_as_true_spots_and_keep_clear_of_them():
    cells = phantoms.cells(20, (96, 96), decoys=Decoys())
    spots, decoys = cells.factor_mask("spot_number"), cells.factor_mask("decoy_number")
    assert (spots & decoys).float().mean() < 0.02 * spots.float().mean()
    for image in cells.images.ids[:5]:
        kept = {"spot_size": 1.6, "spot_brightness": 0.4}
        bare = cells.render(image, spot_number=1, decoy_number=0, **kept)
        spot = (cells.render(image, spot_number=4, decoy_number=0, **kept) - bare).square().sum().sqrt()
        decoy = (cells.render(image, spot_number=1, decoy_number=3, **kept) - bare).square().sum().sqrt()
        assert decoy == pytest.approx(float(spot), rel=0.15)


def test_decoys_tell_nothing_of_the_label():
    table = phantoms.cells(1500, SIZE, decoys=Decoys())
    assert abs(spearmanr(table.factors["decoy_number"], table.images.labels).statistic) < 0.07


def test_suppressors_change_every_pixel_and_nothing_at_strength_nought():
    cells = phantoms.cells(4, SIZE, suppressors=Suppressors())
    plain = phantoms.cells(4, SIZE)
    for image in cells.images.ids:
        idle = cells.render(image, illumination=0.0, stain=0.0, correlated_noise=0.0)
        assert (idle - plain.images.load(image)).abs().max() <= 1.01 / 255
        for name in ("illumination", "stain", "correlated_noise"):
            dial = next(dial for dial in cells.dials if dial.name == name)
            changed = (cells.render(image, **{name: dial.high}) != idle).any(0).float().mean()
            assert changed > 0.5
            assert cells.factor_mask(name, [image]).all()


def test_a_conditional_rule_reads_one_factor_or_the_other():
    cells = phantoms.cells(300, SIZE, rule="spot_number if nucleus_size else membrane_ring")
    table = {name: np.array(cells.factors[name]) for name in cells.causes}
    expected = np.where(table["nucleus_size"] > 25, table["spot_number"] > 5.5, table["membrane_ring"] > 0.2)
    assert np.array_equal(np.array(cells.images.labels), expected.astype(int))
    assert 0.4 < expected.mean() < 0.6
    image = cells.images.ids[0]
    assert cells.label(image, nucleus_size=30, spot_number=9, membrane_ring=0.05) == 1
    assert cells.label(image, nucleus_size=18, spot_number=9, membrane_ring=0.05) == 0


def test_a_dose_has_balanced_steps_with_margins_between_them():
    cells = phantoms.cells(800, SIZE, rule="spot_brightness", levels=4, margin=0.05)
    assert cells.images.classes == ("dose_0", "dose_1", "dose_2", "dose_3")
    counts = np.bincount(cells.images.labels)
    assert counts.min() > 150
    brightness = np.array(cells.factors["spot_brightness"])
    edges = 0.25 + 0.3 * np.array([0.25, 0.5, 0.75])
    assert min(np.abs(brightness[:, None] - edges).min(1)) >= 0.05 * 0.3 - 1e-9
    assert np.array_equal(np.digitize(brightness, edges), cells.images.labels)


def test_impossible_rules_and_extras_are_refused():
    with pytest.raises(BadImage, match="levels=3"):
        phantoms.cells(1, rule="spot_number and cell_size", levels=3)
    with pytest.raises(BadImage, match="margin that leaves room"):
        phantoms.cells(1, levels=8, margin=0.1)
    with pytest.raises(BadImage, match="a if b else c"):
        phantoms.cells(1, rule="spot_number if cell_size")
    with pytest.raises(BadImage, match="cannot be painted"):
        Decoys(diameter=9.0)
    with pytest.raises(BadImage, match="cannot be painted"):
        Suppressors(illumination=2.0)


@pytest.fixture(scope="module")
def fields():
    return phantoms.fields(40, (96, 96), seed=1)


def test_one_cell_decides_the_label_of_a_field(fields):
    abnormal = fields.factors["abnormal_cell"].to_pylist()
    assert list(fields.images.labels) == abnormal
    assert 0.3 < np.mean(abnormal) < 0.7
    for image, mask in zip(fields.images.ids, fields.factor_mask("truth"), strict=True):
        assert bool(mask.any()) == bool(fields.images.label([image])[0])
        assert fields.label(image, abnormal_cell=1) == 1


def test_the_truth_of_a_field_is_what_makes_the_cell_abnormal(fields):
    for image in fields.images.ids[:8]:
        healthy, ill = fields.render(image, abnormal_cell=0), fields.render(image, abnormal_cell=1)
        support = torch.from_numpy(fields._paint(*fields._values(image, {"abnormal_cell": 1})).masks["abnormal_cell"])
        assert (healthy != ill).any()
        assert not ((healthy != ill).any(0) & ~support).any()
        unchanged = fields.render(image)
        assert torch.equal(unchanged, fields.images.load(image))


def test_a_field_has_the_cells_and_spots_that_it_says(fields):
    for place, image in enumerate(fields.images.ids[:8]):
        number = fields.factors["cell_number"][place].as_py()
        few = fields._paint(*fields._values(image, {"abnormal_cell": 0, "spot_size": 1.2}))
        assert label(few.masks["spot_size"]).max() <= 2 * number
        assert label(few.masks["object"]).max() <= number
    assert [factor.name for factor in FIELD_FACTORS][:2] == ["abnormal_cell", "cell_number"]


@pytest.fixture(scope="module")
def volumes():
    return phantoms.volumes(30, seed=4)


def test_volumes_have_three_axes_with_long_voxels_and_rerender_bit_for_bit(volumes):
    assert volumes.images.shape == (1, 20, 40, 40)
    z, y, x = volumes.images.record.spacing
    assert (z, y) == (2 * y, x)
    for image in volumes.images.ids[:4]:
        assert torch.equal(volumes.render(image), volumes.images.load(image))


def test_nodules_are_where_their_mask_says_and_decide_the_label(volumes):
    for image in volumes.images.ids[:6]:
        none, many = volumes.render(image, nodule_number=0), volumes.render(image, nodule_number=5)
        mask = volumes._paint(*volumes._values(image, {"nodule_number": 5})).masks
        changed = (none != many).any(0)
        assert changed.any()
        assert not (changed & ~torch.from_numpy(mask["nodule_number"])).any()
        assert not (torch.from_numpy(mask["nodule_number"]) & ~torch.from_numpy(mask["organ_size"])).any()
        assert (volumes.label(image, nodule_number=0), volumes.label(image, nodule_number=5)) == (0, 1)
    assert 0.2 < np.mean(volumes.images.labels) < 0.8


def test_the_organ_has_the_length_of_its_factor(volumes):
    spacing = volumes.images.record.spacing[2] / 1000
    for image, mask in zip(volumes.images.ids, volumes.factor_mask("object"), strict=True):
        along = mask.any(0).any(0)
        planted = volumes.factors["organ_size"][volumes.images.ids.index(image)].as_py()
        assert float(along.sum()) * spacing == pytest.approx(planted, abs=2 * spacing)


def test_a_flat_volume_is_refused():
    with pytest.raises(BadImage, match="at least 12 voxels"):
        phantoms.volumes(1, (4, 40, 40))
