"""The readers on real files, where these lie beside the checkout."""

import numpy as np
import pytest
import tifffile

from pellucid.errors import BadImage
from pellucid.images import read_images

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "axes", "shape", "spacing"),
    [
        ("tiff/tzcyx_uint16.tif", "CTZYX", (2, 2, 3, 169, 169), (10.0, 0.125, 0.12424243, 0.12424243)),
        ("tiff/zcyx_uint8.tif", "CZYX", (2, 25, 50, 50), (0.0544550, 0.4356400, 0.4356400)),
        ("tiff/mitotic_plate_zyx_uint8.tif", "CZYX", (1, 6, 263, 263), (3.0, 0.0851964, 0.0851964)),
        ("tiff/ovule_zyx_uint8.tif", "CZYX", (1, 32, 128, 128), (np.nan, 0.15, 0.15)),
        ("tiff/spots_tyx_uint16.tif", "CTYX", (1, 5, 198, 356), None),
        ("tiff/worms_well_C01_w1_uint16.tif", "CYX", (1, 520, 696), None),
        ("tiff/yxc_uint16.tif", "CYX", (3, 58, 64), None),
        ("tiff/yx_float64.tif", "CYX", (1, 265, 329), None),
        ("ome_tiff/artificial_3ch_int8.ome.tif", "CYX", (3, 167, 439), None),
        ("ome_tiff/worms_2ch_uint16.ome.tif", "CYX", (2, 520, 696), None),
    ],
)
def test_axes_shape_and_pixel_size_are_those_the_file_states(real, name, axes, shape, spacing):
    path = real(f"formats/{name}")
    images = read_images(path)
    assert (images.record.axes, images.shape) == (axes, shape)
    assert images.record.spacing == (None if spacing is None else pytest.approx(spacing, rel=1e-5, nan_ok=True))
    stored = tifffile.imread(path)
    top = np.iinfo(stored.dtype).max if stored.dtype.kind in "iu" else 1
    values = images.tensor().double()
    assert float(values.sum()) == pytest.approx(float((stored / top).sum()), rel=1e-5)
    assert float(values.max()) == pytest.approx(float(stored.max() / top), rel=1e-6)


def test_a_volume_of_unnamed_axes_is_read_with_its_labels_once_they_are_named(real):
    folder = real("formats/tiff")
    with pytest.raises(BadImage, match=r"QYX for shape \(31, 61, 57\)"):
        read_images(folder / "nuclei3d_image.tif")
    images = read_images(folder / "nuclei3d_image.tif", axes="ZYX")
    assert images.shape == (1, 31, 61, 57)


def test_six_images_in_one_file_are_refused(real):
    with pytest.raises(BadImage, match="holds 6 images"):
        read_images(real("formats/ome_tiff/multiseries.ome.tiff"))


def test_sixteen_bit_png_equals_its_tiff(real):
    png = read_images(real("formats/tiff/worms_w1_16bit.png")).tensor()
    tif = read_images(real("formats/tiff/worms_well_C01_w1_uint16.tif")).tensor()
    assert (png == tif).all()


def test_a_time_lapse_of_colour_files_is_a_folder_of_images(real):
    images = read_images(real("formats/timelapse"))
    assert len(images) == 8
    assert images.shape == (3, 264, 542)


def test_coffee_leaf_opens_with_both_kinds_of_mask(real):
    images = read_images(
        real("coffee_leaf"), labels="labels.csv", masks=["mask", "leaf_mask"], split="split", size=(64, 128)
    )
    assert len(images) == 1685
    assert images.classes == ("cercospora", "healthy", "miner", "phoma", "rust")
    assert [images.labels.count(number) for number in range(5)] == [147, 272, 387, 348, 531]
    assert sum(image in images.masks["mask"].files for image in images.ids) == 489
    sick = [
        image
        for image, area in zip(images.ids, images.column("lesion_fraction"), strict=True)
        if area is not None and area > 0.05
    ][:4]
    for name in ("mask", "leaf_mask"):
        assert all(mask.unique().tolist() == [0, 1] for mask in images.mask(name, sick))
    areas = [float(mask.double().mean()) for mask in images.mask("mask", sick)]
    assert areas == pytest.approx(images.column("lesion_fraction", sick), abs=0.01)
    assert images.tensor(sick).shape == (4, 3, 64, 128)


def test_rbc_shape_opens_grouped_by_smear(real):
    images = read_images(real("rbc_shape"), labels="labels.csv", masks=["mask"], split="split", group="smear")
    assert len(images) == 2800
    assert images.shape == (3, 80, 80)
    assert [images.labels.count(number) for number in range(7)] == [400] * 7
    ids = images.ids[::700]
    areas = [int(mask.sum()) for mask in images.mask("mask", ids)]
    assert areas == pytest.approx(images.column("cell_area", ids), rel=0.02)
