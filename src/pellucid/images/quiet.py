"""Keep what format libraries say about a file out of logs and warnings: they quote patients' names and numbers."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

_ONE_AT_A_TIME = threading.RLock()


class _Silence(logging.Filter):
    """Drops what this thread logs; other threads read other files at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record may pass."""
        return record.thread != self.thread


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence warnings and these loggers; one reader at a time, since Python's warning filters belong to all threads."""
    silence = _Silence()
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in loggers:
            logging.getLogger(name).addFilter(silence)
        try:
            yield
        finally:
            for name in loggers:
                logging.getLogger(name).removeFilter(silence)
