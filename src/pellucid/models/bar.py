"""The progress bar of a way through a model: rows that passed, of those announced."""

from rich.progress import Progress, TaskID

__all__ = ["Bar"]


class Bar:
    """A bar that is shown once rows are announced; where it is not wanted, it does nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._progress = Progress(transient=True) if shown else None
        self._task: TaskID | None = None
        self._expected = 0

    def start(self) -> None:
        """Show it."""
        if self._progress is not None:
            self._progress.start()

    def stop(self) -> None:
        """Take it away."""
        if self._progress is not None:
            self._progress.stop()

    def expect(self, rows: int, description: str) -> None:
        """Announce that about `rows` more rows will pass."""
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task(description, total=0)
        self._expected += rows
        self._progress.update(self._task, total=self._expected, description=description)

    def advance(self, rows: int) -> None:
        """Note that `rows` rows passed."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, rows)
