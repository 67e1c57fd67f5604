"""A vocabulary of concepts: what an expert writes comes back, gaps stay gaps, and strangers are refused."""

import numpy as np
import pytest

from pellucid.concepts import Concepts, measured_concepts, read_concepts
from pellucid.errors import BadImage


def test_a_vocabulary_comes_back_from_its_file_with_its_gaps(tmp_path):
    own = Concepts.of(["a", "b", "c"], {"rim": [1, None, 0], "area": [0.1 + 0.2, float("nan"), 1e-300]})
    again = read_concepts(own.write(tmp_path / "concepts.csv"))
    assert again.table.equals(own.table)
    assert again.is_set("rim")
    assert not again.is_set("area")
    assert np.isnan(again.values("rim", ["b", "z"])).all()


def test_words_numbers_and_gaps_of_a_sheet_are_read(tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("﻿image,rim,area\na,yes,3\nb,ABSENT,\nc,?,2.5\nd,NA,n/a\n", encoding="utf-8")
    found = read_concepts(sheet)
    assert found.table["rim"].to_pylist() == [1.0, 0.0, None, None]
    assert found.table["area"].to_pylist() == [3.0, None, 2.5, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,rim\na,maybe\n", "line 2: rim = 'maybe' is no number"),
        ("image,rim\na,inf\n", "is no number"),
        ("name,rim\na,1\n", "needs the column image"),
        ("image\na\n", "needs the column image"),
        ("", "it has no row"),
        ("image,rim\na,1\na,0\n", "'a' stands in two rows"),
    ],
)
def test_a_sheet_that_cannot_be_understood_is_refused_with_the_line(tmp_path, text, said):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(text)
    with pytest.raises(BadImage, match=said):
        read_concepts(sheet)


def test_images_that_are_not_in_the_set_are_named(tmp_path, rim):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"image,rim\n{rim.ids[0]},1\nstranger,0\n")
    with pytest.raises(BadImage, match="1 of 2 images are not in the set, the first is 'stranger'"):
        read_concepts(sheet, rim.images)


def test_images_may_be_named_by_their_files(tmp_path, rim):
    from dataclasses import replace

    images = replace(rim.images.select(rim.ids[:3]), ids=("a/one.png", "a/two.png", "b/two.png"))
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("image,rim\none,1\na/two.png,0\n")
    assert read_concepts(sheet, images).table["image"].to_pylist() == ["a/one.png", "a/two.png"]
    sheet.write_text("image,rim\ntwo.png,1\n")  # it could be either
    with pytest.raises(BadImage, match="not in the set"):
        read_concepts(sheet, images)


def test_measured_phenotypes_are_concepts_with_units(rim):
    found = measured_concepts(rim.images, ["Area", "Spots_Count"], ids=rim.ids[:12])
    assert "AreaShape_Area" in found.names
    assert found.units["AreaShape_Area"] == "µm²"
    planted = rim.factors["cell_size"][:12]
    assert np.corrcoef(found.values("AreaShape_Area", rim.ids[:12]), planted)[0, 1] > 0.99
    with pytest.raises(BadImage, match="no phenotype fits 'weight'"):
        measured_concepts(rim.images, ["weight"], ids=rim.ids[:3])


def test_vocabularies_join_side_by_side():
    left, right = Concepts.of(["a", "b"], {"rim": [1, 0]}), Concepts.of(["b", "c"], {"area": [2.0, 3.0]})
    both = left.joined(right)
    assert both.names == ("rim", "area")
    assert both.table["image"].to_pylist() == ["a", "b", "c"]
    assert both.table["area"].to_pylist() == [None, 2.0, 3.0]
    assert both.select(["area"]).names == ("area",)
    with pytest.raises(BadImage, match="'rim' stands in both"):
        left.joined(left)
    with pytest.raises(BadImage, match="no concept 'size'"):
        left.select(["size"])
