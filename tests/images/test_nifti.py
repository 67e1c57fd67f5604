"""NIfTI: axes, units, the place in the patient, and masks that lie where their image lies."""

import gzip

import nibabel
import numpy as np
import pytest

from pellucid.errors import BadImage
from pellucid.images import read_images


def save(path, array, affine=None, *, space="mm", time="sec", code=1, zooms=None):
    image = nibabel.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units(space, time)
    if zooms is not None:
        image.header.set_zooms(zooms)
    image.set_sform(image.affine, code=code)
    image.set_qform(image.affine, code=code)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_is_z_y_x_in_micrometres_and_its_values_are_not_scaled(tmp_path, rng, name):
    stored = rng.integers(-1000, 3000, (5, 4, 3)).astype(np.int16)
    images = read_images(save(tmp_path / name, stored))
    assert images.record.axes == "CZYX"
    assert images.record.spacing == (4000.0, 3000.0, 2000.0)
    np.testing.assert_array_equal(images.tensor()[0, 0].numpy(), stored.transpose(2, 1, 0))
    low, high = images.record.display_range
    assert (low, high) == (stored.min(), stored.max())


def test_slope_and_intercept_are_applied(tmp_path, rng):
    image = nibabel.Nifti1Image(rng.normal(10, 3, (5, 4, 3)), np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(
        read_images(tmp_path / "a.nii").tensor()[0, 0].numpy(),
        nibabel.load(tmp_path / "a.nii").get_fdata().transpose(2, 1, 0),
        rtol=1e-5,
    )


@pytest.mark.parametrize(("space", "step"), [("mm", 2000.0), ("micron", 2.0), ("meter", 2e6)])
@pytest.mark.parametrize(("time", "gap"), [("sec", 1.5), ("msec", 0.0015)])
def test_units_of_length_and_time(tmp_path, rng, space, step, time, gap):
    stored = rng.normal(size=(5, 4, 3, 2)).astype(np.float32)
    images = read_images(
        save(tmp_path / "a.nii", stored, np.diag([2.0, 2, 2, 1]), space=space, time=time, zooms=(2, 2, 2, 1.5))
    )
    assert images.record.axes == "CTZYX"
    assert images.record.spacing == pytest.approx((gap, step, step, step))
    np.testing.assert_array_equal(images.tensor()[0, 0].numpy(), stored.transpose(3, 2, 1, 0))
    assert np.array(images.record.affine).shape == (4, 4)


def test_the_affine_takes_an_index_to_the_same_place_as_nibabel_does(tmp_path, rng):
    turned = np.array([[0, -1.5, 0.2, 10], [2.0, 0, 0.1, -20], [0.1, 0.3, 3.0, 5], [0, 0, 0, 1]])
    path = save(tmp_path / "a.nii", rng.normal(size=(5, 4, 3)), turned)
    record = read_images(path).record
    assert record.orientation == "SLA"
    for index in ((0, 0, 0), (2, 3, 4), (1, 0, 2)):
        ours = np.array(record.affine) @ [*index, 1]
        np.testing.assert_allclose(
            ours[:3], nibabel.affines.apply_affine(nibabel.load(path).affine, index[::-1]), rtol=1e-6
        )


def test_a_resized_volume_keeps_its_corners_in_place(tmp_path, rng):
    path = save(tmp_path / "a.nii", rng.normal(size=(6, 4, 8)))
    fine, coarse = read_images(path).record, read_images(path, size=(4, 2, 3)).record
    assert coarse.spacing == (8000.0, 6000.0, 4000.0)
    corner = np.array([-0.5, -0.5, -0.5, 1])
    np.testing.assert_allclose(np.array(coarse.affine) @ corner, np.array(fine.affine) @ corner, atol=1e-9)
    np.testing.assert_allclose(
        np.array(coarse.affine) @ [3.5, 1.5, 2.5, 1], np.array(fine.affine) @ [7.5, 3.5, 5.5, 1], atol=1e-9
    )


def test_a_set_has_one_affine_an_image_and_none_of_its_own(tmp_path, rng):
    for name, place in (("a", 0), ("b", 50)):
        save(
            tmp_path / f"{name}.nii",
            rng.normal(size=(5, 4, 3)),
            np.array([[2.0, 0, 0, place], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]),
        )
    images = read_images(tmp_path)
    assert images.record.affine is None
    assert [images.record_of(image).affine[0][3] for image in images.ids] == [0, 50]
    assert images.record_of("b.nii").source == "b.nii"


def test_a_file_that_places_nothing_and_names_no_unit_has_no_pixel_size(tmp_path, rng):
    path = save(tmp_path / "a.nii", rng.normal(size=(5, 4, 3)), space="unknown", code=0)
    record = read_images(path).record
    assert (record.spacing, record.affine) == (None, None)
    placed = save(tmp_path / "b.nii", rng.normal(size=(5, 4, 3)), space="unknown", code=1)
    assert read_images(placed).record.spacing == (4000.0, 3000.0, 2000.0)


@pytest.mark.parametrize(("shape", "axes"), [((5, 4, 1), "CYX"), ((5, 4, 3, 1), "CZYX"), ((5, 4, 3, 1, 2), "CZYX")])
def test_lengths_of_one_are_dropped_and_vectors_are_channels(tmp_path, rng, shape, axes):
    images = read_images(save(tmp_path / "a.nii", rng.normal(size=shape).astype(np.float32)))
    assert images.record.axes == axes
    assert images.shape[0] == (2 if len(shape) == 5 else 1)


def masked(tmp_path, rng, **changes):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    labels = rng.integers(0, 3, (5, 4, 3)).astype(np.uint8)
    affine = np.array([[2.0, 0, 0, 7], [0, 2, 0, 8], [0, 0, 2, 9], [0, 0, 0, 1]])
    save(tmp_path / "images" / "a.nii.gz", rng.normal(size=(5, 4, 3)), affine)
    save(tmp_path / "masks" / "a.nii", labels, affine + changes.get("moved", 0))
    return labels


def test_a_label_map_is_a_mask(tmp_path, rng):
    labels = masked(tmp_path, rng)
    images = read_images(tmp_path / "images", masks=tmp_path / "masks")
    np.testing.assert_array_equal(images.mask("masks")[0].numpy(), labels.transpose(2, 1, 0))


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, rng):
    moved = np.zeros((4, 4))
    moved[0, 3] = 0.7
    masked(tmp_path, rng, moved=moved)
    images = read_images(tmp_path / "images", masks=tmp_path / "masks")
    with pytest.raises(BadImage, match=r"lies 0\.7 mm beside the voxels of its image"):
        images.mask("masks")


