import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pellucid.errors import BadImage, BadRecipe, ShapeError
from pellucid.images import ImageRecord, phantoms
from pellucid.measure import (
    EDITS,
    Edit,
    add_spots,
    blur_rim,
    blur_texture,
    brighten,
    brighten_rim,
    flatten_background,
    flatten_illumination,
    move_object,
    paste_patch,
    phenotypes,
    recolour,
    remove_patch,
    remove_spots,
    replace_background,
    resize_object,
    scale_spots,
    shift_rim,
    stretch_object,
    swap_background,
)
from pellucid.measure.surface import fill_hole, masked_blur

CELLS = phantoms.cells(6, (64, 64), seed=11)
IMAGES = CELLS.images.tensor()
MASKS = CELLS.factor_mask("object")
SPOTS = CELLS.factor_mask("spot_number")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def measured(image, mask):
    return phenotypes(image, mask, CELLS.images.record, spot_diameter=1.6).to_pylist()[0]


def one_spot(row):
    from skimage.measure import label

    return torch.from_numpy(label(SPOTS[row].numpy()) == 1)


def region(edit, row):
    return one_spot(row) if isinstance(edit, remove_patch | paste_patch) else MASKS[row]


EVERY = [recipe() for recipe in EDITS.values()]
OF_SPOTS = (add_spots, remove_spots, scale_spots)


def test_the_built_in_edits_are_these_and_print_and_parse():
    assert set(EDITS) == {
        "recolour", "brighten", "blur_texture", "flatten_background", "remove_patch", "paste_patch", "resize_object",
        "flatten_illumination", "stretch_object", "move_object", "replace_background", "brighten_rim", "blur_rim", "shift_rim",
        "add_spots", "remove_spots", "scale_spots",
    }  # fmt: skip
    edit = resize_object(factor=0.8)
    assert str(edit) == "resize_object(factor=0.8)"
    assert EDITS.parse(str(edit)) == edit
    with pytest.raises(BadRecipe, match="did you mean brighten"):
        EDITS.parse("brigthen")
    with pytest.raises(BadRecipe, match="factor"):
        resize_object(factor=9)


@pytest.mark.parametrize("edit", EVERY, ids=str)
@pytest.mark.parametrize("verb", ["__call__", "null"])
def test_an_edit_changes_its_support_and_nothing_else(edit, verb):
    for row in range(3):
        image, before = IMAGES[row], IMAGES[row].clone()
        result = getattr(edit, verb)(image, region(edit, row), generator=seeded())
        assert torch.equal(image, before)
        assert result.image.dtype == image.dtype
        assert result.support.any()
        assert torch.equal(result.support, (result.image != image).any(0))
        assert torch.isfinite(result.image).all()


@pytest.mark.parametrize("edit", [brighten(), recolour(), blur_texture()], ids=str)
def test_edits_of_the_object_leave_the_background_and_its_null_has_equal_size(edit):
    image, mask = IMAGES[0], MASKS[0]
    done, null = edit(image, mask, generator=seeded()), edit.null(image, mask, generator=seeded())
    for result in (done, null):
        assert not (result.support & ~mask).any()
    energy = [((result.image - image).double() ** 2).sum() for result in (done, null)]
    assert energy[1] == pytest.approx(energy[0].item(), rel=1e-4)


@pytest.mark.parametrize("edit", EVERY, ids=str)
def test_the_same_seed_gives_the_same_edit(edit):
    mask = region(edit, 1)
    for verb in (edit.__call__, edit.null):
        one, other = (verb(IMAGES[1], mask, generator=seeded(5)).image for _ in range(2))
        assert torch.equal(one, other)


