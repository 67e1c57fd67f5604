"""All findings together: what is said, of what, and how it survives the way to a file."""

import json
from dataclasses import fields, replace
from typing import get_args

import pytest
import torch

from pellucid.errors import CannotExplain
from pellucid.interpretation import Evidence, Finding, find_locality, interpret
from pellucid.interpretation.finding import Kind
from pellucid.models import Model


def corner(x):
    values = torch.zeros(len(x), 1, *x.shape[2:])
    values[..., :4, -4:] = 1
    return values


@pytest.fixture(scope="module")
def tagged(lab):
    """A model that reads a corner tag which betrays the label, and one map that shows it."""
    images = lab.cells(lab.TRAITS["corner tag"], count=24, groups=[f"s{row // 3}" for row in range(24)])
    return lab.evidence(
        lab.MODELS["corner tag"], images, methods=("corner",), maps=lambda method, ids: corner(images.tensor(ids))
    )


@pytest.fixture(scope="module")
def told(tagged):
    """What is found there."""
    return interpret(tagged)


def test_every_test_leaves_its_finding_and_its_table(told):
    assert [finding.kind for finding in told.findings] == ["shortcut", "localised"]
    assert set(told.tables) == {"background_swaps", "batch_colours", "changes", "stability", "settings"}
    assert told.tables["background_swaps"].column_names == ["image", "class", "donor", "donor_class", "group", "pull"]
    assert told.tables["changes"].column_names == ["change", "kind", "effect", "low", "high"]
    assert set(told.tables["changes"]["kind"].to_pylist()) == {"edit", "map"}


def test_the_same_evidence_gives_the_same_verdict(tagged, told):
    again = interpret(tagged)
    assert again.findings == told.findings
    assert all(again.tables[name].equals(told.tables[name]) for name in told.tables)


def test_another_seed_draws_other_swaps(tagged, told):
    other = interpret(replace(tagged, seed=1))
    assert other.tables["background_swaps"]["donor"] != told.tables["background_swaps"]["donor"]
    assert other.findings[0].kind == "shortcut"


def test_findings_survive_json(told):
    for finding in told.findings:
        read = json.loads(json.dumps(finding.to_dict(), allow_nan=False))
        assert list(read) == [field.name for field in fields(Finding)]
        assert Finding(**read) == finding
        assert read["kind"] in get_args(Kind)


def test_a_number_that_cannot_be_told_is_null_in_json():
    finding = Finding(id="a", kind="gate", subject="s", statement="S.", evidence="E.", value=1.0, low=float("nan"))
    assert finding.to_dict()["low"] is None
    assert finding.to_dict()["value"] == 1.0


def test_ids_are_unique_and_texts_are_sentences(told, lab):
    bare = lab.evidence(lab.MODELS["spot"], lab.cells(lab.TRAITS["spot"], count=8))
    for findings in (told.findings, interpret(bare).findings):
        assert len({finding.id for finding in findings}) == len(findings)
        for finding in findings:
            assert finding.statement.endswith(".")
            assert finding.evidence.endswith(".")
            assert finding.verdict == ("undecided" if finding.kind == "refused" else "supported")


def test_what_was_not_tested_is_said_to_be_untested_and_nothing_else_is_claimed(lab):
    images = lab.cells(lab.TRAITS["spot"], count=8)
    findings = interpret(lab.evidence(lab.MODELS["spot"], images)).findings
    assert [finding.kind for finding in findings] == ["refused", "refused"]
    assert all("was not tested" in finding.statement for finding in findings)


def test_a_background_that_moves_nothing_gives_no_statement_at_all(lab):
    images = lab.cells(lab.TRAITS["spot"], count=24)
    findings = interpret(lab.evidence(lab.MODELS["spot"], images)).findings
    assert not any("background" in finding.statement for finding in findings)


def test_statements_name_only_what_was_tested(told):
    shortcut, local = told.findings
    assert "kind 0" not in shortcut.statement
    assert "kind 1" not in shortcut.statement
    assert "corner" in local.statement
    for unseen in ("tag", "phantom", "shortcut"):
        assert unseen not in shortcut.statement + shortcut.evidence + local.statement + local.evidence


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda x: torch.cat([x, x], 1), "is no classifier: its outputs have shape (24, 2, 28, 28)"),
        (Model(lambda x: x.flatten(1)[:, :2], task="regression"), "is no classifier: its outputs have shape (24, 2)"),
    ],
)
def test_a_model_that_is_no_classifier_is_not_tested_and_the_rest_stands(tagged, model, said):
    findings = interpret(replace(tagged, model=Model.of(model))).findings
    assert [finding.kind for finding in findings] == ["refused", "refused"]
    assert said in findings[1].evidence


def test_a_model_with_too_few_outputs_for_the_classes_is_refused_in_a_sentence(lab):
    images = lab.cells(lambda random, label: {}, count=24, classes=3)
    evidence = lab.evidence(lab.MODELS["spot"], images)
    with pytest.raises(CannotExplain, match="the model has 2 outputs for the 3 classes"):
        evidence.logits(images.tensor())
    assert [finding.kind for finding in interpret(evidence).findings] == ["refused", "refused", "gate"]


