import csv
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from skimage.measure import label, regionprops

from pellucid.errors import BadImage
from pellucid.images import phantoms
from pellucid.images.phantoms import CELL_FACTORS, Shortcut

SIZE = (48, 48)
NAMES = [factor.name for factor in CELL_FACTORS]
CHANGED = {factor.name: (factor.low, factor.high) for factor in CELL_FACTORS}


@pytest.fixture(scope="module")
def cells():
    return phantoms.cells(12, SIZE, seed=3, shortcut=Shortcut())


def outside(image, other, mask):
    return (image != other).any(0) & ~mask


def test_an_unchanged_render_equals_the_image_bit_for_bit(cells):
    for image in cells.images.ids:
        assert torch.equal(cells.render(image), cells.images.load(image))


def test_image_i_does_not_depend_on_how_many_there_are(cells):
    few = phantoms.cells(4, SIZE, seed=3, shortcut=Shortcut())
    assert torch.equal(few.images.tensor(), cells.images.tensor(few.images.ids))
    assert few.factors.equals(cells.factors.slice(0, 4))


def test_another_seed_gives_other_images(cells):
    other = phantoms.cells(1, SIZE, seed=4, shortcut=Shortcut())
    assert not torch.equal(other.images.tensor(), cells.images.tensor(cells.images.ids[:1]))


def test_images_are_float_in_display_range_with_spacing(cells):
    x = cells.images.tensor()
    assert x.dtype == torch.float32
    assert x.shape == (12, 3, *SIZE)
    assert 0 <= x.min() < x.max() <= 1
    assert cells.images.record.spacing == pytest.approx((32 / 48, 32 / 48))


@pytest.mark.parametrize("name", NAMES)
def test_changing_a_factor_changes_only_the_pixels_that_carry_it(cells, name):
    local = name in {
        "spot_number", "spot_size", "spot_brightness", "nucleus_size", "membrane_ring", "background_shading",
    }  # fmt: skip
    for image in cells.images.ids[:4]:
        low, high = (cells.render(image, **{name: value}) for value in CHANGED[name])
        assert (low != high).any()
        if local:
            scenes = [cells._paint(*cells._values(image, {name: value})) for value in CHANGED[name]]
            support = torch.from_numpy(scenes[0].masks[name] | scenes[1].masks[name])
            assert not outside(low, high, support).any()


def test_the_mask_of_a_global_factor_is_the_whole_object(cells):
    whole = cells.factor_mask("object")
    for name in ("cell_size", "eccentricity"):
        assert (cells.factor_mask(name) >= whole).all()


def test_factors_are_independent_of_each_other():
    table = phantoms.cells(1500, SIZE).factors
    for one, other in combinations(NAMES, 2):
        assert abs(spearmanr(table[one], table[other]).statistic) < 0.09


def test_the_object_mask_has_the_area_of_the_factor():
    cells = phantoms.cells(10, (96, 96))
    pixel = cells.images.record.spacing[0]
    for image, mask in zip(cells.images.ids, cells.factor_mask("object"), strict=True):
        planted = cells.factors["cell_size"][cells.images.ids.index(image)].as_py()
        assert mask.sum().item() * pixel**2 == pytest.approx(planted, rel=0.02)


def test_the_object_has_the_eccentricity_of_the_factor():
    cells = phantoms.cells(10, (128, 128))
    for planted, mask in zip(cells.factors["eccentricity"].to_pylist(), cells.factor_mask("object"), strict=True):
        assert regionprops(mask.numpy().astype(int))[0].eccentricity == pytest.approx(planted, abs=0.12)


def test_spots_are_as_many_as_the_factor_and_apart():
    cells = phantoms.cells(20, (96, 96))
    for planted, mask in zip(cells.factors["spot_number"].to_pylist(), cells.factor_mask("spot_number"), strict=True):
        assert label(mask.numpy()).max() == planted


@pytest.mark.parametrize(
    "rule",
    ["spot_number", "cell_size", "spot_size and cell_size", "spot_number or cell_size",
     "spot_number xor eccentricity", "spot_size + membrane_ring"],
)  # fmt: skip
def test_every_rule_gives_balanced_classes(rule):
    labels = phantoms.cells(600, SIZE, rule=rule).images.labels
    assert 0.42 < np.mean(labels) < 0.58


def test_labels_follow_from_the_factors_by_the_stated_rule():
    cells = phantoms.cells(200, SIZE, rule="spot_number xor cell_size")
    assert cells.rule == "treated where spot_number > 5.5 xor cell_size > 140 µm²"
    many = np.array(cells.factors["spot_number"]) > 5.5
    large = np.array(cells.factors["cell_size"]) > 140
    assert np.array_equal(np.array(cells.images.labels), many ^ large)
    assert cells.causes == ("spot_number", "cell_size")


