import pyarrow as pa

from pellucid.evaluation.choices import EFFECTS
from pellucid.interpretation import find_choices


def row(factor, level, **more):
    return {
        "factor": factor, "level": level, "reference": "sum", "side": "faithfulness-side", "winner": "a",
        "winner_reference": "a", "changed": 0, "n": 10, "low": 0.0, "high": 0.0, "tau": 1.0, "moved": "a",
        "rank_reference": 1.0, "rank": 1.0, "share": 0.0,
    } | more  # fmt: skip


def found(*rows):
    return find_choices(pa.Table.from_pylist(list(rows), schema=EFFECTS))


def test_a_choice_without_effect_is_said_to_have_none():
    (finding,) = found(row("normalise", "map_max"), row("normalise", "data_p99"))
    assert finding.verdict == "refuted"
    assert finding.statement.startswith("How maps are normalised changes no place")


def test_the_level_that_changes_most_is_told_with_its_numbers_and_with_chance():
    (finding,) = found(
        row("pool", "mean"), row("pool", "max", winner="b", changed=4, tau=0.33, moved="a", rank=2.0, share=0.2),
        row("images", "another half of the images", changed=30, n=200, tau=0.9),
    )  # fmt: skip
    assert finding.verdict == "supported"
    assert "4/10" in finding.statement
    assert "a is first with sum, but b with max" in finding.statement
    assert all(part in finding.evidence for part in ("0.33", "place 1 to 2", "20.0 %", "30/200"))
    assert finding.value == 0.4


def test_a_consensus_that_does_not_win_is_refuted():
    first = row("consensus", "with the mean of all after rank", winner="consensus", changed=7)
    assert found(first)[0].verdict == "supported"
    assert found(first | {"winner": "a", "changed": 1})[0].verdict == "refuted"


def test_plausibility_is_told_apart():
    assert found(row("pool", "max", side="plausibility")) == []
