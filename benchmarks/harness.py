"""The same work here and in a peer, in one process, turn by turn: ratios, never absolute promises."""

import argparse
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

__all__ = ["Contest", "Timing", "main", "run", "table", "where", "write"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Contest:
    """One piece of work, done by pellucid and by a peer at equal settings."""

    work: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    goal: float | None = None


@dataclass(frozen=True)
class Timing:
    """The least CPU seconds of each side over the turns."""

    contest: Contest
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """Our time over theirs: below one is faster."""
        return self.ours / self.theirs

    @property
    def verdict(self) -> str:
        """The goal, and whether it is met."""
        goal = self.contest.goal
        return "" if goal is None else f"≤ {goal:g} {'met' if self.ratio <= goal else 'MISSED'}"


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def run(contests: Iterable[Contest], *, turns: int = 5) -> list[Timing]:
    """Time every contest, ours and theirs in alternation, after one warm-up of each; print each as it ends."""
    console, timings = Console(width=160), []
    for contest in contests:
        contest.ours(), contest.theirs()
        pairs = [(_seconds(contest.ours), _seconds(contest.theirs)) for _ in range(turns)]
        ours, theirs = (min(column) for column in zip(*pairs, strict=True))
        timings.append(Timing(contest, ours, theirs))
        console.print(_row(timings[-1]))
    return timings


def _row(timing: Timing) -> str:
    contest = timing.contest
    cells = (
        contest.work,
        contest.peer,
        f"{timing.ours:.4f}",
        f"{timing.theirs:.4f}",
        f"{timing.ratio:.2f}",
        timing.verdict,
    )
    return "| " + " | ".join(cells) + " |"


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """Return a Markdown table of finished rows."""
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *rows])


def write(section: str, text: str) -> None:
    """Put `text` between the marks of a section of docs/benchmarks.md."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    document = DOCUMENT.read_text()
    if begin not in document:
        raise SystemExit(f"{DOCUMENT} has no section {section!r}")
    DOCUMENT.write_text(re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", document, flags=re.DOTALL))


def where() -> str:
    """Say what the numbers were taken with."""
    return f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, one thread"


def main(section: str, groups: Sequence[Callable[[], list[Contest]]], arguments: Sequence[str]) -> None:
    """Run groups of contests from the command line."""
    parser = argparse.ArgumentParser()
    names = [group.__name__ for group in groups]
    parser.add_argument("--only", nargs="*", choices=names, default=names, help="groups of contests")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers' own
    timings = [timing for group in groups if group.__name__ in given.only for timing in run(group(), turns=given.turns)]
    head = ("work", "peer", "ours, CPU s", "peer, CPU s", "ratio", "goal")
    if given.write:
        rows = table(head, map(_row, timings))
        write(section, f"`python benchmarks/{section}.py --write`: {where()}; least of {given.turns}.\n\n{rows}")
