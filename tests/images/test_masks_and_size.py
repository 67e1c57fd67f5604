"""Masks lie on their images, before and after a resize."""

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import read_images
from pellucid.images.resize import resized_image, resized_mask


@pytest.fixture
def pair(tmp_path):
    """One 2-D image; the function writes its mask and opens both."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "images" / "a.png")

    def opened(mask: np.ndarray, suffix: str = "tif", **settings):
        path = tmp_path / "masks" / f"a.{suffix}"
        if suffix == "tif":
            tifffile.imwrite(path, mask)
        elif suffix == "npy":
            np.save(path, mask)
        else:
            Image.fromarray(mask).save(path)
        return read_images(tmp_path / "images", masks={"drawn": tmp_path / "masks"}, **settings).mask("drawn")[0]

    return opened


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(suffix, kind) for suffix in ("tif", "npy") for kind in (bool, "u1", "u2", "i4", "i8", "f4")]
    + [("png", kind) for kind in (bool, "u1", "u2")],
)
def test_label_images_keep_their_numbers(pair, rng, dtype, suffix):
    stored = rng.integers(0, 2 if dtype is bool else 200, (8, 6)).astype(dtype)
    mask = pair(stored, suffix)
    assert mask.dtype == torch.int64
    np.testing.assert_array_equal(mask, stored.astype(np.int64))


def test_a_grey_mask_saved_as_colour_is_read_and_a_coloured_one_refused(pair, rng):
    plane = rng.integers(0, 3, (8, 6), dtype=np.uint8)
    np.testing.assert_array_equal(pair(np.stack([plane] * 3, -1), "png"), plane)
    with pytest.raises(BadImage, match="one number a pixel, but the file has 3 different channels"):
        pair(rng.integers(0, 9, (8, 6, 3), dtype=np.uint8), "png")


def test_masks_of_another_shape_type_or_format_are_refused(pair):
    with pytest.raises(BadImage, match=r"mask has shape \(6, 8\), but its image a\.png has YX \(8, 6\)"):
        pair(np.zeros((6, 8), np.uint8))
    with pytest.raises(BadImage, match=r"mask has shape \(6, 8\), but its image a\.png has YX \(8, 6\)"):
        pair(np.zeros((6, 8), np.uint8), size=(4, 3))
    with pytest.raises(BadImage, match="whole numbers"):
        pair(np.full((8, 6), 0.5, np.float32))


def test_a_jpeg_mask_is_refused(pair):
    with pytest.raises(BadImage, match="JPEG alters the values of a mask"):
        pair(np.zeros((8, 6), np.uint8), "jpg")


def test_a_mask_that_names_no_axes_takes_those_of_its_image(tmp_path, rng):
    stack = rng.integers(0, 9, (3, 2, 8, 6), dtype=np.uint8)
    labels = rng.integers(0, 9, (3, 8, 6), dtype=np.uint16)
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "a.npy", stack)
    np.save(tmp_path / "masks" / "a.npy", labels)
    images = read_images(tmp_path, masks="masks", axes="ZCYX")
    assert images.record.axes == "CZYX"
    np.testing.assert_array_equal(images.mask("masks")[0], labels)


def test_a_mask_without_depth_on_a_stack_is_refused(tmp_path):
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 6)))
    np.save(tmp_path / "masks" / "a.npy", np.zeros((8, 6), np.uint8))
    with pytest.raises(BadImage, match=r"mask has axes YX of shape \(8, 6\), its image has ZYX"):
        read_images(tmp_path, masks="masks", axes="ZYX").mask("masks")


def test_resize_brings_unequal_images_and_masks_to_one_shape(tmp_path, rng):
    for folder, kind in (("images", "u1"), ("masks", bool)):
        (tmp_path / folder).mkdir()
        for name, shape in (("a", (8, 6)), ("b", (16, 12))):
            Image.fromarray(rng.integers(0, 2, shape).astype(kind)).save(tmp_path / folder / f"{name}.png")
    images = read_images(tmp_path / "images", masks=tmp_path / "masks", size=(4, 3))
    assert images.tensor().shape == (2, 1, 4, 3)
    assert [tuple(mask.shape) for mask in images.mask("masks")] == [(4, 3), (4, 3)]


def test_pixel_size_grows_as_the_image_shrinks_and_must_stay_one_for_the_set(tmp_path):
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "a.png")
    images = read_images(tmp_path, size=(4, 3), spacing=(1.0, 0.5))
    assert images.record.spacing == (2.0, 1.0)
    Image.fromarray(np.zeros((16, 12), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(BadImage, match=r"b\.png: its pixel size is 4 × 2 µm, but the set's is 2 × 1 µm"):
        read_images(tmp_path, size=(4, 3), spacing=(1.0, 0.5)).tensor()
    unknown = read_images(tmp_path, size=(4, 3), spacing=(np.nan, np.nan))
    assert unknown.tensor().shape == (2, 1, 4, 3)
    assert unknown.record.spacing is None


def test_resize_of_the_plane_leaves_depth_and_time_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 4, 8, 6), np.uint8))
    images = read_images(tmp_path / "a.npy", axes="TZYX", size=(4, 3), spacing=(60, 2, 1, 1))
    assert images.shape == (1, 5, 4, 4, 3)
    assert images.record.spacing == (60.0, 2.0, 2.0, 2.0)
    assert read_images(tmp_path / "a.npy", axes="TZYX", size=(2, 4, 3)).shape == (1, 5, 2, 4, 3)
    with pytest.raises(BadImage, match="one number for each of ZYX"):
        read_images(tmp_path / "a.npy", axes="TZYX", size=(5, 2, 4, 3))


@given(high=st.integers(1, 9), wide=st.integers(1, 9), up=st.integers(1, 4), value=st.floats(-1, 1, width=32))
def test_a_constant_stays_constant_and_labels_repeat_exactly(high, wide, up, value):
    flat = np.full((2, 7, 5), value, np.float32)
    np.testing.assert_allclose(resized_image(flat, (high, wide)), value, rtol=1e-5, atol=1e-6)
    labels = np.arange(high * wide).reshape(high, wide)
    np.testing.assert_array_equal(resized_mask(labels, (high * up, wide * up)), labels.repeat(up, 0).repeat(up, 1))
    small = resized_mask(labels, (1 + high // 2, 1 + wide // 2))
    assert set(small.ravel()) <= set(labels.ravel())


def test_shrinking_smooths_against_aliasing():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (1, 32, 16))
    small = resized_image(stripes, (8, 8))
    assert np.abs(small - 0.5).max() < 0.1
