"""Sentences about phenotypes say what was measured, and no more."""

import pyarrow as pa
import pytest

from pellucid.interpretation import phenotype_findings
from pellucid.interpretation.phenotypes import Court, DoseResponse, Necessity
from pellucid.interpretation.phenotypes.necessity import ALL, CONTROL
from pellucid.intervals import Interval

ROW = {
    "phenotype": "AreaShape_Area", "same": "AreaShape_Perimeter", "unit": "µm²", "sd": 12.0, "target": "treated", "spread": 2.0, "slope": 1.4,
    "low": 1.1, "high": 1.7, "null": 0.6, "alone": 1.2, "moved": 0.9, "moved_low": 0.8, "held": 0.9, "p": 0.01, "q": 0.03, "agreeing": 5,
    "groups": 6, "images": 30, "verdict": "moves",
}  # fmt: skip
EMPTY = pa.table({})


def doses(*rows):
    return DoseResponse(pa.Table.from_pylist(list(rows)), EMPTY, EMPTY, {}, "log-odds", Interval(0, 0, 0.1, 10, 10))


def court_of(verdict, **more):
    row = {"batch": "plate 2", "left": 0.9, "readable": 0.5, "overlap": 0.6, "low": 0.4, "high": 0.8, "null": 0.3, "p": 0.01,
           "pull": 1.0, "pull_low": 0.5, "pull_high": 1.5, "pull_p": 0.02, "shared": "Background_MeanIntensity", "images": 20,
           "groups": 6, "verdict": verdict}  # fmt: skip
    return Court(pa.Table.from_pylist([row | more]), EMPTY)


def test_a_slope_is_told_with_its_unit_its_interval_and_its_null():
    (found,) = phenotype_findings(doses(ROW))
    assert found.kind == "interpretation"
    assert found.verdict == "supported"
    assert (
        "one standard deviation (12 µm²) more of it raises the log-odds of treated by 1.4, 0.70 of its spread"
        in found.statement
    )
    assert "cannot tell it from AreaShape_Perimeter" in found.statement
    assert "5/6 groups" in found.evidence
    assert "stay under 0.6" in found.evidence
    assert (found.value, found.low, found.high) == (1.4, 1.1, 1.7)


def test_what_is_seen_only_with_others_held_says_so():
    (found,) = phenotype_findings(doses(ROW | {"alone": 0.1, "verdict": "with others held"}))
    assert "may be one of those under another name" in found.statement
    assert "with the others left free +0.1" in found.evidence


def test_few_groups_have_no_interval_and_collinear_ways_are_not_parted():
    (found,) = phenotype_findings(doses(ROW | {"low": None, "high": None, "groups": 2, "verdict": "not separable"}))
    assert found.kind == "inseparable"
    assert "no interval from 2 groups" in found.evidence


def test_nothing_seen_is_told_with_what_could_not_be_tried():
    (found,) = phenotype_findings(doses(ROW | {"verdict": "not moved"}), outlines=None)
    assert found.verdict == "undecided"
    assert "Not moved by this generator, so not tested: AreaShape_Area" in found.evidence


def test_what_is_needed_and_what_is_new_have_their_numbers():
    rows = [
        {"held": "AreaShape_Area", "needed": 0.8, "low": 0.6, "high": 0.9, "drift": 0.1, "drift_free": 1.0, "images": 20, "groups": 5},
        {"held": ALL, "needed": 0.9, "low": 0.7, "high": 1.0, "drift": None, "drift_free": None, "images": 20, "groups": 5},
        {"held": CONTROL, "needed": 0.0, "low": 0.0, "high": 0.1, "drift": None, "drift_free": None, "images": 20, "groups": 5},
    ]  # fmt: skip
    needed = Necessity(
        pa.Table.from_pylist(rows), Interval(0.9, 0.7, 1, 22, 5), 0.8, Interval(0.6, 0.5, 0.7, 20, 5), True
    )
    found = {one.id: one for one in phenotype_findings(doses(ROW), needed)}
    assert "80 % of the images" in found["needed-AreaShape_Area"].statement
    assert "tell 60 % of the score's movement" in found["phenotypes-known"].statement
    assert len(found) == 3


@pytest.mark.parametrize(
    ("verdict", "standing", "said"),
    [
        ("shared", "supported", "runs along that of plate plate 2. Both change Background_MeanIntensity"),
        ("apart", "refuted", "was not seen to run along"),
        ("not readable", "refuted", "leaves no trace"),
        ("not separable by association", "undecided", "not separable by association. Only edits of regions"),
    ],
)
def test_the_court_speaks_in_four_ways(verdict, standing, said):
    found = phenotype_findings(doses(ROW), judged=court_of(verdict), batch="plate")[-1]
    assert found.kind == "confounder"
    assert found.verdict == standing
    assert said in found.statement


def test_a_segmentation_that_outlines_something_else_is_told():
    found = phenotype_findings(doses(ROW), outlines=Interval(0.3, 0.2, 0.4, 10, 10))[-1]
    assert found.kind == "refused"
    assert "does not outline what the mask outlines" in found.statement


def test_of_a_model_at_chance_nothing_is_said_of_the_classes():
    first, second = phenotype_findings(doses(ROW), learnt=Interval(0.05, -0.1, 0.2, 180, 18))
    assert (first.kind, first.verdict) == ("refused", "undecided")
    assert "says something of the model and nothing of the classes" in first.statement
    assert second.verdict == "undecided"
    assert "nothing follows for its classes" in second.statement
    assert second.value == 1.4  # what the model does is still told
    (found,) = phenotype_findings(doses(ROW), learnt=Interval(0.5, 0.3, 0.7, 180, 18))
    assert found.verdict == "supported"
