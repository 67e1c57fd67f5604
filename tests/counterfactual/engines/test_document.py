"""The page on generators shows what the registries hold."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_tables_of_the_page_are_those_of_the_registries():
    spec = importlib.util.spec_from_file_location("generators", ROOT / "docs" / "generators.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "generators.md").read_text(encoding="utf-8")
    assert module.page(text) == text, "run python docs/generators.py"
    for name in ("natural_counterfactuals", *module.GENERATORS, *module.SEARCHES):
        assert f"`{name}" in text
