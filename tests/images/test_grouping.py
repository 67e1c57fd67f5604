"""Blocks of consecutive numbers as groups."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import read_images


def _folder(path: Path, numbers: list[str]) -> Path:
    rows = ["image,label,number"]
    for place, number in enumerate(numbers):
        Image.fromarray(np.full((8, 8), place * 10, np.uint8)).save(path / f"{place}.png")
        rows.append(f"{place}.png,{'ab'[place % 2]},{number}")
    (path / "labels.csv").write_text("\n".join(rows))
    return path


def test_a_grouping_by_blocks_names_the_block_of_each_number(tmp_path: Path) -> None:
    images = read_images(_folder(tmp_path, ["9", "10", "19", "20"]), labels="labels.csv", group="number // 10")
    assert images.group_column == "number // 10"
    assert images.column("number // 10") == ["0", "1", "1", "2"]


def test_blocks_of_something_else_than_whole_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"needs whole numbers in 'number'; image 1\.png has '1\.5'"):
        read_images(_folder(tmp_path, ["1", "1.5"]), labels="labels.csv", group="number // 10")


def test_blocks_of_a_column_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="slide"):
        read_images(_folder(tmp_path, ["1", "2"]), labels="labels.csv", group="slide // 10")
