"""Write the tables of ``docs/generators.md`` from the registries of generators and searches.

python docs/generators.py
"""

import inspect
import re
from pathlib import Path

from pellucid.counterfactual import GENERATORS, SEARCHES
from pellucid.recipes import Recipe, Registry

PAGE = Path(__file__).parent / "generators.md"


def _source(recipe: type[Recipe]) -> str:
    """Return what stands under References."""
    _, found, after = inspect.getdoc(recipe).partition("References\n----------\n")  # type: ignore[union-attr]
    return " ".join(after.split()) if found else "–"


def _row(name: str, recipe: type[Recipe]) -> str:
    first = inspect.getdoc(recipe).splitlines()[0].rstrip(".").replace("``", "`")  # type: ignore[union-attr]
    settings = ", ".join(f"`{setting}`" for setting in recipe().settings)
    return f"| `{name}` | {first} | {settings} | {_source(recipe)} |"


def table(registry: Registry) -> str:  # type: ignore[type-arg]
    """Return one row a recipe of this library, in the order of its name."""
    own = sorted((name, recipe) for name, recipe in registry.items() if recipe.__module__.startswith("pellucid."))
    head = ["| name | what it is | settings | source |", "|---|---|---|---|"]
    return "\n".join([*head, *(_row(name, recipe) for name, recipe in own)])


def page(text: str) -> str:
    """Return the page with its tables brought up to date."""
    for name, registry in (("generators", GENERATORS), ("searches", SEARCHES)):
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        text = re.sub(
            f"{begin}.*{end}", lambda _, b=begin, e=end, r=registry: f"{b}\n{table(r)}\n{e}", text, flags=re.DOTALL
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
