"""A record says what was tested, decides its status by rule, and survives being written."""

import pytest

from pellucid.errors import BadStudy
from pellucid.interpretation.record import (
    CARD,
    CardLine,
    Claim,
    Interpretation,
    records_from_json,
    records_to_json,
    records_to_markdown,
)
from pellucid.intervals import Interval

CLAIM = Claim(id="spots", statement="The model counts spots.", author="a biologist", subject="treated", edit="remove_spots",
              feature="Spots_Count", sign="less", evidence=("map-gradcam",))  # fmt: skip


def line(axis, low, high, least=0.0):
    return CardLine.of(axis, "done", Interval((low + high) / 2, low, high, 40, 8), least=least)


@pytest.mark.parametrize(
    ("tests", "status"),
    [
        ([], "proposed"),
        ([line("edit and test", 1, 2, 0.5)], "proposed"),
        ([line("edit and test", 1, 2, 0.5), line("specificity", 0.1, 1)], "supported"),
        ([line("edit and test", -0.2, 0.3, 0.5), line("specificity", 0.1, 1)], "refuted"),
        ([line("edit and test", 0.2, 0.9, 0.5), line("specificity", 0.1, 1)], "proposed"),
        ([line("edit and test", 1, 2, 0.5), line("specificity", -1, 0)], "refuted"),
        ([line("cross-model", 0.6, 1, 0.5), line("expert agreement", 0.7, 1, 0.5)], "proposed"),
    ],
)
def test_the_status_follows_the_rule(tests, status):
    assert Interpretation(claim=CLAIM, tests=tuple(tests)).status == status


def test_images_that_look_unreal_decide_nothing():
    tests = (line("edit and test", 1, 2, 0.5), line("specificity", 0.1, 1))
    assert [Interpretation(claim=CLAIM, tests=tests, realistic=share).status for share in (None, 0.9, 0.3)] == [
        "supported", "supported", "proposed",
    ]  # fmt: skip
    against = (line("edit and test", -2, -1, 0.5), line("specificity", 0.1, 1))
    assert [Interpretation(claim=CLAIM, tests=against, realistic=share).status for share in (0.9, 0.3)] == [
        "refuted",
        "proposed",
    ]


def test_what_was_not_tested_is_said_to_be_so():
    record = Interpretation(claim=CLAIM, tests=(line("specificity", 0.1, 1),))
    assert list(record.card) == list(CARD)
    assert record.card["live evidence"].told == "not tested"
    assert record.card["specificity"].told == "0.55 [0.1, 1]"
    assert "not tested" in record.to_markdown()
    again = record.tested(line("specificity", -1, -0.5))
    assert len(again.tests) == 1
    assert again.status == "refuted"


def test_a_record_is_read_back_as_it_was_and_a_broken_one_is_refused():
    record = Interpretation(
        claim=CLAIM,
        tests=(line("edit and test", 1, 2), line("specificity", 0.1, 1)),
        next_experiment="more",
        realistic=0.8,
        notes=("a",),
    )
    text = records_to_json([record])
    assert records_from_json(text) == (record,)
    assert "supported" in text
    assert records_to_markdown([record]).startswith("# Interpretations")
    for broken in ('[{"claim": {}}]', "nonsense", '[{"claim": {"id": 1}}]'):
        with pytest.raises(BadStudy):
            records_from_json(broken)


def test_one_group_leaves_a_test_open():
    test = CardLine.of("specificity", "done", Interval(2.0, float("nan"), float("nan"), 5, 1))
    assert test.says == "open"
    assert test.told == "2 (no interval from 1 group)"
