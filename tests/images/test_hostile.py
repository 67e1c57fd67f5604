"""Broken and hostile files: each a named refusal in bounded memory, and never the loss of the rest of a set."""

import gzip
import os
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import read_images
from pellucid.testing import damaged, reading, sample_files, write_damaged

ROUNDS = 12


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sample_files(tmp_path_factory.mktemp("sound"))


def test_every_sample_is_sound(samples):
    for path in samples:
        assert bool(read_images(path, **reading(path)).tensor().isfinite().all()), path.name


def told(path, *, strict):
    """Return why a file is refused, or "" where it is read; anything else than a refusal is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        try:
            read_images(path, limit=2**24, **reading(path)).tensor()
        except BadImage as error:
            return str(error)
    return ""


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_damaged_file_is_read_or_refused_in_one_sentence(tmp_path, samples, seed):
    reasons = [told(write_damaged(sample, tmp_path, seed), strict=bool(seed % 2)) for sample in samples]
    assert any(reasons)
    assert all("\n" not in reason and len(reason) < 1000 for reason in reasons)


def test_damage_is_the_same_for_the_same_seed_and_is_damage(tmp_path):
    data = bytes(range(256)) * 8
    again = [damaged(data, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]
    assert data not in again


def bomb(kind, path):
    """Write a small file that states or unpacks to gigabytes."""
    if kind == "png":

        def chunk(name, data):
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(bytes(10**6)))
            + chunk(b"IEND", b"")
        )
    elif kind == "tif":
        tifffile.imwrite(path, np.zeros((7, 9), np.uint8), metadata=None)
        data = bytearray(path.read_bytes())
        for tag, stated in ((256, 9), (257, 7), (278, 7)):
            kind_ = 3 if struct.pack("<HHI", tag, 3, 1) in data else 4
            at = data.index(struct.pack("<HHI", tag, kind_, 1))
            assert data[at + 8] == stated
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60000)
        path.write_bytes(data)
    elif kind == "npy":
        path.write_bytes(_npy_header())
    elif kind == "nii.gz":
        import nibabel

        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
        data = bytearray(image.to_bytes())
        data[42:48] = struct.pack("<hhh", 30000, 30000, 30000)
        path.write_bytes(gzip.compress(bytes(data) + bytes(10**7)))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train_images.npy", _npy_header() + bytes(10**7))


def _npy_header():
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (60000, 60000), }"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("kind", ["png", "tif", "npy", "nii.gz", "npz"])
def test_a_bomb_is_refused_by_what_it_states_and_nothing_is_unpacked(tmp_path, kind):
    bomb(kind, tmp_path / f"a.{kind}")
    tracemalloc.start()
    with pytest.raises(BadImage, match=r"more than the limit|exceeds limit"):
        read_images(tmp_path / f"a.{kind}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e7


@pytest.mark.parametrize(
    "suffix",
    [".png", ".jpg", ".tif", ".ome.tif", ".npy", ".npz", ".nii", ".nii.gz", ".mgz", ".dcm", ".svs", ".json", ".czi"],
)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 2000, b"GIF89a" + b"\1" * 400, b"PK\3\4" + b"\2" * 400, b"II*\0\xff\xff\xff\x7f"]
)
def test_wrong_content_is_refused_whatever_the_name(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    settings = {"um_per_px": 1.0} if suffix == ".svs" else {}
    with pytest.raises(BadImage, match="a" + suffix.replace(".", r"\.") + r"|unreadable_1"):
        read_images(path, **settings)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_counted_in_the_refusal(tmp_path, value):
    import nibabel

    plane = np.zeros((4, 5, 3), np.float32)
    plane[1, 2, 0] = value
    tifffile.imwrite(tmp_path / "a.tif", plane[..., 0])
    np.save(tmp_path / "b.npy", plane[..., 0])
    nibabel.save(nibabel.Nifti1Image(plane, np.eye(4)), tmp_path / "c.nii")
    for name, count in (("a.tif", 20), ("b.npy", 20), ("c.nii", 60)):
        with pytest.raises(BadImage, match=f"{name}: 1 of {count} values are not finite"):
            read_images(tmp_path / name)


def picture(path, value=3, shape=(4, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def test_bad_files_cost_themselves_only(tmp_path, samples):
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "4.png").write_bytes(b"")
    picture(tmp_path / "5.png", shape=(4, 6))
    Image.new("RGB", (5, 4)).save(tmp_path / "6.png")
    os.mkfifo(tmp_path / "7.png")
    (tmp_path / "8.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "9.png").mkdir()
    images = read_images(tmp_path)
    sound, reasons = [], {}
    for image in images.ids:
        try:
            images.load(image)
            sound.append(image)
        except BadImage as error:
            reasons[image] = str(error)
    assert sound == [f"{number}.png" for number in range(4)]
    assert sorted(reasons) == [f"{number}.png" for number in range(4, 9)]
    assert "neither a file nor a folder" in reasons["7.png"]
    assert "there is no such file" in reasons["8.png"]


def test_links_that_go_round_end_and_no_image_is_there_twice(tmp_path):
    picture(tmp_path / "a" / "x.png")
    picture(tmp_path / "b" / "y.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "across").symlink_to(tmp_path / "a")
    assert read_images(tmp_path).ids == ("a/x.png", "b/y.png")


def test_names_of_any_kind_are_ids(tmp_path):
    names = ["ÄÖ 細胞 🧫.png", "e\u0301.png", "x" * 200 + ".png", "a,b;c'\".png", "-rf.png", "%2e%2e.png"]
    for number, name in enumerate(names):
        picture(tmp_path / name, number)
    (tmp_path / os.fsdecode(b"\xff\xfe.png")).write_bytes((tmp_path / names[0]).read_bytes())
    images = read_images(tmp_path)
    assert set(images.ids) == {*names, "\\xff\\xfe.png"}
    assert images.tensor().shape == (7, 1, 4, 5)
    assert [image.encode() for image in images.ids]


def test_a_path_that_is_too_long_or_holds_nothing_is_refused(tmp_path):
    with pytest.raises(BadImage, match=r"cannot be opened|there is no file"):
        read_images(tmp_path / ("x" * 5000))
    (tmp_path / "labels.csv").write_text("image\n" + "x" * 5000 + ".png\n")
    with pytest.raises(BadImage, match="is missing"):
        read_images(tmp_path, labels="labels.csv")


def test_an_archive_s_members_are_read_by_name_and_nothing_is_unpacked_elsewhere(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../../escaped.npy", b"x")
        archive.writestr("train_images.npy", b"x")
    with pytest.raises(BadImage, match="train_images cannot be read"):
        read_images(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_tiff_whose_pages_go_round_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(3):
            file.write(np.zeros((4, 5), np.uint8), metadata=None, contiguous=False)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, last = file.pages[0].offset, file.pages[2].offset
    tags = struct.unpack("<H", data[last : last + 2])[0]
    data[last + 2 + 12 * tags : last + 6 + 12 * tags] = struct.pack("<I", first)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(BadImage, match="after page 3 it goes on at an earlier one"):
        read_images(tmp_path / "a.tif")


def test_an_image_without_extent_is_refused(tmp_path):
    for name, shape in (("a.npy", (0, 5)), ("b.npy", (4, 0))):
        np.save(tmp_path / name, np.zeros(shape))
        with pytest.raises(BadImage, match="is empty"):
            read_images(tmp_path / name)
