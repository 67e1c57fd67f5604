"""Every clause points at a measurement that is there and says its number; nothing is said without one."""

import re

import numpy as np
import pyarrow as pa
import pytest

from pellucid.errors import CannotExplain
from pellucid.interpretation.grounded import Clause, Paragraph, class_paragraph, image_paragraph

RNG = np.random.default_rng(0)
IDS = [f"im{place}" for place in range(30)]
PREDICTIONS = pa.table({"image": IDS, "predicted": [0] * 15 + [1] * 15, "confidence": RNG.uniform(0.6, 1, 30)})
SIZE = RNG.standard_normal(30)
SIZE[3] = 12.0
MEASURES = pa.table(
    [IDS, SIZE, RNG.standard_normal(30), pa.array([None] + [1.0] * 29, pa.float64())],
    schema=pa.schema([("image", pa.string()), pa.field("AreaShape_Area", pa.float64(), metadata={"unit": "µm²"}),
                      ("Spots_Count", pa.float64()), ("Texture_Contrast", pa.float64())]),
)  # fmt: skip
TABLES = {"predictions": PREDICTIONS, "measures": MEASURES}


def test_every_clause_of_an_image_resolves_to_the_number_that_it_says():
    for image in IDS:
        paragraph = image_paragraph(image, PREDICTIONS, MEASURES, ("normal", "burr"))
        for clause, value in zip(paragraph.clauses, paragraph.resolve(TABLES), strict=True):
            column = clause.source.rsplit("/", 1)[1]
            said = (
                ("normal", "burr")[value]
                if column == "predicted"
                else f"{value:.2f}"
                if column == "confidence"
                else f"{value:.3g}"
            )
            assert said in clause.text
    text = str(image_paragraph("im3", PREDICTIONS, MEASURES, ("normal", "burr")))
    assert "Its area is 12 µm²" in text
    assert "above the other 14 images so called. [measures/im3/AreaShape_Area]" in text
    assert text.index("area") < text.index("spots")


def test_a_constant_or_missing_measure_is_not_spoken_of():
    assert "Texture" not in str(image_paragraph("im0", PREDICTIONS, MEASURES, ("a", "b")))


def test_every_clause_of_a_class_resolves_and_undecided_ones_are_left_out():
    differences = pa.table(
        {"measure": ["AreaShape_Area", "Spots_Count"], "effect": [1.2, 0.1], "low": [0.8, -0.2], "high": [1.6, 0.4]}
    )
    edits = pa.table(
        {"edit": ["recolour", "brighten"], "change": [-2.0, 0.1], "null_change": [0.1, 0.0], "beyond_low": [1.0, -0.5]}
    )
    boxes = pa.table({"model": ["black box", "additive"], "accuracy": [0.9, 0.8], "gap": [0.0, 0.1]})
    paragraph = class_paragraph("burr", differences, edits, boxes)
    tables = {"differences": differences, "edits": edits, "boxes": boxes}
    assert paragraph.resolve(tables) == [1.2, -2.0, 0.8]
    assert re.sub(r"\s*\[[^\]]*\]", "", str(paragraph)) == (
        "Images of burr have a larger area than the others, by 1.20 standard deviations (0.80 to 1.60). Edited (recolour, "
        "amount 0.15), burr becomes 7.4 times less likely on average; under the edit's matched change, 1.1 "
        "times likelier. A sum of curves over the measured features is right on 80 % of the images, the "
        "model on 90 %."
    )


@pytest.mark.parametrize(
    "source",
    [
        "nowhere/im3/AreaShape_Area",
        "measures/im99/AreaShape_Area",
        "measures/im3/Length",
        "measures/im0/Texture_Contrast",
        "",
    ],
)
def test_a_clause_without_a_measurement_is_caught(source):
    with pytest.raises(CannotExplain, match="the clause points at"):
        Paragraph("im3", (Clause("It is so.", source),)).resolve(TABLES)


def test_an_image_that_was_not_measured_is_refused():
    with pytest.raises(CannotExplain, match="not both called and measured"):
        image_paragraph("im99", PREDICTIONS, MEASURES, ("a", "b"))