def test_a_one_logit_net_speaks_for_its_second_class(lab):
    images = lab.cells(lab.TRAITS["spot"], count=4)
    evidence = lab.evidence(lambda x: x.flatten(1)[:, :1] - 0.2, images)
    chance = torch.sigmoid(images.tensor().flatten(1)[:, 0].double() - 0.2)
    torch.testing.assert_close(evidence.probabilities(images.tensor())[:, 1], chance)
    odds = evidence.log_odds(images.tensor(), torch.tensor([1, 1, 0, 0]))
    torch.testing.assert_close(odds, torch.logit(torch.cat([chance[:2], 1 - chance[2:]])))


def test_cases_take_classes_in_turn_whatever_the_order_of_the_files(lab):
    images = lab.cells(lambda random, label: {}, count=30, classes=3)
    sorted_by_class = images.select(sorted(images.ids, key=lambda name: images.label([name])[0]))
    chosen = lab.evidence(lambda x: x.flatten(1)[:, :3], sorted_by_class).cases(12)
    assert [case.label for case in chosen] == [0, 1, 2] * 4
    assert chosen[0].id == lab.evidence(lambda x: x.flatten(1)[:, :3], images).cases(12)[0].id
    other = lab.evidence(lambda x: x.flatten(1)[:, :3], images, seed=1).cases(12)
    assert {case.id for case in other} != {case.id for case in chosen}


def test_cases_have_an_outline_that_leaves_object_and_background(lab):
    images = lab.cells(lambda random, label: {}, count=6)
    speck = torch.zeros(lab.SIZE, lab.SIZE, dtype=torch.long)
    speck[0, :2] = 1
    odd = {images.ids[0]: None, images.ids[1]: speck, images.ids[2]: torch.ones_like(speck)}
    masked = replace(images, masks={"object": lambda name: odd.get(name, images.masks["object"](name))})
    assert {case.id for case in lab.evidence(lab.MODELS["spot"], masked).cases(6)} == set(images.ids[3:])


def test_several_masks_outline_together_and_none_leaves_it_to_the_intensities(lab):
    images = lab.cells(lambda random, label: {}, count=4)
    upper, lower = (
        lambda name, half=half: images.masks["object"](name) * (torch.arange(lab.SIZE)[:, None] < 14).eq(half)
        for half in (True, False)
    )
    truth = {name: images.masks["object"](name) > 0 for name in images.ids}
    both = lab.evidence(lab.MODELS["spot"], replace(images, masks={"a": upper, "b": lower}), object_mask=None)
    assert both.outlined == "what the masks outline (a, b)"
    assert all(torch.equal(case.outline, truth[case.id]) for case in both.cases(4))
    for sign in (1, -1):  # bright objects on a dark ground, and dark ones on a bright ground
        shown = replace(images, masks={}, load=lambda name, sign=sign: sign * images.load(name))
        for case in lab.evidence(lab.MODELS["spot"], shown, object_mask=None).cases(4):
            assert float((case.outline == truth[case.id]).float().mean()) > 0.9


def test_an_image_of_one_grey_level_has_no_outline(lab):
    images = replace(lab.cells(lambda random, label: {}, count=4), masks={}, load=lambda name: torch.zeros(1, 28, 28))
    assert lab.evidence(lab.MODELS["spot"], images, object_mask=None).cases(4) == []


def test_streams_of_two_purposes_are_apart_and_repeat(tagged):
    assert tagged.random("a").integers(2**31) == tagged.random("a").integers(2**31)
    assert tagged.random("a").integers(2**31) != tagged.random("b").integers(2**31)
    assert tagged.random("a").integers(2**31) != replace(tagged, seed=1).random("a").integers(2**31)


def test_progress_is_shown_when_asked_and_changes_nothing(tagged, capsys):
    quiet = find_locality(tagged)[0]
    assert capsys.readouterr().out == ""
    assert find_locality(replace(tagged, progress=True))[0] == quiet


def test_evidence_holds_nothing_of_a_phantom():
    names = {field.name for field in fields(Evidence)}
    assert names == {
        "model", "images", "ids", "predictions", "methods", "maps", "scores", "ranking", "object_mask", "group", "batch",
        "repeats", "nets", "left_out", "seed", "batch_size", "progress",
    }  # fmt: skip


def test_volumes_are_tested_as_images_are(lab):
    """A bright ball in a volume; the model reads the brightness of one corner block, which betrays the label."""
    random = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0) - 5.5] * 3, indexing="ij"))
    ball = grid.square().sum(0).sqrt() < 4.5
    labels = [row % 2 for row in range(22)]
    pixels = 0.2 + 0.02 * torch.randn((22, 1, 12, 12, 12), generator=random) + 0.5 * ball
    pixels[1::2, :, :3, :3, :3] += 0.3
    images = lab.image_set(pixels, [ball.long()] * 22, labels)
    model = lambda x: lab.two(30 * (x[:, :, :3, :3, :3].mean((1, 2, 3, 4)) - 0.35))  # noqa: E731

    def block(method, ids):
        values = torch.zeros(len(ids), 1, 4, 4, 4)
        values[..., 0, 0, 0] = 1
        return values

    shortcut, local = interpret(lab.evidence(model, images, methods=("block",), maps=block)).findings
    assert "most of it sits in one place, at Z 12 %, Y 12 %, X 12 % of the image" in shortcut.statement
    assert (local.kind, local.verdict) == ("localised", "supported")
