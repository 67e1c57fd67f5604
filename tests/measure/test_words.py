"""Every column and edit has words of its own, with the unit of the images; what is not ours keeps its name."""

import re

import pytest

from pellucid.errors import BadRecipe
from pellucid.images.imageset import ImageRecord
from pellucid.measure import EDITS, columns, edit_in_words, in_words

MICROGRAPH = ImageRecord("CYX", ("red", "Alexa_488"), spacing=(0.5, 0.5))
VOLUME = ImageRecord("CZYX", ("dapi",), spacing=(1.0, 0.5, 0.5))


@pytest.mark.parametrize("record", [MICROGRAPH, VOLUME])
def test_no_two_columns_share_words_and_none_shows_its_letters(record):
    said = {name: in_words(name, record) for name in columns(record, "full")}
    assert len(set(said.values())) == len(said)
    for name, words in said.items():
        assert "_" not in words.replace("Alexa_488", "")
        assert not re.search(r"[a-z][A-Z]", words)
        unit = columns(record, "full")[name][1]
        assert (f"({unit})" in words) == (unit != "1" and "intensity" not in unit)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("AreaShape_Area", "area (µm²)"),
        ("Intensity_StdIntensity_red", "spread of red intensity"),
        ("RadialDistribution_FracAtD_red_1of4", "share of the red intensity, ring 1 of 4 from the centre"),
        ("Spots_Count", "number of bright spots"),
        ("Count_Objects", "number of objects"),
        ("my_own_length", "my_own_length"),
        ("viability", "viability"),
    ],
)
def test_words_are_those_of_the_field(column, words):
    assert in_words(column, MICROGRAPH) == words


def test_without_a_pixel_size_lengths_are_in_pixels_and_without_images_in_nothing():
    assert in_words("AreaShape_Perimeter", ImageRecord("CYX", ("grey",))) == "perimeter (px)"
    assert in_words("AreaShape_Perimeter") == "perimeter"


def test_an_edit_is_named_with_its_settings():
    assert edit_in_words("resize_object(factor=1.25)") == "resize object, factor 1.25"
    assert edit_in_words("recolour(shift=(1.0, 0.0, -1.0), amount=0.1)") == "recolour, shift 1:0:-1, amount 0.1"
    assert all("_" not in edit_in_words(name) for name in EDITS)
    with pytest.raises(BadRecipe, match="did you mean"):
        edit_in_words("resise_object")
