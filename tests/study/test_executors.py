import operator
import sys
import threading
from concurrent.futures import Executor, Future

import pytest

from pellucid.errors import BadStudy
from pellucid.study.executors import Inline, completed, open_executor


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
