"""Reports the progress of a commit to a function of the program, from a thread that lives only during the commit.

A process is committed by fork, which a thread of the program would not survive. This thread starts after the fork, in
the parent.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from magicheap._transaction import MagicTransaction

INTERVAL_S = 0.05  # 20 times a second, which looks smooth; arbitrary


class Watch:
    """Calls `progress` with the counts of commit_progress at intervals, and once with the total if the block ends
    without an exception."""

    def __init__(self, transaction: MagicTransaction, progress: Callable[[int, int], object] | None) -> None:
        self._transaction, self._progress = transaction, progress
        self.error: Exception | None = None  # raised by `progress`, which is not called again

    def __enter__(self) -> Watch:
        if self._progress is not None:
            from threading import Event, Thread

            self._is_over = Event()
            self._thread = Thread(target=self._run, name="magicheap-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._is_over.set()
            self._thread.join()
            if kind is None:
                self._tell()

    def _run(self) -> None:
        while self.error is None and not self._is_over.wait(INTERVAL_S):
            self._tell()

    def _tell(self) -> None:
        done, total = self._transaction.commit_progress()
        if self._progress is None or self.error is not None or total == 0:
            return
        try:
            self._progress(done, total)
        except Exception as error:
            self.error = error
