"""A progress bar on standard error, for the run that loads."""

import os
import sys
from contextlib import contextmanager


@contextmanager
def progress_bar(path):
    """Yield a function for load(progress=...), or None where no one is looking."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(f"loading {os.path.basename(path)}", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
