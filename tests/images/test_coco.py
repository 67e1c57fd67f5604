"""Outlines of COCO: polygons and both spellings of run lengths are the pixels that they mean."""

import json

import numpy as np
import pytest
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import read_images


def runs(inside):
    """Return the plain run lengths of a mask, down its columns, beginning with what lies outside."""
    flat = inside.T.ravel()
    counts, value = [0], False
    for one in flat:
        if one != value:
            counts.append(0)
            value = one
        counts[-1] += 1
    return counts


def packed(counts):
    """Spell run lengths as COCO's compressed text: from the fourth on the difference to the one before the last."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def write(folder, outlines, *, name="a.png", shape=(20, 16)):
    Image.fromarray(np.zeros(shape, np.uint8)).save(folder / name)
    (folder / "coco.json").write_text(json.dumps({
        "images": [{"id": 7, "file_name": name, "height": shape[0], "width": shape[1]}],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "spot"}],
        "annotations": [{"id": place, "image_id": 7, "category_id": kind, "segmentation": outline} for place, (kind, outline) in enumerate(outlines)],
    }))  # fmt: skip


@pytest.mark.parametrize("spelling", [list, packed])
def test_run_lengths_are_the_mask_they_spell(tmp_path, rng, spelling):
    inside = rng.random((20, 16)) < 0.4
    large = np.zeros((200, 160), bool)
    large[20:190, 3:150] = True
    for mask in (inside, large, np.ones((20, 16), bool)):
        write(tmp_path, [(1, {"size": list(mask.shape), "counts": spelling(runs(mask))})], shape=mask.shape)
        found = read_images(tmp_path, masks="coco.json").mask("cell")[0]
        np.testing.assert_array_equal(found.numpy(), mask)


def test_a_polygon_holds_the_pixels_whose_centres_it_holds(tmp_path):
    write(
        tmp_path,
        [
            (1, [[2, 3, 9, 3, 9, 11, 2, 11]]),
            (1, [[12.6, 0, 16, 0, 16, 4.4, 12.6, 4.4]]),
            (2, [[0, 0, 3, 0, 3, 3, 0, 3], [10, 10, 14, 10, 14, 18, 10, 18]]),
        ],
    )
    images = read_images(tmp_path / "coco.json")
    expected = np.zeros((20, 16), int)
    expected[3:11, 2:9], expected[:4, 13:] = 1, 2
    np.testing.assert_array_equal(images.mask("cell")[0].numpy(), expected)
    spots = np.zeros((20, 16), int)
    spots[:3, :3] = spots[10:18, 10:14] = 1
    np.testing.assert_array_equal(images.mask("spot")[0].numpy(), spots)


def test_images_are_found_by_the_last_part_of_their_name_and_masks_resize_with_them(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    write(tmp_path, [(1, [[0, 0, 8, 0, 8, 20, 0, 20]])])
    (tmp_path / "a.png").rename(tmp_path / "images" / "a" / "a.png")
    images = read_images(tmp_path / "images", masks=tmp_path / "coco.json", size=(10, 8))
    mask = images.mask("cell")[0].numpy()
    np.testing.assert_array_equal(mask, np.arange(8)[None] < np.full((10, 1), 4))
    assert images.mask("spot")[0].max() == 0


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        ([], "a box only"), ([[1, 2, 3, 4]], "2 corners"), ({"size": [20, 16], "counts": [5]}, "run lengths"), ({"size": [9, 9], "counts": [81]}, "run lengths"),
        ({"size": [20, 16], "counts": "€€"}, "run lengths"), ([[1, 2, float("nan"), 4, 5, 6]], "3 corners"), (5, "object 1 of a.png"),
    ],
)  # fmt: skip
def test_outlines_that_cannot_be_drawn_are_named(tmp_path, outline, reason):
    write(tmp_path, [(1, outline)])
    with pytest.raises(BadImage, match=reason):
        read_images(tmp_path, masks="coco.json").mask("cell")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "no COCO file"), ("{}", "no COCO file"), ('{"images": [], "categories": [], "annotations": []}', "names no image"),
     ('{"images": [{"id": 1, "file_name": "../x.png", "height": 4, "width": 4}], "categories": [], "annotations": []}', "outside its folder"),
     ('{"images": [{"id": 1, "file_name": "x.png", "height": 400000, "width": 400000}], "categories": [], "annotations": []}', "more than the limit"),
     ('{"images": [{"id": 1, "file_name": "x.png", "height": 4, "width": 4}], "categories": [], "annotations": []}', "is missing")],
)  # fmt: skip
def test_files_that_are_no_coco_are_refused(tmp_path, text, reason):
    (tmp_path / "coco.json").write_text(text)
    with pytest.raises(BadImage, match=reason):
        read_images(tmp_path / "coco.json")


def test_a_file_of_other_images_is_refused(tmp_path):
    write(tmp_path, [])
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    with pytest.raises(BadImage, match=r"none of its 1 file names, such as a\.png, is an image here"):
        read_images(tmp_path, masks="coco.json")