def test_deciding_factors_keep_their_margin_and_others_fill_their_range():
    table = phantoms.cells(600, SIZE, rule="cell_size", margin=0.1).factors
    size = np.array(table["cell_size"])
    assert not ((size > 130.5) & (size < 149.5)).any()
    spots = np.array(table["spot_number"])
    assert sorted(set(spots)) == list(range(1, 11))


def test_a_change_of_the_deciding_factor_changes_the_label(cells):
    for image in cells.images.ids:
        assert cells.label(image) == cells.images.label([image])[0]
        assert (cells.label(image, spot_number=2), cells.label(image, spot_number=9)) == (0, 1)


def test_groups_are_never_split():
    images = phantoms.cells(100, SIZE).images
    splits = {}
    for group, split in zip(images.column("group"), images.column("split"), strict=True):
        splits.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    shares = {name: images.column("split").count(name) for name in ("train", "test", "val")}
    assert shares == {"train": 70, "test": 20, "val": 10}


def test_the_shortcut_goes_with_the_label_as_stated():
    cells = phantoms.cells(2000, SIZE, shortcut=Shortcut(correlation={"train": 1.0, "test": -0.5}))
    tag, labels = np.array(cells.factors["shortcut"]), np.array(cells.images.labels)
    split = np.array(cells.images.column("split"))
    assert np.array_equal(tag[split == "train"], labels[split == "train"])
    test = split == "test"
    assert np.corrcoef(tag[test], labels[test])[0, 1] == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("seed", range(12))
def test_the_tag_lies_in_the_field_and_never_touches_the_cell(seed):
    cells = phantoms.cells(6, SIZE, seed=seed, shortcut=Shortcut())
    tags = []
    for image in cells.images.ids:
        with_tag, without = cells.render(image, shortcut=1), cells.render(image, shortcut=0)
        tag = (with_tag != without).any(0)
        tags.append(tag)
        assert tag.sum() >= 4
        assert not (tag & (cells.factor_mask("cell_size", [image])[0])).any()
        assert not outside(with_tag, without, torch.from_numpy(_tag(cells, image))).any()
    assert not torch.stack(tags).any(0)[[0, -1]].any()


def _tag(cells, image):
    return cells._paint(*cells._values(image, {"shortcut": 1})).masks["shortcut"]


def test_shape_and_place_of_the_tag_are_drawn_from_the_seed():
    settled = [Shortcut().settled(seed) for seed in range(30)]
    assert len({tag.shape for tag in settled}) >= 5
    assert len({round(tag.place) for tag in settled}) >= 25
    assert Shortcut(shape="bar", place=90.0).settled(1) == Shortcut(shape="bar", place=90.0)


def test_the_written_folder_holds_the_exact_pixels_and_hides_the_factors(cells, tmp_path):
    folder = cells.write(tmp_path / "set")
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "label", "split", "group", "object", "truth"]
    assert len(rows) == 12
    for row, image in zip(rows, cells.images.ids, strict=True):
        pixels = np.moveaxis(np.asarray(Image.open(folder / row["image"])), -1, 0)
        assert np.array_equal(pixels, np.rint(255 * cells.images.load(image).numpy()))
        for mask in ("object", "truth"):
            stored = np.asarray(Image.open(folder / row[mask]))
            assert np.array_equal(stored, cells.images.mask(mask, [image])[0].numpy())
        assert row["label"] == cells.images.classes[cells.images.label([image])[0]]
    assert pq.read_table(folder / "factors.parquet").equals(cells.factors)


def test_misuse_is_refused_in_a_sentence(cells):
    image = cells.images.ids[0]
    with pytest.raises(BadImage, match="no factor 'colour'; it has cell_size"):
        cells.render(image, colour=1)
    with pytest.raises(BadImage, match=r"cell_size=500 is outside 90 to 190 µm²"):
        cells.render(image, cell_size=500)
    with pytest.raises(BadImage, match="must be a whole number"):
        cells.render(image, spot_number=2.5)
    with pytest.raises(BadImage, match="no image 'x'"):
        cells.render("x")
    with pytest.raises(BadImage, match="names no factor 'colour'"):
        phantoms.cells(1, rule="colour")
    with pytest.raises(BadImage, match="joined by one of"):
        phantoms.cells(1, rule="cell_size and spot_size or spot_number")
    with pytest.raises(BadImage, match="no shortcut shape"):
        Shortcut(shape="star")
    with pytest.raises(BadImage, match="at least 24 pixels"):
        phantoms.cells(1, size=(8, 8))
