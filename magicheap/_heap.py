"""The transaction of a heap: attach a snapshot, or run the body cold and commit what it loaded.

H1  A warm run has its root before the body starts; a root that can't be restored makes the run cold.
H2  A root that no later run could restore causes a warning, as every obstacle to a commit does: the program has loaded,
    and goes on with the root (T3).
H3  Where the snapshot is good, and only this process can't attach it a second time, the body runs and nothing is
    committed: the result would be the same.
"""

from __future__ import annotations

import os
import sys

from magicheap import _log, _questions, _watch
from magicheap._cpython import obstacle
from magicheap._errors import BusyError, MagicHeapError, text_of
from magicheap._native import lib
from magicheap._transaction import MagicTransaction, _loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from magicheap._inputs import Recorder
    from magicheap._pointers import Variable


class HeapTransaction(MagicTransaction):
    """A transaction whose allocations go to an arena, which is the snapshot."""

    _ready: frozenset[Variable] = frozenset()

    def _open(self) -> None:
        if "t" in sys.abiflags:
            self.path, self.reason = (
                os.path.abspath(self.path),
                "this is a free-threaded Python, whose memory magicheap does not know",
            )
            return
        if not _loading:  # within another transaction's body, questions are recorded for that one
            _watch.stand_down()  # questions before the body do not belong to it
            _questions.forget()
        self._open_native(**self._options, is_movable=True)
        if self.was_committed and not self._restore():
            return
        if not self.was_committed:
            if unknown := obstacle(heap=True):
                self.reason = unknown
                return
            from magicheap._pointers import ready_ffis

            self._ready = ready_ffis()
            self._begin()

    def _restore(self) -> bool:
        """Set the root, or go cold; False: without a commit (H3)."""
        from magicheap._root import restore_root

        try:
            self.root = restore_root(self._tx)
        except BusyError as error:
            self.was_committed, self.reason = False, str(error)
            return False
        except Exception as error:  # unpickling runs foreign code (H1)
            self._open_native(**{**self._options, "ignore_snapshot": True})
            self.reason = f"the root cannot be restored: {type(error).__name__}: {error}"
        return True

    def _finish(self, recorder: Recorder) -> None:
        if self.root is None:
            lib.mh_abandon(self._tx)
            self._warn(
                f"magic.root was not set: the snapshot {self.path} was not made, as later runs would get nothing"
            )
            return
        try:
            self._commit(recorder)
        except (MagicHeapError, OSError) as error:
            findings = self.audit.describe() if self.audit else ""
            self._warn(f"the snapshot {self.path} was not made: {text_of(error)}{findings}")
        finally:
            if not self.committed:
                lib.mh_abandon(self._tx)

    def _commit(self, recorder: Recorder) -> None:
        from magicheap._audit import read_audit
        from magicheap._root import store_root

        self._add_inputs(recorder)
        if not self._is_worth_committing():
            return
        lent = store_root(self._tx, self.root, self._ready)
        try:
            self._commit_watched(lib.mh_commit)
        finally:
            self.audit = read_audit(self._tx)
        del lent  # the memory is in the file by now
        self.committed = True
        _log.info("committed %s", self._file())
        self._keep_to_bound()
        if self.audit.n_findings:
            self._warn(
                f"the snapshot {self.path} holds pointers that later runs must not follow:{self.audit.describe()}"
            )
