"""Where tasks run: here, in worker processes, or on a Dask cluster, behind one standard interface."""

import importlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from pellucid.errors import BadStudy

__all__ = ["Inline", "completed", "open_executor"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Inline(Executor):
    """Runs each task when it is submitted, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the task and return its finished future; an exception is raised here and now."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def open_executor(*, workers: int = 1, scheduler: str | None = None) -> Iterator[tuple[Executor, int]]:
    """Give an executor and how many tasks it should hold at once.

    Parameters
    ----------
    workers
        Processes on this machine; 1 runs everything here.
    scheduler
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``; its workers see the same file system.

    Raises
    ------
    BadStudy
        When Dask is not installed, the scheduler does not answer, or a worker process dies.
    """
    if scheduler is not None:
        with _dask(scheduler) as opened:
            yield opened
    elif workers > 1:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))  # we stop them
        try:
            yield pool, 2 * workers
        except BrokenProcessPool:
            raise BadStudy(
                "a worker process died, often for lack of memory; what was finished is kept: run again with fewer --workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    else:
        yield Inline(), 1


@contextmanager
def _dask(scheduler: str) -> Iterator[tuple[Executor, int]]:
    try:
        client_class = importlib.import_module("distributed").Client  # an extra
    except ImportError:
        raise BadStudy("--scheduler needs Dask: pip install 'pellucid[dask]'") from None
    try:
        client = client_class(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise BadStudy(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        yield client.get_executor(retries=2), 2 * max(1, len(client.scheduler_info()["workers"]))


def completed(
    executor: Executor, run: Callable[[Task], Result], tasks: Iterable[Task], *, width: int
) -> Iterator[Result]:
    """Yield results as they come, never holding more than `width` tasks: memory does not grow with their number."""
    waiting = iter(tasks)
    running = {executor.submit(run, task) for task in islice(waiting, width)}
    while running:
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()
        running |= {executor.submit(run, task) for task in islice(waiting, width - len(running))}
