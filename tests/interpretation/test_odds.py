"""Odds in words: factors are those of the logarithm, both ways say the same, and what is beyond reading is capped."""

import math

import pytest

from pellucid.interpretation.odds import fold, likelier, pair


@pytest.mark.parametrize("factor", [1.5, 2.0, 7.4, 150.0])
def test_a_rise_and_a_fall_by_a_factor_are_said_alike(factor):
    assert likelier(math.log(factor)) == f"{factor:g} times likelier"
    assert likelier(-math.log(factor)) == f"{factor:g} times less likely"
    assert fold(math.log(factor)) == f"{factor:g}-fold"
    assert fold(-math.log(factor)) == f"{1 / factor:.2g}-fold"


def test_bounds_are_ordered_and_name_both_sides_where_they_hold_no_change():
    assert likelier(-1.0, -2.0, -0.5).endswith("(1.6 to 7.4)")
    assert likelier(1.0, -0.5, 2.0) == "2.7 times likelier (from 1.6 times less likely to 7.4 times likelier)"


def test_what_no_reader_can_weigh_is_capped():
    assert likelier(0.001) == "as likely as before"
    assert likelier(400.0, 300.0, 500.0) == "over 1000 times likelier"
    assert fold(-400.0) == "1.9e-22-fold"


def test_a_change_and_its_null_are_told_in_one_unit():
    assert pair(0.7, 0.0, 2.0) == ("2 times likelier", "as likely as before")
    assert pair(40.0, -1.0, 20.0) == (
        "likelier by 2 standard deviations of the call",
        "less likely by 0.05 standard deviations of the call",
    )
    assert pair(40.0, -1.0, None) == ("over 1000 times likelier", "2.7 times less likely")
