"""Where tasks run: here, in worker processes, or on a Dask cluster, behind one standard interface."""

import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import torch

from pellucid.errors import BadStudy
from pellucid.study.handshake import refuse_other_code

__all__ = ["Inline", "begin_worker", "completed", "open_executor"]

_RETRIES = 2
"""Times that Dask gives a task to another worker when one dies."""

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
def open_executor(
    *, workers: int = 1, scheduler: str | None = None, device: str = "cpu"
) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """Give an executor, and how many tasks it should hold at once, asked anew whenever one ends.

    Parameters
    ----------
    workers
        Processes on this machine; 1 runs everything here.
    scheduler
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, or the file that it wrote, ``"scheduler.json"``; its
        workers see the same file system.
    device
        Where the model runs; with ``"cuda"`` each process has a GPU of its own.

    Raises
    ------
    BadStudy
        When Dask is not installed, the scheduler does not answer, a worker runs other code, there are more processes than GPUs, or a worker process
        dies, which on Dask it may do twice.
    """
    if scheduler is not None:
        with _dask(scheduler, device) as opened:
            yield opened
    elif workers > 1:
        with _pool(workers, device) as opened:
            yield opened
    else:
        yield Inline(), lambda: 1


@contextmanager
def _pool(workers: int, device: str) -> Iterator[tuple[Executor, Callable[[], int]]]:
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for place in _places(workers, device):
        places.put(place)
    pool = ProcessPoolExecutor(workers, context, begin_worker, (os.getpid(), places))
    try:
        yield pool, lambda: 2 * workers
    except BrokenProcessPool:
        raise BadStudy(
            "a worker process died, often for lack of memory; what was finished is kept: run again with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _places(workers: int, device: str) -> list[str | None]:
    """Return the GPU of each process, None where there is none to share out."""
    if not device.startswith("cuda"):
        return [None] * workers
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    if workers > len(found):
        raise BadStudy(
            f"--workers {workers} on {len(found)} GPU: each process needs one of its own; give --workers {len(found)}"
        )
    return [*found[:workers]]


def begin_worker(leader: int, places: Any) -> None:
    """Begin a worker process: it leaves Ctrl-C to its leader, ends when the leader is gone, and sees one GPU."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = places.get()
    if place is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()


def _end_with(leader: int) -> None:
    """End this process when its leader is gone: a killed leader cannot say so, and the pool would wait for ever."""
    while os.getppid() == leader:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def _dask(scheduler: str, device: str) -> Iterator[tuple[Executor, Callable[[], int]]]:
    try:
        distributed = importlib.import_module("distributed")  # an extra
    except ImportError:
        raise BadStudy("--scheduler needs Dask: pip install 'pellucid[dask]'") from None
    where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    try:
        client = distributed.Client(**where, timeout=10)
    except (OSError, ValueError) as error:
        raise BadStudy(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        known: set[str] = set()
        refuse_other_code(client, known)

        def width() -> int:
            """Return how many tasks to hold; workers that came since are asked for their code before they are counted."""
            refuse_other_code(client, known)
            return 2 * max(1, len(_workers(client)))

        gpus = device.startswith("cuda") and any("GPU" in worker["resources"] for worker in _workers(client))
        executor = client.get_executor(retries=_RETRIES, pure=False, **({"resources": {"GPU": 1}} if gpus else {}))
        try:
            yield executor, width
        except distributed.KilledWorker as error:
            raise BadStudy(
                f"one task ended {_RETRIES + 1} Dask workers or more, often for lack of memory; what was finished is kept: give the "
                f"workers more memory and run again ({error})"
            ) from None


def _workers(client: Any) -> list[dict[str, Any]]:
    """Return what the scheduler knows of its workers now: they may come and go."""
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def completed(
    executor: Executor, run: Callable[[Task], Result], tasks: Iterable[Task], *, width: Callable[[], int]
) -> Iterator[Result]:
    """Yield results as they come, never holding more than `width()` tasks: memory does not grow with their number."""
    waiting = iter(tasks)
    running = {executor.submit(run, task) for task in islice(waiting, width())}
    while running:
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()
        running |= {executor.submit(run, task) for task in islice(waiting, max(0, width() - len(running)))}
