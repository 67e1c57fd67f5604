import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import spearmanr
from skimage.feature import graycomatrix, graycoprops

from pellucid.errors import BadImage
from pellucid.images import ImageRecord, phantoms
from pellucid.measure import columns, measure_images, phenotypes, segment
from pellucid.measure.phenotype import CORE
from pellucid.measure.spots import find_spots

PLAIN = ImageRecord("CYX", ("grey",))


def disc(radius, size=101, centre=None):
    middle = (size // 2,) * 2 if centre is None else centre
    y, x = np.ogrid[:size, :size]
    return torch.from_numpy((y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= radius**2)


def ellipse(a, b, size=161):
    y, x = np.mgrid[:size, :size] - size // 2
    return torch.from_numpy((x / a) ** 2 + (y / b) ** 2 <= 1)


def measured(image, mask, record=PLAIN, **settings):
    return phenotypes(image, mask, record, **settings).to_pylist()[0]


def test_there_are_twenty_phenotypes_each_with_a_meaning_and_a_column():
    assert len(CORE) == len({phenotype.name for phenotype in CORE}) == 20
    assert {p.family for p in CORE} == {"size", "shape", "intensity", "texture", "spots", "background"}
    table = phenotypes(torch.rand(1, 101, 101), disc(20), PLAIN)
    assert table.column_names == ["object", *columns(PLAIN)]
    for field in list(table.schema)[1:]:
        assert field.metadata[b"unit"]
        assert field.metadata[b"meaning"]


def test_a_disc_has_the_size_of_its_radius():
    row = measured(torch.rand(1, 101, 101), disc(40))
    assert row["AreaShape_Area"] == pytest.approx(np.pi * 40**2, rel=0.005)
    assert row["AreaShape_Perimeter"] == pytest.approx(2 * np.pi * 40, rel=0.01)
    assert row["AreaShape_EquivalentDiameter"] == pytest.approx(80, rel=0.005)
    assert row["AreaShape_Eccentricity"] == pytest.approx(0, abs=0.01)
    assert row["AreaShape_FormFactor"] == pytest.approx(1, abs=0.02)
    assert row["AreaShape_Solidity"] > 0.98
    assert row["AreaShape_Extent"] == pytest.approx(np.pi / 4, rel=0.03)


@pytest.mark.parametrize(("a", "b"), [(60, 30), (70, 20)])
def test_an_ellipse_has_the_eccentricity_of_its_axes(a, b):
    row = measured(torch.rand(1, 161, 161), ellipse(a, b))
    assert row["AreaShape_Eccentricity"] == pytest.approx(np.sqrt(1 - (b / a) ** 2), abs=0.003)


def test_a_square_fills_its_box_and_a_frame_does_not_fill_its_hull():
    square = torch.zeros(40, 40, dtype=torch.int64)
    square[5:25, 5:35] = 1
    assert measured(torch.rand(1, 40, 40), square)["AreaShape_Extent"] == 1
    corner = square.clone()
    corner[10:25, 10:35] = 0
    assert measured(torch.rand(1, 40, 40), corner)["AreaShape_Solidity"] < 0.6


def test_sizes_scale_with_the_pixel_and_shapes_do_not():
    image, mask = torch.rand(1, 101, 101), disc(20)
    fine = ImageRecord("CYX", ("grey",), spacing=(0.5, 0.5))
    pixels, microns = measured(image, mask), measured(image, mask, fine, spot_diameter=1.5)
    powers = {p.name: (2 if p.power is None else p.power) for p in CORE if not p.per_channel}
    for name, power in powers.items():
        if pixels[name] is not None:
            assert microns[name] == pytest.approx(pixels[name] * 0.5**power, rel=1e-6), name
    units = {name: unit for name, (_, unit) in columns(fine).items()}
    assert (units["AreaShape_Area"], units["AreaShape_Perimeter"]) == ("µm²", "µm")
    assert units["Background_Slope"] == "intensity·1/µm"
    assert columns(PLAIN)["AreaShape_Area"][1] == "px²"


def test_intensities_are_those_of_each_channel_inside_the_object():
    image = torch.rand(2, 30, 30, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(30, 30, dtype=torch.int64)
    mask[4:9, 3:20] = 1
    row = measured(image, mask, ImageRecord("CYX", ("dna", "actin")))
    inside = image[1, 4:9, 3:20].double()
    for name, value in {
        "Mean": inside.mean(), "Std": inside.std(correction=0), "Min": inside.min(),
        "Max": inside.max(), "Integrated": inside.sum(),
    }.items():  # fmt: skip
        assert row[f"Intensity_{name}Intensity_actin"] == pytest.approx(value.item())


def test_texture_of_a_full_mask_equals_plain_co_occurrence():
    grey = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(24, 24, dtype=torch.int64)
    row = measured(grey, mask)
    levels = np.minimum((grey[0].numpy().astype(float) * 32).astype(np.uint8), 31)
    pairs = graycomatrix(levels, [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 32, symmetric=True, normed=True)
    for ours, theirs in (("Contrast", "contrast"), ("Correlation", "correlation"), ("AngularSecondMoment", "ASM")):
        assert row[f"Texture_{ours}"] == pytest.approx(graycoprops(pairs, theirs).mean())


def test_texture_does_not_see_what_lies_outside_the_object():
    image, mask = torch.rand(1, 40, 40), disc(10, 40)
    other = torch.where(mask, image, torch.rand(1, 40, 40))
    assert measured(image, mask)["Texture_Contrast"] == measured(other, mask)["Texture_Contrast"]


def test_checkerboard_and_flat_have_the_texture_of_their_closed_form():
    board = (torch.arange(20)[:, None] + torch.arange(20)) % 2
    full = torch.ones(20, 20, dtype=torch.int64)
    row = measured(board[None].float(), full)
    assert row["Texture_Contrast"] == pytest.approx(31**2 / 2)
    flat = measured(torch.full((1, 20, 20), 0.5), full)
    assert (flat["Texture_Contrast"], flat["Texture_AngularSecondMoment"]) == (0, 1)


def test_planted_discs_are_counted_with_their_width_and_height():
    image = torch.full((1, 101, 101), 0.2)
    centres = [(30, 30), (30, 60), (50, 45), (68, 62), (65, 30)]
    for centre in centres:
        image[0, disc(3.5, 101, centre)] += 0.3
    row = measured(image, disc(40), spot_diameter=7.0)
    assert row["Spots_Count"] == 5
    assert row["Spots_MeanBrightness"] == pytest.approx(0.3, rel=0.02)
    assert row["Spots_MeanDiameter"] == pytest.approx(7, rel=0.08)


def test_a_rim_and_an_edge_are_no_spots():
    image = torch.full((1, 101, 101), 0.1)
    image[0, disc(40)] = 0.5
    image[0, disc(40) & ~disc(38)] = 0.9
    image = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 1, 1)))
    row = measured(image, disc(40))
    assert row["Spots_Count"] == 0
    assert row["Spots_MeanDiameter"] is None


def test_balls_are_counted_in_three_dimensions():
    z, y, x = np.ogrid[:24, :32, :32]
    volume = np.zeros((24, 32, 32))
    for c in ((8, 8, 8), (15, 20, 20), (8, 22, 9)):
        volume += ((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 <= 9) * 0.5
    assert len(find_spots(volume, np.ones(volume.shape, bool), (6.0,) * 3, contrast=0.1).peaks) == 3


def test_a_ball_has_its_volume_and_no_perimeter():
    z, y, x = np.mgrid[:33, :33, :33] - 16
    ball = torch.from_numpy(z**2 + y**2 + x**2 <= 144)
    record = ImageRecord("CZYX", ("grey",), spacing=(2.0, 1.0, 1.0))
    row = measured(torch.rand(1, 33, 33, 33), ball, record)
    assert row["AreaShape_Area"] == pytest.approx(2 * 4 / 3 * np.pi * 12**3, rel=0.015)
    assert row["AreaShape_Perimeter"] is None
    assert row["Texture_Contrast"] is None
    assert columns(record)["AreaShape_Area"][1] == "µm³"


def test_the_background_plane_is_measured_beside_the_object():
    y, x = np.mgrid[:60, :60]
    image = torch.from_numpy(0.3 + 0.004 * x - 0.003 * y)[None].float()
    mask = disc(15, 60)
    image[0, mask] = 5.0
    row = measured(image, mask, ImageRecord("CYX", ("grey",), spacing=(0.5, 0.5)))
    assert row["Background_Slope"] == pytest.approx(0.005 / 0.5, rel=1e-4)
    assert row["Background_MeanIntensity"] == pytest.approx(image[0, ~mask].mean().item(), rel=1e-4)


def test_measured_phenotypes_follow_the_planted_factors():
    cells = phantoms.cells(80, (64, 64), seed=5)
    table = measure_images(cells.images, spot_diameter=1.6)
    assert table["image"].to_pylist() == list(cells.images.ids)
    for factor, column, least in (
        ("cell_size", "AreaShape_Area", 0.99),
        ("eccentricity", "AreaShape_Eccentricity", 0.97),
        ("spot_number", "Spots_Count", 0.93),
        ("spot_size", "Spots_MeanDiameter", 0.7),
        ("spot_brightness", "Spots_MeanBrightness", 0.8),
        ("background_shading", "Background_Slope", 0.95),
    ):
        planted = np.array(cells.factors[factor].to_pylist(), float)
        found = np.array(table[column].to_pylist(), float)
        known = ~np.isnan(found)
        assert known.mean() > 0.95
        assert spearmanr(planted[known], found[known]).statistic > least, column


def test_segmentation_finds_the_planted_cell():
    cells = phantoms.cells(10, (64, 64), seed=2)
    for image in cells.images.ids:
        found, truth = segment(cells.images.load(image)) > 0, cells.factor_mask("object", [image])[0]
        assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_touching_discs_are_parted_only_when_asked():
    image = (disc(12, 80, (40, 28)) | disc(12, 80, (40, 50)))[None].float()
    assert segment(image).max() == 1
    assert segment(image, split_distance=8).max() == 2
    assert segment(1 - image, dark_objects=True).max() == 1


def test_images_without_a_mask_give_no_row_and_none_segments():
    cells = phantoms.cells(4, (48, 48))
    first = cells.images.ids[0]
    masks = dict(cells.images.masks)
    read = masks["object"]
    masks["object"] = lambda image: None if image == first else read(image)
    images = type(cells.images)(**{**cells.images.__dict__, "masks": masks})
    assert measure_images(images)["image"].to_pylist() == list(cells.images.ids[1:])
    assert set(measure_images(cells.images, None)["image"].to_pylist()) == set(cells.images.ids)
    empty = measure_images(images, ids=[first])
    assert (len(empty), empty.column_names) == (0, measure_images(images).column_names)


def test_degenerate_objects_give_numbers_or_nulls_and_no_warning():
    mask = torch.zeros(20, 20, dtype=torch.int64)
    mask[3, 3] = 1
    mask[8, 2:9] = 2
    table = phenotypes(torch.rand(1, 20, 20), mask, PLAIN)
    assert table["object"].to_pylist() == [1, 2]
    assert table["AreaShape_Area"].to_pylist() == [1, 7]
    assert table["Texture_Contrast"][0].as_py() is None
    assert len(phenotypes(torch.rand(1, 20, 20), torch.zeros(20, 20, dtype=torch.int64), PLAIN)) == 0


def test_misfits_are_refused_in_a_sentence():
    with pytest.raises(BadImage, match="YX or ZYX, not in TYX"):
        phenotypes(torch.rand(1, 3, 8, 8), torch.ones(3, 8, 8, dtype=int), ImageRecord("CTYX", ("a",)))
    with pytest.raises(BadImage, match=r"the mask is \(5, 5\)"):
        phenotypes(torch.rand(1, 8, 8), torch.ones(5, 5, dtype=int), PLAIN)
    with pytest.raises(BadImage, match="its record says CYX"):
        phenotypes(torch.rand(2, 8, 8), torch.ones(8, 8, dtype=int), PLAIN)
    with pytest.raises(BadImage, match="whole numbers"):
        phenotypes(torch.rand(1, 8, 8), torch.ones(8, 8), PLAIN)
    with pytest.raises(BadImage, match="one grey level"):
        segment(torch.ones(1, 8, 8))


def test_progress_is_shown_only_when_asked(capsys):
    cells = phantoms.cells(2, (48, 48))
    measure_images(cells.images)
    assert capsys.readouterr().out == ""
    measure_images(cells.images, progress=True)
    assert "measuring objects" in capsys.readouterr().out
