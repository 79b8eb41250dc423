"""Progress bars on standard error, for the run that loads and commits; a run that does neither never imports rich."""

import os
import sys


class Bars:
    """One bar for the load, one for the commit; neither where standard error is no terminal."""

    def __init__(self, path):
        self._name = os.path.basename(path)
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._bars = None

    def loading(self, done_bytes, total_bytes):
        """Show how far the load is: the callback that load(progress=...) wants."""
        if self._is_shown:
            if self._bars is None:
                self._bars = _started_bars()
                self._task = self._bars.add_task(f"loading {self._name}")
            self._bars.update(self._task, completed=done_bytes, total=total_bytes)

    def committing(self, count):
        """Show the commit that follows; count() returns (bytes done, bytes in all) from any thread."""
        if self._bars is not None:
            self._bars.watch("writing the snapshot", count)

    def close(self):
        """Clear the bars away."""
        if self._bars is not None:
            self._bars.stop()


def _started_bars():
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    class WatchingProgress(Progress):
        """Asks for one task's count whenever the bars are drawn, which rich does in a thread of its own."""

        _watched = None

        def watch(self, description, count):
            self._watched = self.add_task(description, total=None), count

        def get_renderables(self):
            if self._watched:
                task, count = self._watched
                done_bytes, total_bytes = count()
                self.update(task, completed=done_bytes, total=total_bytes or None)
            return super().get_renderables()

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    bars = WatchingProgress(*columns, console=Console(stderr=True), transient=True)
    bars.start()
    return bars