def test_a_mask_of_flipped_axes_and_fewer_slices_is_laid_on_its_image(tmp_path, rng):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    affine = np.array([[2.0, 0, 0, 7], [0, 2, 0, 8], [0, 0, 2, 9], [0, 0, 0, 1]])
    save(tmp_path / "images" / "a.nii", rng.normal(size=(5, 4, 6)), affine)
    labels = rng.integers(0, 3, (5, 4, 6)).astype(np.uint8)
    labels[:, :, [0, 4, 5]] = 0
    part = labels[::-1, :, 1:4]
    flipped = np.array([[-2.0, 0, 0, 7 + 4 * 2], [0, 2, 0, 8], [0, 0, 2, 9 + 2], [0, 0, 0, 1]])
    save(tmp_path / "masks" / "a.nii", part, flipped)
    images = read_images(tmp_path / "images", masks=tmp_path / "masks")
    np.testing.assert_array_equal(images.mask("masks")[0].numpy(), labels.transpose(2, 1, 0))


def test_absurd_sizes_and_damaged_files_are_refused(tmp_path, rng):
    path = save(tmp_path / "a.nii", rng.normal(size=(5, 4, 3)).astype(np.float32))
    whole = bytearray(path.read_bytes())
    huge = bytearray(whole)
    huge[42:48] = (30000).to_bytes(2, "little") * 3
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(huge)))
    with pytest.raises(BadImage, match=r"states 2\.7e\+13 values"):
        read_images(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii").write_bytes(whole[:-20])
    with pytest.raises(BadImage, match=r"c\.nii: the file is corrupt, incomplete or no NIfTI"):
        read_images(tmp_path / "c.nii")
    (tmp_path / "d.nii").write_bytes(b"nothing")
    with pytest.raises(BadImage, match=r"d\.nii"):
        read_images(tmp_path / "d.nii")
