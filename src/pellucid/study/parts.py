"""The loop over the parts of a study: those on disk stay, the others run wherever the executor puts them."""

import hashlib
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pellucid.study.executors import Inline, completed, open_executor
from pellucid.study.setup import Setup
from pellucid.study.task import Job

__all__ = ["run_parts", "shard_bar"]


def run_parts(
    setup: Setup,
    run: Callable[[Job], int],
    *,
    folder: str,
    told: str,
    progress: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
) -> None:
    """Run the tasks whose part is not in a folder of the study yet; what follows from them is forgotten first.

    Parameters
    ----------
    setup
        The study.
    run
        Runs one task and writes its part.
    folder
        Where the parts lie.
    told
        What is done, for the bar.
    progress, workers, scheduler
        As `run_study` takes them.
    """
    store, tasks = setup.store, setup.plan.tasks
    done = store.done(tasks, folder)
    left = [task for task in range(tasks) if task not in done]
    if left:
        store.forget("ranking.parquet", "means.parquet", "stability/nets.parquet", "findings.json", "report.html")
    stamp = hashlib.sha256(store.study_file.read_bytes()).hexdigest()
    with (
        shard_bar(progress=progress) as bar,
        open_executor(workers=min(workers, max(1, len(left))), scheduler=scheduler, device=setup.plan.device) as opened,
    ):
        shown = bar.add_task(told, total=tasks, completed=len(done))
        executor, width = opened
        here = setup if isinstance(executor, Inline) else None
        jobs = (Job(store.root.resolve(), task, stamp, setup.trust, here) for task in left)
        for _ in completed(executor, run, jobs, width=width):
            bar.advance(shown)


def shard_bar(*, progress: bool) -> Progress:
    """Return a bar that counts shards."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("shards"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, disable=not progress)
