"""The full panel has the closed forms of discs, ellipsoids, shells, rings and grains, in the units of the pixel."""

import numpy as np
import pytest
import torch

from pellucid.errors import BadImage
from pellucid.images import ImageRecord, phantoms
from pellucid.measure import PHENOTYPES, columns, measure_images, per_image, phenotypes, read_measures
from pellucid.measure.phenotype import CORE

PLAIN = ImageRecord("CYX", ("grey",))
FINE = ImageRecord("CYX", ("grey",), spacing=(0.5, 0.5))
SOLID = ImageRecord("CZYX", ("grey",))


def measured(image, mask, record=PLAIN):
    return phenotypes(image, mask, record, panel="full").to_pylist()[0]


def ellipse(a, b, size=161):
    y, x = np.mgrid[:size, :size] - size // 2
    return torch.from_numpy((x / a) ** 2 + (y / b) ** 2 <= 1)


def ellipsoid(radii, size=48):
    grid = np.mgrid[:size, :size, :size] - (size - 1) / 2
    return torch.from_numpy(sum((axis / radius) ** 2 for axis, radius in zip(grid, radii, strict=True)) <= 1)


def test_the_core_columns_come_first_and_every_column_has_unit_and_meaning():
    assert PHENOTYPES[: len(CORE)] == CORE
    core, full = (list(columns(PLAIN, panel)) for panel in ("core", "full"))
    assert full[: len(core)] == core
    table = phenotypes(torch.rand(1, 161, 161), ellipse(40, 30), PLAIN, panel="full")
    assert table.column_names == ["object", *full]
    assert len(set(full)) == len(full)
    assert all(field.metadata[b"unit"] and field.metadata[b"meaning"] for field in list(table.schema)[1:])
    shared = phenotypes(torch.ones(1, 161, 161), ellipse(40, 30), PLAIN)
    again = phenotypes(torch.ones(1, 161, 161), ellipse(40, 30), PLAIN, panel="full").select(shared.column_names)
    assert shared.equals(again)


@pytest.mark.parametrize(("a", "b"), [(60, 30), (40, 40)])
def test_an_ellipse_has_its_axes_and_compactness(a, b):
    row = measured(torch.rand(1, 161, 161), ellipse(a, b))
    assert row["AreaShape_MajorAxisLength"] == pytest.approx(2 * a, rel=0.01)
    assert row["AreaShape_MinorAxisLength"] == pytest.approx(2 * b, rel=0.01)
    assert row["AreaShape_Compactness"] == pytest.approx((a**2 + b**2) / (2 * a * b), rel=0.01)


def test_a_square_has_the_compactness_of_a_square_at_any_size():
    for side in (4, 30):
        mask = torch.zeros(40, 40, dtype=torch.int64)
        mask[3 : 3 + side, 5 : 5 + side] = 1
        assert measured(torch.rand(1, 40, 40), mask)["AreaShape_Compactness"] == pytest.approx(np.pi / 3)


def test_the_euler_number_counts_pieces_less_holes():
    mask = ellipse(60, 60).clone()
    mask[70:75, 70:75] = False
    mask[90:95, 70:75] = False
    assert measured(torch.rand(1, 161, 161), mask)["AreaShape_EulerNumber"] == -1
    shell = ellipsoid((14, 14, 14)) & ~ellipsoid((6, 6, 6))
    assert measured(torch.rand(1, 48, 48, 48), shell, SOLID)["AreaShape_EulerNumber"] == 2


@pytest.mark.parametrize("radius", [6, 10, 15])
def test_a_ball_has_its_surface_and_is_round(radius):
    row = measured(torch.rand(1, 48, 48, 48), ellipsoid((radius,) * 3), SOLID)
    assert row["AreaShape_SurfaceArea"] == pytest.approx(4 * np.pi * radius**2, rel=0.05)
    assert row["AreaShape_Sphericity"] == pytest.approx(1, abs=0.02)
    assert row["AreaShape_SurfaceToVolume"] == pytest.approx(3 / radius, rel=0.05)
    assert row["AreaShape_Compactness"] == pytest.approx(1, abs=0.02)


def test_a_prolate_ellipsoid_has_its_closed_form_and_is_less_round():
    a, c = 8.0, 20.0
    e = np.sqrt(1 - (a / c) ** 2)
    surface = 2 * np.pi * a**2 * (1 + c / (a * e) * np.arcsin(e))
    row = measured(torch.rand(1, 48, 48, 48), ellipsoid((c, a, a)), SOLID)
    assert row["AreaShape_SurfaceArea"] == pytest.approx(surface, rel=0.03)
    sphericity = np.cbrt(np.pi) * (6 * 4 / 3 * np.pi * a * a * c) ** (2 / 3) / surface
    assert row["AreaShape_Sphericity"] == pytest.approx(sphericity, abs=0.02)


def test_voxels_of_unequal_sides_give_the_same_ball():
    flat = ellipsoid((12, 12, 12))[::2]
    record = ImageRecord("CZYX", ("grey",), spacing=(1.0, 0.5, 0.5))
    row = measured(torch.rand(1, *flat.shape), flat, record)
    assert row["AreaShape_MajorAxisLength"] == pytest.approx(12, rel=0.03)
    assert row["AreaShape_MinorAxisLength"] == pytest.approx(12, rel=0.03)
    assert row["AreaShape_SurfaceArea"] == pytest.approx(4 * np.pi * 36, rel=0.06)


def test_lengths_scale_with_the_pixel_and_pure_numbers_do_not():
    image, mask = torch.rand(1, 161, 161), ellipse(40, 20)
    coarse, fine = measured(image, mask), measured(image, mask, FINE)
    for phenotype in PHENOTYPES[len(CORE) :]:
        for name in [name for name, (kind, _) in columns(PLAIN, "full").items() if kind is phenotype]:
            if coarse[name] is not None:
                assert fine[name] == pytest.approx(coarse[name] * 0.5 ** (phenotype.power or 0)), name


