"""The readers on real files, where these lie beside the checkout."""

import shutil

import numpy as np
import pytest
import tifffile

from pellucid.errors import BadImage
from pellucid.images import read_images

pytestmark = pytest.mark.data


def test_a_volume_of_unnamed_axes_is_read_with_its_labels_once_they_are_named(real, tmp_path):
    for name in ("nuclei3d_image.tif", "nuclei3d_labels.tif"):
        shutil.copy(real(f"formats/tiff/{name}"), tmp_path)
    (tmp_path / "labels.csv").write_text("image,nuclei\nnuclei3d_image.tif,nuclei3d_labels.tif\n")
    images = read_images(tmp_path, labels="labels.csv", masks=["nuclei"], axes="ZYX")
    labels = tifffile.imread(tmp_path / "nuclei3d_labels.tif")
    assert (images.mask("nuclei")[0].numpy() == labels).all()
    assert images.shape == (1, *labels.shape)


def test_planes_that_leave_their_metadata_to_a_companion_are_one_stack(real, tmp_path):
    parts = [real(f"formats/ome_tiff/multifile-Z{number}.ome.tiff") for number in range(1, 6)]
    planes, data = [], ""
    for place, part in enumerate(parts):
        shutil.copy(part, tmp_path)
        with tifffile.TiffFile(part) as file:
            planes.append(file.asarray())
            own = tifffile.xml2dict(file.ome_metadata)["OME"]["UUID"]
        data += (
            f'<TiffData FirstZ="{place}" IFD="0" PlaneCount="1"><UUID FileName="{part.name}">{own}</UUID></TiffData>'
        )
    (tmp_path / "multifile.companion.ome").write_text(
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:07504f88-7bc3-11e0-b937-2faf67bc00b3">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="18" SizeY="24" SizeZ="5" SizeC="1" '
        'SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="2"><Channel ID="Channel:0:0" SamplesPerPixel="1" '
        f'Name="DAPI"/>{data}</Pixels></Image></OME>'
    )
    images = read_images(tmp_path / parts[0].name)
    assert (images.record.axes, images.record.spacing, images.record.channels) == ("CZYX", (2.0, 0.5, 0.5), ("DAPI",))
    np.testing.assert_allclose(images.tensor()[0, 0].numpy(), np.stack(planes) / 255, rtol=1e-6)
    with pytest.raises(BadImage, match=r"one of the 5 files of one stack, which multifile-Z1\.ome\.tiff stands for"):
        read_images(tmp_path / parts[2].name)
    (tmp_path / parts[4].name).unlink()
    with pytest.raises(BadImage, match="planes lie in other files that are missing"):
        read_images(tmp_path / parts[0].name)


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
