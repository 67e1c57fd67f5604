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
        ("ome_tiff/multifile-Z3.ome.tiff", "CYX", (1, 24, 18), None),
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


def test_one_of_six_images_in_a_file_is_chosen(real):
    path = real("formats/ome_tiff/multiseries.ome.tiff")
    with pytest.raises(BadImage, match="holds 6 images"):
        read_images(path)
    images = read_images(path, series=3)
    assert (images.record.axes, images.shape) == ("CYX", (4, 5, 5))
    assert images.record.spacing == pytest.approx((0.65, 0.65))
    with tifffile.TiffFile(path) as file:
        np.testing.assert_allclose(images.tensor()[0].numpy(), file.series[3].asarray() / 65535, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "axes", "shape", "spacing"),
    [
        ("ome_zarr/mitotic_plate_zyx.ome.zarr", "CZYX", (1, 6, 263, 263), (3.0, 0.0851964, 0.0851964)),
        ("ome_zarr/image-03_zyx.ome.zarr", "CZYX", (1, 2, 100, 100), (1.0, 1.0, 1.0)),
        ("ome_zarr/blobs_v04.ome.zarr", "CYX", (3, 12, 12), None),
        ("ome_zarr/blobs_v05.ome.zarr", "CYX", (3, 12, 12), None),
        ("nifti/anatomical.nii", "CZYX", (1, 25, 41, 33), (2000, 2000, 2000)),
        ("nifti/functional.nii", "CTZYX", (1, 20, 3, 21, 17), (2.0, 8000, 4000, 4000)),
        ("nifti/example4d.nii.gz", "CTZYX", (1, 2, 24, 96, 128), (2000, 2199.999, 2000, 2000)),
        ("nifti/example_nifti2.nii.gz", "CTZYX", (1, 2, 12, 20, 32), (2000, 2199.999, 2000, 2000)),
        ("nifti/test.mgz", "CTZYX", (1, 2, 5, 4, 3), (0.002, 1000, 1000, 1000)),
        ("dicom/ct_128_int16.dcm", "CYX", (1, 128, 128), (661.468, 661.468)),
        ("dicom/mr_64_int16.dcm", "CYX", (1, 64, 64), (312.5, 312.5)),
        ("dicom/mr_overlay_uint16.dcm", "CYX", (1, 300, 484), (723.1405, 723.1405)),
        ("dicom/us_rgb.dcm", "CYX", (3, 240, 320), None),
        ("dicom/us_palette_colour.dcm", "CYX", (3, 350, 800), None),
        ("dicom/us_ybr422_jpeg_30frames.dcm", "CTYX", (3, 30, 240, 320), (0.033333, np.nan, np.nan)),
        ("dicom/sc_rgb_16bit_rle.dcm", "CYX", (3, 100, 100), (1000, 1000)),
        ("dicom/ot_deflated.dcm", "CYX", (1, 512, 512), None),
        ("dicom/rtdose_15frames_uint32.dcm", "CZYX", (1, 15, 10, 10), (5000, 10000, 10000)),
    ],
)
def test_other_formats_have_the_axes_and_pixel_size_that_they_state(real, name, axes, shape, spacing):
    images = read_images(real(f"formats/{name}"))
    assert (images.record.axes, images.shape) == (axes, shape)
    assert images.record.spacing == (None if spacing is None else pytest.approx(spacing, rel=1e-4, nan_ok=True))
    assert bool(images.tensor().isfinite().all())


def test_one_picture_in_four_transfer_syntaxes_reads_the_same(real):
    names = ("int16", "bigendian", "rle", "jpeg2000_lossless")
    first, *others = (read_images(real(f"formats/dicom/mr_64_{name}.dcm")).tensor() for name in names)
    assert all((other == first).all() for other in others)


def test_hounsfield_units_are_kept(real):
    values = read_images(real("formats/dicom/ct_128_int16.dcm")).tensor()
    assert float(values.min()) == -896
    assert float(values.max()) == 1167


def test_frames_that_follow_nothing_and_cut_pixels_are_refused(real):
    with pytest.raises(BadImage, match="does not say what Q is"):
        read_images(real("formats/dicom/sc_rgb_2frames_rle.dcm"))
    with pytest.raises(BadImage, match=r"broken_truncated_pixels\.dcm: the DICOM file is corrupt, incomplete"):
        read_images(real("formats/dicom/broken_truncated_pixels.dcm"))


def test_slices_round_a_joint_are_images_since_they_are_no_stack(real):
    images = read_images(real("formats/dicom/series_mr700"))
    assert (len(images), images.record.axes, images.shape) == (7, "CYX", (1, 16, 16))
    assert images.record_of(images.ids[0]).orientation == "IP"


def test_the_levels_of_a_store_are_taken_by_pixel_size(real):
    path = real("formats/ome_zarr/mitotic_plate_zyx.ome.zarr")
    assert read_images(path, level=1).shape == (1, 6, 131, 131)
    coarse = read_images(path, um_per_px=0.2)
    assert coarse.record.spacing[1:] == pytest.approx((0.2, 0.2), rel=0.01)


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
