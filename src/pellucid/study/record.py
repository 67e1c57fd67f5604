"""The record of a study: a hash of every file, of the images, the model and the code, under one hash that can be signed."""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import BadStudy
from pellucid.study.identity import versions
from pellucid.study.setup import Setup
from pellucid.study.store import Store

__all__ = ["Verified", "code_digest", "digest", "seal", "verify"]

RECORD = "record.json"

_VERSION = 1
_BLOCK = 1 << 20
_SHORTEST = 16
_APART = frozenset({RECORD, f"{RECORD}.sig", ".lock", "exports", "reviews"})
"""What is not part of the results: a signature by another program, exports, which can be made again, and reviews, which come later."""

_SOURCES = ("images", "slides")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def code_digest() -> str:
    """Return one hash of every module of the installed pellucid: a version number does not see a changed line."""
    home = Path(__file__).parents[1]
    return _total({path.relative_to(home).as_posix(): digest(path) for path in sorted(home.rglob("*.py"))})


def _total(hashes: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def seal(root: str | Path, *, key: str | Path | None = None) -> Path:
    """Write ``record.json`` of a study: what it holds now, what it was made from and with which code.

    Parameters
    ----------
    root
        The study's directory.
    key
        File whose content signs the record (HMAC-SHA-256); who has it can sign as well as check. None: no signature.

    Raises
    ------
    BadStudy
        When the directory holds no study, or the key is shorter than 16 bytes.
    """
    store, secret = Store(Path(root)), _secret(key)
    settings = store.settings()
    with store.locked():
        body = {
            "record": _VERSION,
            "model": settings["provenance"].get("model", ""),
            "versions": versions(),
            "begun_with": settings["provenance"]["versions"],
            "code": code_digest(),
            "files": _hashes(store.root, _results(store.root)),
            **_sources(store.root),
        }
        body["tree"] = _total(body)
        if secret is not None:
            body["signature"] = {"algorithm": "hmac-sha256", "value": _signed(secret, str(body["tree"]))}
        store.write_json(RECORD, body)
    return store.root / RECORD


@dataclass(frozen=True)
class Verified:
    """What a check of a record found.

    Attributes
    ----------
    problems
        A sentence for every file that was changed, is missing or was added, for changed images, and for a signature that does
        not fit; empty when all is as recorded.
    notes
        What differs without touching the results: another version of the code or of a library.
    files, images
        How many files of each were checked.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    files: int
    images: int


def verify(root: str | Path, *, key: str | Path | None = None) -> Verified:
    """Compute every hash of a record again.

    Parameters
    ----------
    root
        The study's directory.
    key
        The file that signed the record.

    Raises
    ------
    BadStudy
        When there is no record or it cannot be read.
    """
    store, secret = Store(Path(root)), _secret(key)
    told = store.json(RECORD)
    if told.get("record") != _VERSION:
        raise BadStudy(f"{store.root / RECORD} is no record that this pellucid reads")
    found, sources = _hashes(store.root, _results(store.root)), _sources(store.root)
    problems = [*_signature(told, secret), *_differences(told["files"], found, "")]
    for name in _SOURCES:
        problems += _source_differences(told.get(name, _NOTHING), sources.get(name, _NOTHING), name)
    files = sum(len(source["files"]) for source in sources.values())
    return Verified(tuple(problems), tuple(_notes(told)), len(found), files)


def _source_differences(told: Mapping[str, Any], found: Mapping[str, Any], name: str) -> list[str]:
    if told["files"] and not found["files"]:
        return [f"{name}: the folder {told['folder']} is not there; none of its files was checked"]
    return list(_differences(told["files"], found["files"], f"{name}: "))


def _signature(told: Mapping[str, Any], secret: bytes | None) -> Iterator[str]:
    body = {name: value for name, value in told.items() if name not in {"tree", "signature"}}
    if _total(body) != told["tree"]:
        yield "record.json: it was changed itself, its hash does not fit what it says"
    signature = told.get("signature")
    if signature is None and secret is not None:
        yield "record.json: it is not signed"
    if (
        signature is not None
        and secret is not None
        and not hmac.compare_digest(signature["value"], _signed(secret, told["tree"]))
    ):
        yield "record.json: the signature is not of this key and this content"


def _signed(secret: bytes, tree: str) -> str:
    return hmac.new(secret, tree.encode(), hashlib.sha256).hexdigest()


def _secret(key: str | Path | None) -> bytes | None:
    if key is None:
        return None
    try:
        secret = Path(key).read_bytes().strip()
    except OSError as error:
        raise BadStudy(f"the key {key} cannot be read: {error.strerror}") from None
    if secret.startswith(b"-----BEGIN"):
        raise BadStudy(
            f"{key} is a PEM key; records are signed with a shared secret: give a file of at least {_SHORTEST} random bytes"
        )
    if len(secret) < _SHORTEST:
        raise BadStudy(f"the key {key} has {len(secret)} bytes; give at least {_SHORTEST} random ones")
    return secret


def _differences(told: Mapping[str, str], found: Mapping[str, str], where: str) -> Iterator[str]:
    for name in sorted({*told, *found}):
        if name not in found:
            yield f"{where}{name}: missing"
        elif name not in told:
            yield f"{where}{name}: added after the record was made"
        elif told[name] != found[name]:
            yield f"{where}{name}: changed"


def _notes(told: Mapping[str, Any]) -> Iterator[str]:
    now = versions()
    for name, version in told["versions"].items():
        if now.get(name) != version:
            yield f"{name} was {version} and is {now.get(name)}"
    if told["code"] != code_digest():
        yield "the code of pellucid is another than when the record was made"


def _results(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        apart = path.relative_to(root).parts[0] in _APART or path.name.endswith(".partial")
        if path.is_file() and not apart:
            yield path


def _hashes(root: Path, paths: Iterator[Path]) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): digest(path) for path in paths}


_NOTHING: Mapping[str, Any] = {"folder": "", "files": {}}


def _sources(root: Path) -> dict[str, Any]:
    """Return the hashes of the files that images and slides were read from; of phantoms the study file says all."""
    config = Setup.open(root).config
    homes = {"images": config.images.path, "slides": None if config.slide is None else config.slide.path}
    return {name: _source(home, root) for name, home in homes.items() if name == "images" or home is not None}


def _source(home: Path | None, root: Path) -> dict[str, Any]:
    if home is None or home.is_relative_to(root.resolve()):  # then they are among the study's own files
        return dict(_NOTHING)
    if home.is_file():
        return {"folder": home.name, "files": {home.name: digest(home)}}
    paths = (path for path in sorted(home.rglob("*")) if path.is_file())
    return {"folder": home.name, "files": _hashes(home, paths)}
