"""Write the method and metric tables of the README and of ``docs/methods.md`` from the registries.

python docs/tables.py
"""

import re
from pathlib import Path

import pellucid

ROOT = Path(__file__).parent.parent
FAMILIES = {
    "gradient": "Gradients", "path": "Paths", "backpropagation": "Backward rules", "cam": "Class activation maps",
    "perturbation": "Perturbation", "attention": "Attention", "control": "Controls",
}  # fmt: skip


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([_row(*head), "|" + "---|" * len(head), *rows])


def _by_family(entries: dict[str, object]) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for name, about in sorted(entries.items()):
        families.setdefault(about.family, []).append(name)  # type: ignore[attr-defined]
    return families


def overview() -> str:
    """Return the README's two tables: names by family."""
    known = _by_family(pellucid.methods())
    order = [family for family in FAMILIES if family in known] + sorted(set(known) - set(FAMILIES))
    methods = [_row(FAMILIES.get(family, family), " ".join(f"`{name}`" for name in known[family])) for family in order]
    metrics = [_row(family.capitalize(), " ".join(f"`{name}`" for name in names))
               for family, names in _by_family(pellucid.metrics()).items()]  # fmt: skip
    return _table(("methods", ""), methods) + "\n\n" + _table(("metrics", ""), metrics)


def reference() -> str:
    """Return ``docs/methods.md``: every method and metric with its question, promise, source and known failure."""
    methods = [
        _row(f"`{name}`", about.question, ", ".join(about.needs) or "forwards only", about.sign, about.complete,
             about.cost, about.reference, about.warning)
        for name, about in sorted(pellucid.methods().items())
    ]  # fmt: skip
    metrics = [
        _row(f"`{name}`", about.family, about.direction, about.measures, about.cost, about.reference, about.failure)
        for name, about in sorted(pellucid.metrics().items())
    ]
    return "\n".join([
        "# Methods and metrics", "",
        "Made by `python docs/tables.py` from the registries; `pellucid methods --json` gives the same to machines.", "",
        "## Methods", "",
        _table(("method", "question", "needs", "sign", "adds up", "passes a row", "source", "known failure"), methods), "",
        "## Metrics", "",
        _table(("metric", "family", "better", "measures", "passes", "source", "known failure"), metrics), "",
    ])  # fmt: skip


def readme(text: str) -> str:
    """Return the README with its tables between the markers brought up to date."""
    return re.sub(
        r"(<!-- tables -->\n).*?(<!-- /tables -->)",
        lambda found: f"{found[1]}{overview()}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    (ROOT / "docs" / "methods.md").write_text(reference(), encoding="utf-8")
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
