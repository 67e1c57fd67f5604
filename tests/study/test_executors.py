import operator
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest

from pellucid.errors import BadStudy
from pellucid.study.executors import Inline, _places, completed, open_executor


def test_inline_raises_here_and_now():
    with pytest.raises(ZeroDivisionError):
        Inline().submit(operator.truediv, 1, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once_whoever_does_it(workers):
    with open_executor(workers=workers) as (executor, width):
        assert sorted(completed(executor, operator.neg, range(5), width=width)) == [-4, -3, -2, -1, 0]


def test_no_more_tasks_are_held_than_the_width():
    held, most = [], []

    class Counting(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            held.append(future)
            most.append(len(held))

            def finish():
                held.remove(future)
                future.set_result(fn(*args))

            threading.Timer(0.005, finish).start()
            return future

    assert len(list(completed(Counting(), operator.neg, range(20), width=lambda: 3))) == 20
    assert max(most) <= 3


def test_a_scheduler_without_dask_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadStudy, match="pip install"), open_executor(scheduler="tcp://127.0.0.1:1"):
        pass


def test_each_process_has_a_gpu_of_its_own_or_there_are_too_many(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert _places(3, "cpu") == [None] * 3
    assert _places(2, "cuda:0") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,GPU-abc")
    assert _places(2, "cuda") == ["5", "7"]
    with pytest.raises(BadStudy, match=r"--workers 4 on 3 GPU.*give --workers 3"):
        _places(4, "cuda")


LEADER = """
import os, sys, time
from pellucid.study.executors import open_executor

if __name__ == "__main__":
    with open_executor(workers=2) as (executor, _):
        print(*{executor.submit(os.getpid).result() for _ in range(2)}, flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_their_leader_is_killed():
    leader = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True)
    with leader.stdout:
        workers = [int(part) for part in leader.stdout.readline().split()]
        assert workers
        leader.kill()
        leader.wait()
        until = time.monotonic() + 20
        while any(alive(worker) for worker in workers) and time.monotonic() < until:
            time.sleep(0.1)
        assert not any(alive(worker) for worker in workers)


def alive(process):
    """Say whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
