"""Folders, class folders, manifests and archives become one set; what is wrong is said in one sentence."""

import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile
import torch
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import loading as loading_module
from pellucid.images import read_images


def grey(path: Path, value: int = 0, shape: tuple[int, int] = (4, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def test_manifest_gives_labels_masks_and_metadata(cells):
    images = read_images(cells, labels="labels.csv", masks=["mask", "other"], split="split", group="smear")
    assert images.ids == tuple(f"images/cell_{number}.png" for number in range(6))
    assert images.classes == ("burr", "round")
    assert images.labels == (0, 1, 0, 1, 0, 1)
    assert images.column("split") == ["train"] * 4 + ["test"] * 2
    assert images.column("smear", images.ids[4:]) == ["002", "002"]
    assert images.metadata.column_names == ["split", "smear", "area"]
    assert images.metadata["area"].type == pa.float64()
    assert (images.split_column, images.group_column) == ("split", "smear")
    assert images.select(images.ids[:2]).group_column == "smear"
    first, *_, last = images.mask("mask")
    assert first.dtype == torch.int64
    assert first.shape == (12, 10)
    assert first.sum() == 2 * 3
    assert last is None
    assert images.mask("mask")[2].unique().tolist() == [0, 3]
    assert images.mask("other")[2].unique().tolist() == [0, 1]


def test_manifest_may_lie_in_the_working_directory_and_masks_in_folders(cells, monkeypatch):
    monkeypatch.chdir(cells)
    images = read_images("images", labels="labels.csv", masks={"first": "masks", "second": "other"})
    assert list(images.masks) == ["first", "second"]
    by_column = read_images(cells, labels="labels.csv", masks=["mask", "other"])
    assert torch.equal(images.mask("first")[3], by_column.mask("mask")[3])
    assert torch.equal(images.mask("second")[3], by_column.mask("other")[3])
    assert images.mask("first")[5] is None
    assert torch.equal(images.tensor(), by_column.tensor())


def test_a_manifest_is_a_path_too_and_may_use_semicolons(cells):
    text = (cells / "labels.csv").read_text().replace(",", ";")
    (cells / "german.csv").write_text(text, encoding="utf-8-sig")
    assert read_images(cells / "german.csv").labels == (0, 1, 0, 1, 0, 1)


def test_a_manifest_for_one_file_is_refused(cells):
    with pytest.raises(BadImage, match=r"is one file; to use labels\.csv, give the folder"):
        read_images(cells / "images" / "cell_0.png", labels="labels.csv")


def test_ids_do_not_depend_on_the_order_of_the_rows(cells):
    head, *rows = (cells / "labels.csv").read_text().splitlines()
    (cells / "turned.csv").write_text("\n".join([head, *rows[::-1]]))
    forward, backward = read_images(cells, labels="labels.csv"), read_images(cells, labels="turned.csv")
    assert forward.ids == backward.ids[::-1]
    assert torch.equal(forward.tensor(), backward.tensor(forward.ids))


def test_a_manifest_without_labels_is_unlabelled(cells):
    (cells / "plain.csv").write_text("image,day\nimages/cell_1.png,1\n")
    images = read_images(cells, labels="plain.csv")
    assert images.labels is None
    assert images.column("day") == [1]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("picture,label\na,b\n", "no column 'image'; it has picture, label"),
        ("Image,label\na,b\n", "no column 'image'; did you mean 'Image'?"),
        ("image,lable\nimages/cell_0.png,b\n", "no column 'label'; did you mean 'lable'?"),
        ("image,label\nimages/cell_9.png,b\n", "the image 'images/cell_9.png' is missing"),
        ("image,label\nimages/cell_0.png,\n", "row 2: the label is empty"),
        ("image,label\nimages/cell_0.png,a\nimages/cell_0.png,b\n", "'images/cell_0.png' occurs in rows 2 and 3"),
        ("image,label,label\nimages/cell_0.png,a,b\n", "has two columns 'label'"),
        ("image,label\n", "names no image"),
        ("image,label\nimages/cell_0.png\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_sentence(cells, table, reason):
    (cells / "wrong.csv").write_text(table)
    with pytest.raises(BadImage) as caught:
        read_images(cells, labels="wrong.csv")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_mask_file_is_named_before_any_work(cells):
    (cells / "masks" / "cell_2.png").unlink()
    with pytest.raises(BadImage, match=r"the mask 'masks/cell_2\.png' of 'images/cell_2\.png' is missing"):
        read_images(cells, labels="labels.csv", masks=["mask"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"labels": "labels.csv", "masks": ["maks"]}, "no column 'maks'; did you mean 'mask'?"),
        ({"labels": "labels.csv", "group": "smaer"}, "no column 'smaer'; did you mean 'smear'?"),
        ({"labels": "none.csv"}, "there is no labels file none.csv"),
        ({"labels": "labels.csv", "masks": "nowhere"}, "there is no mask folder nowhere"),
        ({"masks": ["mask"]}, "give labels="),
        ({}, 'give labels="labels.csv"'),
        ({"labels": "labels.csv", "classes": ["round", "oval"]}, "image 1, 'images/cell_0.png': its label 'burr' is no class"),
        ({"labels": "labels.csv", "classes": ["burr", "round", "burr"]}, "names a class twice"),
        ({"labels": "labels.csv", "size": (0, 3)}, "size="),
        ({"labels": "labels.csv", "size": (3, 3, 3)}, "one number for each of YX"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_in_one_sentence(cells, settings, reason):
    with pytest.raises(BadImage) as caught:
        read_images(cells, **settings)
    assert reason in str(caught.value)


def test_given_classes_set_the_order_of_the_numbers(cells):
    images = read_images(cells, labels="labels.csv", classes=["round", "oval", "burr"])
    assert images.classes == ("round", "oval", "burr")
    assert images.labels == (2, 0, 2, 0, 2, 0)


def test_whole_number_labels_are_sorted_by_value(tmp_path):
    rows = ["image,label"]
    for number in (10, 9, 2):
        grey(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    images = read_images(tmp_path, labels="labels.csv")
    assert images.classes == ("2", "9", "10")
    assert images.labels == (2, 1, 0)


def test_a_folder_is_read_in_sorted_order_without_labels(tmp_path):
    for name in ("b", "a", "c"):
        grey(tmp_path / f"{name}.png", ord(name))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_bytes(b"")
    images = read_images(tmp_path)
    assert images.ids == ("a.png", "b.png", "c.png")
    assert images.labels is None
    torch.testing.assert_close(images.tensor(["c.png"])[0, 0, 0, 0], torch.tensor(ord("c") / 255))


def test_class_folders_give_sorted_classes_and_paths_as_ids(tmp_path):
    for place in ("oval/1.png", "burr/2.png", "burr/smear/1.png", "masks/burr/2.png"):
        grey(tmp_path / place, 3)
    images = read_images(tmp_path, masks="masks")
    assert images.ids == ("burr/2.png", "burr/smear/1.png", "oval/1.png")
    assert images.classes == ("burr", "oval")
    assert images.labels == (0, 0, 1)
    assert [mask is None for mask in images.mask("masks")] == [False, True, True]


def test_folders_named_train_and_test_are_splits_and_never_classes(tmp_path):
    for place in ("train/a/1.png", "train/b/1.png", "test/b/1.png"):
        grey(tmp_path / place)
    images = read_images(tmp_path)
    assert images.classes == ("a", "b")
    assert images.column(images.split_column) == ["test", "train", "train"]
    assert images.label(["test/b/1.png"]) == (1,)


def test_images_beside_folders_of_images_are_refused(tmp_path):
    grey(tmp_path / "a.png")
    grey(tmp_path / "class" / "b.png")
    with pytest.raises(BadImage, match=r"a\.png beside folders of images such as class/"):
        read_images(tmp_path)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(BadImage, match="no files found"):
        read_images(tmp_path)
    (tmp_path / "a.xyz").write_bytes(b"x")
    with pytest.raises(BadImage, match=r"1 \.xyz found; \.png, .*are read"):
        read_images(tmp_path)
    with pytest.raises(BadImage, match=r"\.xyz are not read"):
        read_images(tmp_path / "a.xyz")
    with pytest.raises(BadImage, match="there is no file or folder"):
        read_images(tmp_path / "b.png")


def test_one_mask_for_two_images_of_one_name_is_refused(tmp_path):
    for place in ("images/a/1.png", "images/b/1.png", "masks/1.png"):
        grey(tmp_path / place)
    with pytest.raises(BadImage, match="could be the mask of 2 images"):
        read_images(tmp_path / "images", masks=tmp_path / "masks")


def test_two_masks_for_one_image_and_masks_of_other_names_are_refused(tmp_path):
    for place in ("images/1.png", "masks/1.png", "others/2.png"):
        grey(tmp_path / place)
    tifffile.imwrite(tmp_path / "masks" / "1.tif", np.zeros((4, 5), np.uint8))
    with pytest.raises(BadImage, match="could both be the mask"):
        read_images(tmp_path / "images", masks=tmp_path / "masks")
    with pytest.raises(BadImage, match="none of its 1 files has the name of an image, such as 1"):
        read_images(tmp_path / "images", masks=tmp_path / "others")


def test_an_image_that_differs_from_the_set_is_refused_when_loaded(tmp_path, rng):
    grey(tmp_path / "a.png")
    grey(tmp_path / "b.png", shape=(4, 6))
    Image.fromarray(rng.integers(0, 9, (4, 5, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    tifffile.imwrite(tmp_path / "d.tif", np.zeros((4, 5), np.float32))
    tifffile.imwrite(
        tmp_path / "e.tif", np.zeros((4, 5), np.uint8), resolution=(20000,) * 2, resolutionunit="CENTIMETER"
    )
    images = read_images(tmp_path)
    assert images.tensor(["a.png"]).shape == (1, 1, 4, 5)
    for name, reason in {
        "b.png": r"axes CYX of shape \(1, 4, 6\), but the set has CYX of shape \(1, 4, 5\); give size=",
        "c.png": r"axes CYX of shape \(3, 4, 5\), but the set has CYX of shape \(1, 4, 5\)$",
        "d.tif": "values are float, but the set's are unsigned",
        "e.tif": "pixel size is 0.5 × 0.5 µm, but the set's is unknown",
    }.items():
        with pytest.raises(BadImage, match=f"{name}: .*{reason}"):
            images.tensor([name])


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "z.tif", "imagej.tif", "npy"])
@pytest.mark.parametrize("kept", [0, 10, 0.2, 0.6, 0.9])
def test_a_truncated_file_is_refused_and_the_others_are_not(tmp_path, rng, kind, kept):
    path = tmp_path / f"b.{kind}"
    stack = rng.integers(0, 256, (3, 40, 30), dtype=np.uint8)
    settings = {
        "tif": {"photometric": "minisblack"},
        "z.tif": {"compression": "zlib", "photometric": "minisblack", "metadata": {"axes": "ZYX"}},
        "imagej.tif": {"imagej": True, "metadata": {"axes": "ZYX"}},
    }
    if kind in settings:
        tifffile.imwrite(path, stack, **settings[kind])
    elif kind == "npy":
        np.save(path, stack)
    else:
        Image.fromarray(stack[0]).save(path)
    sound = tmp_path / f"c.{kind}"
    shutil.copy(path, sound)
    axes = "ZYX" if stack.ndim == 3 and kind not in ("png", "jpg") else None
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    images = read_images(tmp_path, axes=axes)
    assert images.tensor([sound.name]).shape[0] == 1
    with pytest.raises(BadImage, match=r"b\.") as caught:
        images.tensor()
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_of_corrupt_files_only_is_refused_by_its_first(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(BadImage, match=r"a\.png: the file is corrupt"):
        read_images(tmp_path)


def test_ten_thousand_rows_are_listed_without_opening_more_than_one_file(tmp_path, monkeypatch):
    grey(tmp_path / "images" / "00000.png")
    opened = []
    sound = loading_module.decode
    monkeypatch.setattr(loading_module, "decode", lambda path, **kw: (opened.append(path), sound(path, **kw))[1])
    rows = ["image,label,smear"]
    for number in range(10_000):
        name = f"images/{number:05d}.png"
        if number:
            (tmp_path / name).touch()
        rows.append(f"{name},{number % 3},{number % 40}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    start = time.perf_counter()
    images = read_images(tmp_path, labels="labels.csv", group="smear")
    spent = time.perf_counter() - start
    assert len(images) == 10_000
    assert [path.name for path in opened] == ["00000.png"]
    assert spent < 1
    with pytest.raises(BadImage, match=r"00001\.png"):
        images.tensor([images.ids[1]])


def test_a_set_can_be_pickled_for_other_processes(cells):
    images = read_images(cells, labels="labels.csv", masks=["mask"])
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again.tensor(), images.tensor())
    assert torch.equal(again.mask("mask")[0], images.mask("mask")[0])


def test_many_images_come_back_in_the_order_asked_for(tmp_path):
    for number in range(40):
        grey(tmp_path / f"{number:02d}.png", number)
    images = read_images(tmp_path)
    asked = images.ids[::-1]
    torch.testing.assert_close(images.tensor(asked)[:, 0, 0, 0] * 255, torch.arange(39.0, -1, -1))
    assert images.tensor([]).shape == (0, 1, 4, 5)
    with pytest.raises(BadImage, match="no image 'x' among the 40"):
        images.tensor(["x"])


def test_a_large_set_prints_in_one_line(cells):
    text = repr(read_images(cells, labels="labels.csv"))
    assert "6 images" in text
    assert len(text) < 200
