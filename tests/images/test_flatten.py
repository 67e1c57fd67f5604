"""Is the background gone, the object untouched, and a missing outline refused?"""

from dataclasses import replace

import pytest
import torch

from pellucid.errors import BadImage
from pellucid.images import ImageRecord, ImageSet, flatten_outside


@pytest.fixture
def images():
    pixels = torch.rand((3, 2, 6, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(6, 6, dtype=torch.long)
    mask[2:4, 1:5] = 2
    return ImageSet(
        ids=("a", "b", "c"), record=ImageRecord("CYX", ("red", "green")), shape=(2, 6, 6),
        load=lambda name: pixels["abc".index(name)], masks={"cell": lambda name: None if name == "c" else mask},
    )  # fmt: skip


def test_outside_is_one_colour_for_all_images_and_inside_is_bit_for_bit_as_it_was(images):
    flat, inside = flatten_outside(images, "cell").tensor(["a", "b"]), images.masks["cell"]("a") > 0
    assert torch.equal(flat[:, :, inside], images.tensor(["a", "b"])[:, :, inside])
    assert bool((flat[:, :, ~inside] == 0.5).all())
    painted = flatten_outside(images, "cell", colour=(0.1, 0.9)).tensor(["a"])[0, :, 0, 0]
    assert torch.equal(painted, torch.tensor([0.1, 0.9]))


def test_what_cannot_be_flattened_is_refused(images):
    with pytest.raises(BadImage, match="no mask 'nucleus' to flatten around; this set has cell"):
        flatten_outside(images, "nucleus")
    with pytest.raises(BadImage, match="3 values and the images 2 channels"):
        flatten_outside(images, "cell", colour=(0.0, 0.0, 0.0))
    with pytest.raises(BadImage, match="c: it has no mask 'cell'"):
        flatten_outside(images, "cell").tensor(["c"])
    empty = replace(images, masks={"cell": lambda name: torch.zeros(6, 6)})
    with pytest.raises(BadImage, match="no mask"):
        flatten_outside(empty, "cell").tensor(["a"])
