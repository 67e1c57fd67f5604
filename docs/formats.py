"""Write the table of ``docs/formats.md`` from the readers that are there.

python docs/formats.py
"""

from pathlib import Path

from pellucid.images.registry import readers

PAGE = Path(__file__).parent / "formats.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def table() -> str:
    """Return one row a format: its file names, what is read, what is refused, and what to install."""
    rows = ["| format | files | read | refused | needs |", "|---|---|---|---|---|"]
    for reader in readers():
        files = " ".join(f"`{suffix}{'/' if reader.folders else ''}`" for suffix in reader.suffixes)
        extra = f"`pellucid[{reader.extra}]`" if reader.extra else ""
        rows.append(f"| {reader.name} | {files} | {reader.reads} | {reader.refuses} | {extra} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the page with its table as the readers have it."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
