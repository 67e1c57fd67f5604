"""Archives in the layout of MedMNIST."""

import numpy as np
import pytest
import torch

from pellucid.errors import BadImage
from pellucid.images import read_images
from pellucid.images.numpy_files import stored_array


def archive(path, rng, *, shape=(6, 5), labels=None, **extra):
    members = {}
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        members[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        members[f"{split}_labels"] = np.arange(count)[:, None] % 4 if labels is None else labels(count)
    np.savez_compressed(path, **{**members, **extra})
    return members


@pytest.mark.parametrize(
    ("shape", "axes"), [((6, 5), "CYX"), ((6, 5, 3), "CYX"), ((4, 6, 5), "CZYX"), ((4, 6, 5, 3), "CZYX"), ((4, 6, 5, 1), "CZYX")]
)  # fmt: skip
def test_images_labels_and_splits_are_read(tmp_path, rng, shape, axes):
    members = archive(tmp_path / "a.npz", rng, shape=shape)
    images = read_images(tmp_path / "a.npz")
    assert images.record.axes == axes
    assert images.ids[:2] == ("train/0", "train/1")
    assert images.ids[-1] == "test/2"
    assert images.classes == ("0", "1", "2", "3")
    assert images.labels == (0, 1, 2, 3, 0, 0, 1, 0, 1, 2)
    assert images.split_column == "split"
    assert images.column("split") == ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    stored = members["val_images"][1]
    wanted = np.moveaxis(stored, -1, 0) if shape[-1] in (1, 3) else stored[None]
    torch.testing.assert_close(images.tensor(["val/1"])[0], torch.from_numpy(wanted / np.float32(255)))


def test_class_names_follow_the_numbers_even_where_a_number_is_absent(tmp_path, rng):
    archive(tmp_path / "a.npz", rng, labels=lambda count: np.full((count, 1), 2, np.uint8))
    assert read_images(tmp_path / "a.npz").classes == ("0", "1", "2")
    images = read_images(tmp_path / "a.npz", classes=["cyst", "stone", "tumour"])
    assert images.classes[images.labels[0]] == "tumour"
    with pytest.raises(BadImage, match="label '2' is no class"):
        read_images(tmp_path / "a.npz", classes=["cyst", "stone"])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (lambda count: np.ones((count, 14), np.uint8), r"\(5, 14\) give an image several labels"),
        (lambda count: np.ones((count + 1, 1), np.uint8), "not one class number for each of the 5"),
        (lambda count: np.ones((count, 1), np.float32), "float32 are not one class number"),
    ],
)
def test_labels_that_are_not_one_class_an_image_are_refused(tmp_path, rng, labels, reason):
    archive(tmp_path / "a.npz", rng, labels=labels)
    with pytest.raises(BadImage, match=reason):
        read_images(tmp_path / "a.npz")


def test_other_archives_and_corrupt_ones_are_refused(tmp_path, rng):
    np.savez(tmp_path / "a.npz", pictures=np.zeros((3, 4)))
    with pytest.raises(BadImage, match="holds pictures, not train_images"):
        read_images(tmp_path / "a.npz")
    archive(tmp_path / "b.npz", rng)
    whole = (tmp_path / "b.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match=r"b\.npz: the archive is corrupt"):
        read_images(tmp_path / "b.npz")
    with pytest.raises(BadImage, match="leave labels= and masks= out"):
        read_images(tmp_path / "a.npz", labels="labels.csv")


def test_damaged_pixels_cost_their_split_only(tmp_path, rng):
    archive(tmp_path / "a.npz", rng, shape=(60, 50))
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    whole[1000:1020] = bytes(20)
    (tmp_path / "a.npz").write_bytes(whole)
    images = read_images(tmp_path / "a.npz")
    assert images.tensor(["val/0", "test/0"]).shape == (2, 1, 60, 50)
    with pytest.raises(BadImage, match=r"a\.npz: train_images cannot be read"):
        images.tensor(["train/0"])


def test_an_archive_without_compression_is_read_row_by_row(tmp_path, rng):
    members = archive(tmp_path / "packed.npz", rng)
    np.savez(tmp_path / "plain.npz", **members)
    plain, packed = (read_images(tmp_path / name) for name in ("plain.npz", "packed.npz"))
    assert torch.equal(plain.tensor(), packed.tensor())
    stored = stored_array(str(tmp_path / "plain.npz"), "val_images")
    assert (stored[1] == members["val_images"][1]).all()
    assert stored_array(str(tmp_path / "packed.npz"), "val_images") is None
    np.savez(tmp_path / "columns.npz", test_images=np.asfortranarray(members["test_images"]))
    assert torch.equal(read_images(tmp_path / "columns.npz").tensor(), plain.tensor(["test/0", "test/1", "test/2"]))


def test_a_changed_byte_of_a_plain_archive_is_named(tmp_path, rng):
    members = archive(tmp_path / "packed.npz", rng)
    path = tmp_path / "plain.npz"
    np.savez(path, **members)
    held = path.read_bytes()
    at = held.index(members["train_images"].tobytes())
    path.write_bytes(held[: at + 7] + bytes([held[at + 7] ^ 1]) + held[at + 8 :])
    with pytest.raises(BadImage, match="train_images cannot be read"):
        read_images(path)