@pytest.mark.parametrize("row", range(4))
def test_brightening_moves_the_mean_and_its_null_does_not(row):
    image, mask = IMAGES[row], MASKS[row]
    start = measured(image, mask)
    for amount in (0.2, -0.1):
        edit = brighten(amount=amount)
        done = measured(edit(image, mask, generator=seeded()).image, mask)
        null = measured(edit.null(image, mask, generator=seeded()).image, mask)
        span = (image.max() - image.min()).item()
        for channel in ("red", "green", "blue"):
            name = f"Intensity_MeanIntensity_{channel}"
            assert done[name] - start[name] == pytest.approx(amount * span, rel=1e-4)
            assert null[name] == pytest.approx(start[name], abs=1e-6)


def test_recolouring_shifts_channels_and_keeps_brightness_and_its_null_keeps_both():
    image, mask = IMAGES[0], MASKS[0]
    edit = recolour(shift=(1.0, 0.0, -1.0))
    change = edit(image, mask, generator=seeded()).image - image
    null = edit.null(image, mask, generator=seeded()).image - image
    mean = change[:, mask].mean(1)
    assert mean[0] > 0.1 > abs(mean[1]) < 1e-6
    assert mean[2] == pytest.approx(-mean[0].item(), rel=1e-4)
    assert null[:, mask].mean(1).abs().max() < 1e-6
    assert change.mean(0).abs().max() < 1e-6


def test_blurring_lowers_contrast_and_its_null_keeps_it():
    for row in range(4):
        image, mask = IMAGES[row], MASKS[row]
        start = measured(image, mask)
        done = measured(blur_texture()(image, mask, generator=seeded()).image, mask)
        null = measured(blur_texture().null(image, mask, generator=seeded()).image, mask)
        name = "Texture_Contrast"
        drop = start[name] - done[name]
        assert drop > 0.5 * start[name]
        assert abs(null[name] - start[name]) < 0.25 * drop


def test_flattening_takes_the_slope_and_its_null_leaves_slope_and_mean():
    for row in range(4):
        image, mask = IMAGES[row], MASKS[row]
        start = measured(image, mask)
        done = measured(flatten_background()(image, mask, generator=seeded()).image, mask)
        null_result = flatten_background().null(image, mask, generator=seeded())
        null = measured(null_result.image, mask)
        assert done["Background_Slope"] < 1e-6
        assert null["Background_Slope"] == pytest.approx(start["Background_Slope"], rel=1e-4)
        for name in ("Background_MeanIntensity", "Intensity_MeanIntensity_red", "AreaShape_Area"):
            assert done[name] == pytest.approx(start[name], abs=1e-6)
            assert null[name] == pytest.approx(start[name], abs=1e-6)


def test_removing_a_patch_takes_one_spot_pasting_adds_one_and_nulls_keep_the_count():
    y, x = np.mgrid[:64, :64]
    grain = np.random.default_rng(0).normal(0, 0.005, (1, 64, 64))
    image = torch.from_numpy(0.3 + grain).float()
    centres = [(20, 20), (20, 44), (44, 32)]
    discs = [torch.from_numpy((y - a) ** 2 + (x - b) ** 2 <= 9) for a, b in centres]
    for disc in discs:
        image[0, disc] += 0.3
    record = ImageRecord("CYX", ("grey",))
    cell = torch.ones(64, 64, dtype=torch.int64)

    def count(result):
        return phenotypes(result, cell, record, spot_diameter=6.0)["Spots_Count"][0].as_py()

    assert count(image) == 3
    for seed in range(3):
        assert count(remove_patch()(image, discs[0], generator=seeded(seed)).image) == 2
        assert count(remove_patch().null(image, discs[0], generator=seeded(seed)).image) == 3
        assert count(paste_patch()(image, discs[0], generator=seeded(seed)).image) == 4
        assert count(paste_patch().null(image, discs[0], generator=seeded(seed)).image) == 3
    edit, null = (
        paste_patch()(image, discs[0], generator=seeded()),
        paste_patch().null(image, discs[0], generator=seeded()),
    )
    assert torch.equal(edit.support, null.support)


