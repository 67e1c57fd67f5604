"""A true claim is supported, a false one refuted, and each says what to do next."""

import pyarrow as pa
import pytest

from pellucid.errors import BadRecipe
from pellucid.images import phantoms
from pellucid.interpretation.claims import Grounds, try_claims
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.realism import Realism
from pellucid.interpretation.record import Claim
from pellucid.measure import measure_images, per_image

PHANTOM = phantoms.cells(30, (48, 48), seed=4, rule="cell_size")
IDS = PHANTOM.images.ids
IMAGES = PHANTOM.images.tensor()
GROUPS = [str(group) for group in PHANTOM.images.column("group")]
CASES = [
    Case(name, image, outline, label, group)
    for name, image, outline, label, group in zip(
        IDS, IMAGES, PHANTOM.factor_mask("object"), PHANTOM.images.label(), GROUPS, strict=True
    )
]
MEASURES = per_image(measure_images(PHANTOM.images), IDS)


def size(images):
    """A model that reads the size of the cell."""
    return (images.mean(1) > 0.28).double().sum((1, 2)) / 30 - 10


def grounds(**more):
    return Grounds(
        cases=CASES, scores={"treated": size, "control": lambda images: -size(images)}, measures=MEASURES, groups=GROUPS,
        labels=[PHANTOM.images.classes[label] for label in PHANTOM.images.label()], natural={"treated": size(IMAGES).tolist()},
        realism=Realism.of(IMAGES, IDS, groups=GROUPS), **more,
    )  # fmt: skip


def claim(name, edit, **more):
    settings = {"statement": f"It is the {name}.", "author": "an expert", "subject": "treated"} | more
    return Claim(id=name, edit=edit, **settings)


def test_true_claims_are_supported_false_ones_refuted_and_the_card_is_filled():
    asked = [
        claim("size", "resize_object(factor=1.25)", feature="AreaShape_Area", sign="more"),
        claim("smallness", "resize_object(factor=1.25)", sign="less"),
        claim("colour", "recolour(amount=0.05)"),
        claim("control size", "resize_object(factor=1.25)", subject="control", sign="less"),
    ]
    found = grounds(
        votes={"size": (5, 6)}, others={"treated": [size, size, lambda images: images[:, 0, 0, 0].double()]}
    )
    records, tests = try_claims(asked, found)
    assert [record.status for record in records] == ["supported", "refuted", "refuted", "supported"]
    card = records[0].card
    assert {axis for axis, line in card.items() if line.told == "not tested"} == {"live evidence"}
    assert card["natural variation"].low > 0.5
    assert card["cross-model"].value == pytest.approx(2 / 3)
    assert card["cross-model"].says == "open"
    assert card["expert agreement"].told.startswith("0.833")
    assert "groups of 5 images in each condition" in records[0].next_experiment
    assert records[1].next_experiment.startswith("none: the model does not answer")
    assert tests["treated"].effects.num_rows == 2


def test_confounders_are_held_fixed_in_natural_variation():
    batch = pa.table({"size_class": [str(value > 140) for value in PHANTOM.factors["cell_size"].to_pylist()]})
    asked = [claim("size", "resize_object(factor=1.25)", feature="AreaShape_Area", sign="more")]
    plain, held = (try_claims(asked, grounds(confounders=c))[0][0].card["natural variation"] for c in (None, batch))
    assert "size_class held fixed" in held.words
    assert held.value < plain.value


def test_a_claim_about_nothing_is_refused():
    with pytest.raises(BadRecipe, match="no class 'dead'"):
        try_claims([claim("x", "brighten", subject="dead")], grounds())
    with pytest.raises(BadRecipe, match="'Length' was not measured"):
        try_claims([claim("x", "brighten", feature="Length")], grounds())
    with pytest.raises(BadRecipe, match="there is no edit"):
        try_claims([claim("x", "paint")], grounds())


def test_an_edit_that_fits_no_image_leaves_the_claim_proposed():
    record = try_claims([claim("spots", "add_spots(diameter=40)")], grounds())[0][0]
    assert record.status == "proposed"
    assert "fits too few" in record.notes[0]
