"""Study files: read with the line of every key, for errors that point at it, and written back the same way."""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import BadStudy

__all__ = ["TomlFile", "read_toml", "spelt_toml"]

_TABLE = re.compile(r"\s*\[\s*([A-Za-z0-9_.\"'\- ]+?)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-]+|\"[^\"]*\"|'[^']*')\s*=")
_BARE = re.compile(r"[A-Za-z0-9_\-]+")


@dataclass(frozen=True)
class TomlFile:
    """What a file says, and in which line.

    Attributes
    ----------
    path
        The file.
    text
        Its lines.
    values
        Its tables.
    """

    path: Path
    text: str
    values: Mapping[str, Any]

    def where(self, keys: Sequence[str | int]) -> str:
        """Return ``FILE:LINE`` of a key such as ``("explain", "methods", 2)``; of its table where the key is absent."""
        lines = _lines(self.text)
        names = tuple(key for key in keys if isinstance(key, str))
        while names and names not in lines:
            names = names[:-1]
        line = lines.get(names, 1)
        entry = self._entry(keys)
        if isinstance(entry, str):
            line = next((number for number, row in enumerate(self.text.splitlines()[line - 1 :], start=line)
                         if entry in row), line)  # fmt: skip
        return f"{self.path}:{line}"

    def _entry(self, keys: Sequence[str | int]) -> Any:
        """Return the entry of a list that the keys lead to; a list may run over many lines."""
        if not any(isinstance(key, int) for key in keys):
            return None
        value: Any = self.values
        for key in keys:
            inside = isinstance(value, list) if isinstance(key, int) else isinstance(value, Mapping) and key in value
            if not inside:
                break
            value = value[key]
        return value


def read_toml(path: Path) -> TomlFile:
    """Read a file.

    Raises
    ------
    BadStudy
        When it is missing, is no text or no TOML; the sentence names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return TomlFile(path, text, tomllib.loads(text))
    except FileNotFoundError:
        raise BadStudy(f"there is no study file {path}") from None
    except IsADirectoryError:
        raise BadStudy(f"{path} is a folder; give the study file in it, such as {path / 'study.toml'}") from None
    except UnicodeDecodeError:
        raise BadStudy(f"{path} is no UTF-8 text, so it is no study file") from None
    except tomllib.TOMLDecodeError as error:
        said = re.sub(r"\s*\(at .*\)$", "", str(error))
        found = re.search(r"at line (\d+)", str(error))
        line = found[1] if found else str(len(text.splitlines()))
        raise BadStudy(f"{path}:{line}: this is no TOML; {said[:1].lower()}{said[1:]}") from None


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of every table and key that stands at the start of a line."""
    table: tuple[str, ...] = ()
    lines: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = tuple(part.strip(" \"'") for part in header[1].split("."))
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, key[1].strip("\"'")), number)
    return lines


def spelt_toml(values: Mapping[str, Any]) -> str:
    """Return tables as TOML text; keys whose value is None are left out.

    Plain values of a table come before its sub-tables, so that the text parses back to equal values.
    """
    return "\n".join(_table(values, ())) + "\n"


def _table(values: Mapping[str, Any], name: tuple[str, ...]) -> list[str]:
    lines = [f"[{'.'.join(map(_key, name))}]"] if name else []
    lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items()
              if value is not None and not isinstance(value, Mapping)]  # fmt: skip
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", *_table(value, (*name, key))]
    return lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    """Spell a JSON string: a TOML basic string but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {"inf": "inf", "-inf": "-inf"}.get(repr(value), "nan")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        parts = [_value(item) for item in value]
        if sum(map(len, parts)) < 100:
            return f"[{', '.join(parts)}]"
        return "[\n" + "".join(f"  {part},\n" for part in parts) + "]"
    raise TypeError(f"TOML has no value like {value!r}")
