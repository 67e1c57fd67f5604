"""The same work here and in a peer, in one process, turn by turn: ratios, never absolute promises."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

__all__ = ["Contest", "Timing", "report", "run"]


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


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def run(contests: Sequence[Contest], *, turns: int = 5) -> list[Timing]:
    """Time every contest, ours and theirs in alternation, after one warm-up of each."""
    timings = []
    for contest in contests:
        contest.ours(), contest.theirs()
        pairs = [(_seconds(contest.ours), _seconds(contest.theirs)) for _ in range(turns)]
        ours, theirs = (min(column) for column in zip(*pairs, strict=True))
        timings.append(Timing(contest, ours, theirs))
    return timings


def report(timings: Sequence[Timing], title: str) -> None:
    """Print the ratio table and the process's peak memory."""
    table = Table("work", "peer", "ours, CPU s", "peer, CPU s", "ratio", "goal", title=title)
    for timing in timings:
        goal = timing.contest.goal
        met = "" if goal is None else f"≤ {goal:g} {'met' if timing.ratio <= goal else 'MISSED'}"
        table.add_row(timing.contest.work, timing.contest.peer, f"{timing.ours:.4f}", f"{timing.theirs:.4f}",
                      f"{timing.ratio:.2f}", met)  # fmt: skip
    console = Console(width=120)
    console.print(table)
    console.print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")