def test_a_removed_spot_looks_like_the_spotless_render():
    gap = []
    for row, image in enumerate(CELLS.images.ids):
        mask = SPOTS[row]
        done = remove_patch()(IMAGES[row], mask, generator=seeded()).image
        plain = CELLS.render(image, spot_brightness=0.25)
        gap.append(((done - IMAGES[row])[:, mask].mean() / (plain - IMAGES[row])[:, mask].mean()).item())
    assert all(value > 0.9 for value in gap)


@pytest.mark.parametrize("factor", [0.7, 0.85, 1.25])
def test_resizing_moves_the_area_as_stated_and_its_null_does_not(factor):
    y, x = np.mgrid[:80, :80]
    mask = torch.from_numpy((y - 38) ** 2 / 1.5 + (x - 42) ** 2 <= 15**2)
    image = torch.full((1, 80, 80), 0.1)
    image[0, mask] = 0.9
    area = mask.sum().item()
    edit = resize_object(factor=factor)
    done = (edit(image, mask, generator=seeded()).image[0] > 0.5).sum().item()
    null = (edit.null(image, mask, generator=seeded()).image[0] > 0.5).sum().item()
    assert done / area == pytest.approx(factor**2, rel=0.03)
    assert null / area == pytest.approx(1, rel=0.02)


def test_resizing_in_three_dimensions_moves_the_volume():
    z, y, x = np.mgrid[:24, :24, :24] - 12
    mask = torch.from_numpy(z**2 + y**2 + x**2 <= 36)
    image = mask[None].float()
    done = resize_object(factor=1.3)(image, mask, generator=seeded()).image[0] > 0.5
    assert done.sum() / mask.sum() == pytest.approx(1.3**3, rel=0.08)


def test_a_swapped_background_keeps_the_object_bit_for_bit_and_takes_the_donors_pixels():
    result = swap_background(IMAGES[0], MASKS[0], IMAGES[1], MASKS[1], generator=seeded())
    assert torch.equal(result.image[:, MASKS[0]], IMAGES[0][:, MASKS[0]])
    assert not (result.support & MASKS[0]).any()
    far = torch.ones(64, 64, dtype=torch.bool)
    far[8:-8, 8:-8] = False
    assert torch.equal(result.image[:, far], IMAGES[1][:, far])


def test_a_swapped_background_holds_no_trace_of_either_object_outside_the_mask():
    tagged = phantoms.cells(2, (64, 64), seed=3, shortcut=phantoms.Shortcut(shape="square", place=45.0))
    one, other = tagged.images.ids
    image, donor = tagged.render(one, shortcut=0), tagged.render(other, shortcut=1)
    masks = tagged.factor_mask("object")
    swapped = swap_background(image, masks[0], donor, masks[1], generator=seeded()).image
    tag = torch.from_numpy(tagged._paint(*tagged._values(other, {"shortcut": 1})).masks["shortcut"])
    assert torch.equal(swapped[:, tag], donor[:, tag])
    ghost = masks[1] & ~torch.from_numpy(_grown(masks[0].numpy(), 5))
    if ghost.any():
        backdrop = donor[:, ~torch.from_numpy(_grown((masks[1] | tag).numpy(), 3))]
        assert (swapped[:, ghost].mean() - backdrop.mean()).abs() < 0.08


def _grown(mask, steps):
    from scipy import ndimage

    return ndimage.binary_dilation(mask, iterations=steps)


