"""Workers of a cluster run the code that the leader runs, or none of the study: other code means other numbers."""

from collections.abc import Callable
from typing import Any

from pellucid.errors import BadStudy

__all__ = ["code_question", "refuse_other_code"]


def code_question() -> Callable[[], str]:
    """Return a function that tells the hash of every module of pellucid where it is called.

    It holds all that it needs and travels by value, so that a worker of any version can answer.
    """

    def code() -> str:
        import hashlib  # noqa: PLC0415  # imported where it is called
        from importlib.util import find_spec  # noqa: PLC0415
        from pathlib import Path  # noqa: PLC0415

        found = find_spec("pellucid")
        if found is None or found.origin is None:
            return "none"
        home, told = Path(found.origin).parent, hashlib.sha256()
        for path in sorted(home.rglob("*.py")):
            told.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        return told.hexdigest()

    return code


def refuse_other_code(client: Any, known: set[str]) -> None:
    """Ask the workers that were not asked before which code they run; those that agree are added to `known`.

    Raises
    ------
    BadStudy
        When a worker runs another pellucid, or has none.
    """
    new = [address for address in client.scheduler_info(n_workers=-1)["workers"] if address not in known]
    if not new:
        return
    code = code_question()
    own, told = code(), client.run(code, workers=new, on_error="ignore")  # one that is gone by now has nothing to say
    other = sorted(address for address, answer in told.items() if answer != own)
    if other:
        has = "has no pellucid" if told[other[0]] == "none" else "runs another pellucid than this process"
        raise BadStudy(
            f"{len(other)} of {len(new)} Dask workers would give other numbers: {other[0]} {has}; install the same version on "
            "all, start the workers anew and run again; what was finished is kept"
        )
    known.update(told)