def test_percentiles_are_those_of_the_pixels():
    image = torch.rand(1, 30, 30, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(30, 30, dtype=torch.int64)
    mask[4:20, 3:20] = 1
    row, inside = measured(image, mask), image[0, 4:20, 3:20].double().numpy()
    assert row["Intensity_MedianIntensity_grey"] == np.median(inside)
    assert row["Intensity_UpperQuartileIntensity_grey"] == np.quantile(inside, 0.75)
    assert row["Intensity_MADIntensity_grey"] == np.median(np.abs(inside - np.median(inside)))


def test_rings_share_out_the_intensity_of_a_cone_and_a_flat_disc():
    y, x = np.mgrid[:161, :161] - 80
    away, mask = np.hypot(y, x), ellipse(60, 60)
    flat = measured(torch.ones(1, 161, 161), mask)
    shares = [flat[f"RadialDistribution_FracAtD_grey_{ring}of4"] for ring in range(1, 5)]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([1 / 16, 3 / 16, 5 / 16, 7 / 16], abs=0.02)
    assert [flat[f"RadialDistribution_MeanFrac_grey_{ring}of4"] for ring in range(1, 5)] == pytest.approx([1] * 4)
    assert flat["RadialDistribution_RimMinusCentre_grey"] == pytest.approx(0)
    rim = measured(torch.from_numpy(away / 60)[None].float(), mask)
    # over a ring from a to b the mean of r is 2/3 (b³ − a³) / (b² − a²)
    expected = 2 / 3 * ((1 - 0.75**3) / (1 - 0.75**2) - 0.25)
    assert rim["RadialDistribution_RimMinusCentre_grey"] == pytest.approx(expected, abs=0.02)


def test_granularity_lies_at_the_radius_of_the_grains():
    mask = torch.ones(80, 80, dtype=torch.int64)
    mask[:2] = 0
    for radius in (1, 2, 3):
        image = torch.zeros(1, 80, 80)
        for y in range(10, 76, 12):
            for x in range(10, 76, 12):
                yy, xx = np.mgrid[:80, :80]
                image[0, torch.from_numpy((yy - y) ** 2 + (xx - x) ** 2 <= radius**2)] = 1
        row = measured(image, mask)
        spectrum = [row[f"Granularity_{step}_grey"] for step in (1, 2, 3, 4)]
        assert np.argmax(spectrum) == radius  # a disc outlives the opening of its own radius only
        assert sum(spectrum) == pytest.approx(1)


def test_hue_and_saturation_are_those_of_the_colour():
    record = ImageRecord("CYX", ("red", "green", "blue"))
    image = torch.zeros(3, 30, 30)
    image[0], image[2] = 0.8, 0.2
    mask = torch.zeros(30, 30, dtype=torch.int64)
    mask[5:20, 5:20] = 1
    row = measured(image, mask, record)
    assert row["Colour_MeanHue"] == pytest.approx(360 - 15, abs=0.1)
    assert row["Colour_MeanSaturation"] == pytest.approx(1)
    grey = measured(torch.full((3, 30, 30), 0.5), mask, record)
    assert (grey["Colour_MeanHue"], grey["Colour_MeanSaturation"]) == (None, 0)
    assert measured(torch.rand(1, 30, 30), mask)["Colour_MeanHue"] is None


def test_neighbours_are_counted_and_their_distance_has_the_unit():
    mask = torch.zeros(60, 60, dtype=torch.int64)
    for label, place in enumerate((5, 15, 50), start=1):
        mask[place : place + 5, 5:10] = label
    rows = phenotypes(torch.rand(1, 60, 60), mask, FINE, panel="full").to_pylist()
    assert [row["Neighbors_FirstClosestDistance"] for row in rows] == pytest.approx([5, 5, 17.5])
    assert [row["Neighbors_Number"] for row in rows] == [1, 1, 0]


def test_an_image_of_several_objects_has_their_mean_and_number():
    cells = phantoms.fields(3, (48, 48), seed=1)
    ids = [
        *cells.images.ids,
    ]
    objects = measure_images(cells.images, None, panel="full")
    table = per_image(objects.filter([name != ids[1] for name in objects["image"].to_pylist()]), ids)
    own = [row for row in objects.to_pylist() if row["image"] == ids[0]]
    assert table["image"].to_pylist() == ids
    assert table["Count_Objects"].to_pylist()[:2] == [len(own), 0]
    assert table["AreaShape_Area"][0].as_py() == pytest.approx(np.mean([row["AreaShape_Area"] for row in own]))
    assert table["AreaShape_Area"][1].as_py() is None
    assert table.schema.field("AreaShape_Area").metadata[b"unit"] == "µm²".encode()


def test_a_file_of_measures_joins_by_id_and_says_what_does_not_fit(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("image;length;note;score\na.tif;1.5;fine;NA\nb;;round;2\nzz;3;flat;4\n")
    joined = read_measures(path, ["b", "a", "c"])
    assert joined.table.to_pydict() == {
        "image": ["b", "a", "c"],
        "length": [None, 1.5, None],
        "score": [2.0, None, None],
    }
    assert (joined.unknown, joined.missing, joined.text) == (("zz",), ("c",), ("note",))
    assert "1 ids of the file are no image here (zz)" in joined.told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,length\na,1\n", "has no column 'image'"),
        ("image,length\nx,1\n", "names none of the 1 images"),
        ("image,length\na,1\na,2\n", "two rows for the image 'a'"),
        ("", "are empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, text, said):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(BadImage, match=said):
        read_measures(path, ["a"])