def test_edits_act_in_one_and_three_dimensions():
    for shape in ((40,), (10, 12, 14)):
        image = torch.rand(2, *shape, generator=seeded())
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[(slice(4, 8),) * len(shape)] = True
        for edit in EVERY:
            if isinstance(edit, OF_SPOTS) or (len(shape) == 1 and isinstance(edit, stretch_object)):
                continue  # noise holds no spots, and a line has no shape
            small = mask & (torch.cumsum(mask.reshape(-1), 0).reshape(shape) <= 2)
            inside = small if isinstance(edit, remove_patch | paste_patch) else mask
            for verb in (edit.__call__, edit.null):
                result = verb(image, inside, generator=seeded())
                assert result.image.shape == image.shape
                assert result.support.any()
        assert swap_background(image, mask, image.flip(-1), mask).image.shape == image.shape


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(bool, st.sampled_from([(9, 11), (5, 6, 7), (23,)])), st.integers(0, 9))
def test_a_soap_film_continues_a_constant_and_obeys_the_maximum_principle(hole, seed):
    if hole.all():
        hole.flat[seed] = False
    image = np.random.default_rng(seed).random((2, *hole.shape))
    filled = fill_hole(image, hole)
    assert np.array_equal(filled[:, ~hole], image[:, ~hole])
    assert np.allclose(fill_hole(np.full_like(image, 0.7), hole), 0.7)
    for channel, known in zip(filled, image, strict=True):
        assert channel.min() >= known[~hole].min() - 1e-5
        assert channel.max() <= known[~hole].max() + 1e-5


def test_a_soap_film_continues_a_slope_exactly():
    y, x = np.mgrid[:30, :30]
    image = (0.2 + 0.01 * x - 0.02 * y)[None]
    hole = np.zeros((30, 30), bool)
    hole[8:20, 5:25] = True
    assert np.allclose(fill_hole(image * ~hole, hole), image, atol=1e-4)


def test_masked_blur_lets_nothing_leak_in():
    mask = np.zeros((20, 20), bool)
    mask[5:12, 5:12] = True
    image = np.where(mask, 0.5, 100.0)[None]
    assert np.allclose(masked_blur(image, mask, 2.0)[0], np.where(mask, 0.5, 0.0))


def test_every_edit_says_what_it_moves_and_what_its_null_controls_for():
    for recipe in EDITS.values():
        assert issubclass(recipe, Edit)
        assert recipe.moves or recipe is move_object  # where an object lies is no phenotype
        assert recipe.controls


def test_misuse_is_refused_in_a_sentence():
    image, mask = torch.rand(1, 8, 8), torch.zeros(8, 8)
    with pytest.raises(ShapeError, match="at least one pixel inside"):
        brighten()(image, mask, generator=seeded())
    with pytest.raises(ShapeError, match="a mask"):
        brighten()(image, torch.zeros(7, 8), generator=seeded())
    mask[2:5, 2:5] = 1
    with pytest.raises(ShapeError, match="one channel has no colour"):
        recolour()(image, mask, generator=seeded())
    with pytest.raises(ShapeError, match="2 weights, the image 3 channels"):
        recolour(shift=(1, -1))(image.repeat(3, 1, 1), mask, generator=seeded())
    with pytest.raises(ShapeError, match="no room"):
        paste_patch()(image, mask, generator=seeded())
    with pytest.raises(ShapeError, match="the donor is"):
        swap_background(image, mask, torch.rand(1, 9, 9), torch.zeros(9, 9))
    with pytest.raises(BadImage, match="whole image"):
        fill_hole(np.zeros((1, 3, 3)), np.ones((3, 3), bool))


def full(image, mask):
    return phenotypes(image, mask, CELLS.images.record, panel="full", spot_diameter=1.6).to_pylist()[0]


def segmented(image):
    return phenotypes(image[None], (image > 0.5).long(), ImageRecord("CYX", ("grey",)), panel="full").to_pylist()[0]


def plain_cell(ratio=1.0, size=64, radius=12):
    y, x = np.mgrid[:size, :size] - size // 2
    mask = torch.from_numpy((y / ratio) ** 2 + (x * ratio) ** 2 <= radius**2)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.01, (size, size)))
    return (0.2 + 0.6 * mask + noise).float()[None], mask


