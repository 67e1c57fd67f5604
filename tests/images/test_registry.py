"""Readers of other packages are asked after the built-in ones; what a format needs is said by name."""

import importlib

import numpy as np
import pytest

from pellucid.errors import BadImage
from pellucid.images import RawImage, Reader, Wanted, read_images
from pellucid.images import registry as registry_module
from pellucid.images.reader import needed


def read_mine(path, wanted):
    numbers = np.array([float(one) for one in path.read_text().split(",")])
    return RawImage(numbers, "X", {"X": 2.0}, ("trace",))


MINE = Reader(name="Trace", suffixes=(".trace", ".png"), read=read_mine, reads="one line of numbers", refuses="nothing")


class Entry:
    name = "mine"

    def load(self):
        return MINE


@pytest.fixture
def installed(monkeypatch):
    caches = (registry_module.readers, registry_module._by_suffix, registry_module.suffixes)
    monkeypatch.setattr(
        registry_module, "entry_points", lambda *, group: [Entry()] if group == "pellucid.readers" else []
    )
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


def test_a_reader_of_another_package_reads_its_files_and_takes_none_of_the_built_in_ones(tmp_path, installed):
    for number in range(3):
        (tmp_path / f"{number}.trace").write_text("1,2,3,4")
    images = read_images(tmp_path)
    assert (images.record.axes, images.shape, images.record.spacing) == ("CX", (1, 4), (2.0,))
    assert registry_module.reader_of(tmp_path / "a.png") is not MINE
    with pytest.raises(BadImage, match="a Trace file has no level"):
        read_images(tmp_path, level=1)


def test_without_the_package_its_files_are_no_images(tmp_path):
    (tmp_path / "a.trace").write_text("1,2")
    with pytest.raises(BadImage, match=r"\.trace are not read"):
        read_images(tmp_path / "a.trace")


def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.nii").write_bytes(b"x")
    sound = importlib.import_module

    def without(name, *more):
        if name.startswith("nibabel"):
            raise ImportError(name)
        return sound(name, *more)

    monkeypatch.setattr("pellucid.images.reader.import_module", without)
    with pytest.raises(
        BadImage, match=r'a\.nii: reading it needs the package nibabel; pip install "pellucid\[medical\]"'
    ):
        read_images(tmp_path / "a.nii")
    assert needed("json", "none", "x") is importlib.import_module("json")


def test_a_file_without_a_telling_name_is_known_by_its_first_bytes(tmp_path):
    (tmp_path / "notes").write_text("nothing")
    with pytest.raises(BadImage, match="holds no image: 1 no suffix found"):
        read_images(tmp_path)
    (tmp_path / "slice").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    with pytest.raises(BadImage, match="unreadable_1"):
        read_images(tmp_path)
    assert Wanted().limit == 2**29
