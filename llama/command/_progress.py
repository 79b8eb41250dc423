"""A progress bar on standard error, for the run that loads; other runs do not import rich."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """The progress of a load; shown only if standard error is a terminal."""

    def __init__(self, path: str) -> None:
        self._name = os.path.basename(path)
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def loading(self, done_bytes: int, total_bytes: int) -> None:
        """Show the progress: the callback for load(progress=...)."""
        if self._is_shown:
            if self._progress is None or self._task is None:
                self._progress = _started_progress()
                self._task = self._progress.add_task(f"loading {self._name}")
            self._progress.update(self._task, completed=done_bytes, total=total_bytes)

    def close(self) -> None:
        """Clear the bar away, and end the thread that draws it."""
        if self._progress is not None:
            self._progress.stop()


def _started_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.start()
    return progress