@pytest.mark.parametrize(
    ("edit", "column", "sign"),
    [
        (add_spots(number=3), "Spots_Count", 1),
        (remove_spots(), "Spots_Count", -1),
        (remove_spots(share=0.5), "Spots_Count", -1),
        (scale_spots(factor=1.6), "Spots_MeanBrightness", 1),
        (scale_spots(factor=0.6), "Spots_MeanBrightness", -1),
        (brighten_rim(amount=0.2), "RadialDistribution_RimMinusCentre_red", 1),
        (brighten_rim(amount=-0.2), "RadialDistribution_RimMinusCentre_red", -1),
    ],
    ids=str,
)
def test_edits_of_spots_and_rim_move_their_phenotype_and_nulls_hardly(edit, column, sign):
    cells, done, null = phantoms.cells(12, (64, 64), seed=5), [], []
    for image, mask in zip(cells.images.tensor(), cells.factor_mask("object"), strict=True):
        start = full(image, mask)
        try:
            pair = [f(image, mask, generator=seeded()).image for f in (edit, edit.null)]
        except ShapeError:
            continue
        after = [full(one, mask) for one in pair]
        for moved, kept in zip(after, (done, null), strict=True):
            if start[column] is not None and moved[column] is not None:
                kept.append(sign * (moved[column] - start[column]))
    assert len(done) >= 9
    assert np.mean(np.array(done) > 0) > 0.8
    assert abs(np.mean(null)) < 0.3 * np.mean(done)


def test_removing_every_spot_leaves_few_and_adding_adds_that_many():
    flat, mask = plain_cell()
    many = add_spots(number=4, height=0.5)(flat, mask, generator=seeded()).image
    count = [
        phenotypes(image, mask, ImageRecord("CYX", ("grey",))).to_pylist()[0]["Spots_Count"] for image in (flat, many)
    ]
    assert count == [0, 4]
    gone = remove_spots()(many, mask, generator=seeded()).image
    assert phenotypes(gone, mask, ImageRecord("CYX", ("grey",))).to_pylist()[0]["Spots_Count"] == 0
    with pytest.raises(ShapeError, match="no spot to remove"):
        remove_spots()(flat, mask, generator=seeded())
    with pytest.raises(ShapeError, match="no room"):
        add_spots(diameter=30)(flat, mask, generator=seeded())


def test_spots_of_a_volume_are_added_scaled_and_removed():
    grid = np.mgrid[:24, :24, :24] - 12
    ball = torch.from_numpy((grid**2).sum(0) <= 81)
    image = (0.2 + 0.3 * ball + 0.01 * torch.randn(24, 24, 24, generator=seeded())).float()[None]
    record = ImageRecord("CZYX", ("grey",))

    def spots(image):
        row = phenotypes(image, ball, record).to_pylist()[0]
        return row["Spots_Count"], row["Spots_MeanBrightness"] or 0.0

    more = add_spots(number=2, height=0.9)(image, ball, generator=seeded()).image
    bright = scale_spots(factor=1.5)(more, ball, generator=seeded()).image
    assert [spots(one)[0] for one in (image, more, bright)] == [0, 2, 2]
    assert spots(bright)[1] > 1.2 * spots(more)[1]
    assert spots(remove_spots()(more, ball, generator=seeded()).image)[0] == 0
    with pytest.raises(ShapeError, match="no shape to stretch"):
        stretch_object()(torch.rand(1, 9), torch.arange(9) < 4, generator=seeded())


@pytest.mark.parametrize("factor", [0.8, 1.4])
def test_stretching_moves_the_axes_as_stated_and_keeps_the_area(factor):
    image, mask = plain_cell(ratio=1.2)
    start = segmented(image[0])
    done = segmented(stretch_object(factor=factor)(image, mask, generator=seeded()).image[0])
    null = segmented(stretch_object(factor=factor).null(image, mask, generator=seeded()).image[0])
    assert done["AreaShape_Area"] == pytest.approx(start["AreaShape_Area"], rel=0.03)
    ratio = [row["AreaShape_MajorAxisLength"] / row["AreaShape_MinorAxisLength"] for row in (start, done, null)]
    long = ratio[0] * factor**2
    assert ratio[1] == pytest.approx(max(long, 1 / long), rel=0.05)
    assert ratio[2] == pytest.approx(ratio[0], rel=0.02)


