"""The published matrix of nets × methods is what running it gives."""

import importlib.util
import re
from pathlib import Path

import pytest

from pellucid.attribution import METHODS
from pellucid.testing.zoo import ZOO, small, verify

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"blur_ig", "extremal_perturbation", "expressive_gradients", "guided_ig"}
"""Methods of many passes: held against the page on some nets only."""
SAMPLED = {"resnet18", "vit", "image_and_vector", "regression"}


def _load():
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "docs" / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MATRIX = _load()
PAGE = (ROOT / "docs" / "nets.md").read_text(encoding="utf-8")
NOTES = dict(re.findall(r"^(\d+)\. (.*)$", PAGE.split("## What is refused")[1], re.MULTILINE))
TABLE = {
    cells[0].strip("`"): cells[1:]
    for cells in (line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `"))
}


def test_the_page_has_a_cell_for_every_net_and_every_method():
    assert list(TABLE) == [str(small(name)) for name in sorted(METHODS)], "run python docs/matrix.py"
    assert {len(row) for row in TABLE.values()} == {len(ZOO)}
    assert re.findall(r"^\d+\. `(\w+)`: ", PAGE, re.MULTILINE) == list(ZOO)


@pytest.mark.parametrize("net", list(ZOO))
def test_every_method_on_this_net_is_what_the_page_says(net):
    place = list(ZOO).index(net)
    for name in sorted(METHODS):
        if name in HEAVY and net not in SAMPLED:
            continue
        mark, note = re.fullmatch(r"(\S)(?:<sup>(\d+)</sup>)?", TABLE[str(small(name))][place]).groups()
        verdict = verify(ZOO[net], small(name))
        said = MATRIX.sentence(verdict) if verdict.sentence else None
        assert (MATRIX.SIGNS[verdict.mark], said) == (mark, NOTES.get(note)), f"{name}: run python docs/matrix.py"
