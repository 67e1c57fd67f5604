"""Results that are kept as soon as they are made, so that a benchmark that was stopped goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["kept"]


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is in a JSON file, made first where it is not there yet; the file is whole or not there."""
    if not path.is_file():
        begun = path.with_suffix(".part")
        begun.write_text(json.dumps(make(), indent=1, ensure_ascii=False))
        begun.replace(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found