@pytest.mark.parametrize("pixels", [-3, 2])
def test_moving_the_rim_changes_the_radius_by_so_many_pixels_and_its_null_does_not(pixels):
    image, mask = plain_cell()
    edit = shift_rim(pixels=pixels)
    done, null = (segmented(f(image, mask, generator=seeded()).image[0]) for f in (edit, edit.null))
    assert done["AreaShape_EquivalentDiameter"] / 2 == pytest.approx(12 + pixels, abs=0.4)
    assert null["AreaShape_EquivalentDiameter"] / 2 == pytest.approx(12, abs=0.4)


def test_moving_the_object_moves_its_centre_and_nothing_of_its_form():
    image, mask = plain_cell()
    done = move_object(share=0.2)(image, mask, generator=seeded()).image[0] > 0.5
    null = move_object(share=0.2).null(image, mask, generator=seeded()).image[0] > 0.5
    centre = [np.argwhere(found.numpy()).mean(0) for found in (mask, done, null)]
    assert np.hypot(*(centre[1] - centre[0])) == pytest.approx(0.2 * 64, abs=1)
    assert np.allclose(centre[2], centre[0], atol=0.1)
    assert done.sum().item() == pytest.approx(mask.sum().item(), rel=0.01)


def test_a_replaced_background_holds_no_tag_and_its_null_keeps_it():
    tagged = phantoms.cells(4, (64, 64), seed=3, shortcut=phantoms.Shortcut(shape="square", place=45.0, contrast=0.4))
    masks, tags = tagged.factor_mask("object"), tagged.factor_mask("shortcut")
    for row, name in enumerate(tagged.images.ids):
        image = tagged.render(name, shortcut=1)
        tag = torch.from_numpy(tagged._paint(*tagged._values(name, {"shortcut": 1})).masks["shortcut"])
        ground = ~masks[row] & ~tag
        for verb, kept in (("__call__", False), ("null", True)):
            after = getattr(replace_background(), verb)(image, masks[row], generator=seeded()).image
            height = (after[:, tag].mean() - after[:, ground].mean()).item()
            assert (height > 0.25) == kept
            assert torch.equal(after[:, masks[row]], image[:, masks[row]])
    assert tags.any()


def test_flattened_light_leaves_no_slope_in_object_or_background():
    ramp = 1 + 0.4 * torch.linspace(-1, 1, 64)[None, :].expand(64, 64)
    even, mask = plain_cell()
    done = flatten_illumination()(even * ramp, mask, generator=seeded()).image
    null = flatten_illumination().null(even * ramp, mask, generator=seeded()).image
    middle = (slice(28, 36), slice(None))
    for side in (mask, ~mask):
        columns = torch.arange(64).expand(64, 64)[middle][side[middle]].double()
        slopes = [np.polyfit(columns, one[0][middle][side[middle]], 1)[0] for one in (even * ramp, done, null)]
        assert abs(slopes[1]) < 0.1 * abs(slopes[0])
        assert abs(slopes[2]) > 0.5 * abs(slopes[0])


def test_a_blurred_rim_is_less_steep_and_its_outline_stays():
    image, mask = plain_cell()
    done = blur_rim()(image, mask, generator=seeded()).image[0]
    steep = [np.abs(np.diff(one[32].numpy())).max() for one in (image[0], done)]
    assert steep[1] < 0.6 * steep[0]
    assert (done > 0.5).sum().item() == pytest.approx(mask.sum().item(), rel=0.06)
