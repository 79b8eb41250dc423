"""The transaction of a heap: attach a snapshot, or run the body cold and commit what it loaded.

H1  A warm run has its root before the body starts; a root that can't be restored makes the run cold.
H2  Only a root that could never be stored is an error, since no later run would fare better; all else is a warning.
"""

from __future__ import annotations

from magicheap import _log
from magicheap._errors import MagicHeapError, RootError, text_of
from magicheap._native import lib
from magicheap._transaction import MagicTransaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from magicheap._inputs import Recorder


class HeapTransaction(MagicTransaction):
    """A transaction whose allocations go to an arena, which is the snapshot."""

    def _open(self) -> None:
        self._open_native(**self._options)
        if self.was_committed:
            self._restore()
        if not self.was_committed:
            self._begin()

    def _restore(self) -> None:
        from magicheap._root import restore_root

        try:
            self.root = restore_root(self._tx)
        except Exception as error:  # unpickling runs other people's code (H1)
            self._open_native(**{**self._options, "ignore_snapshot": True})
            self.reason = f"the root cannot be restored: {type(error).__name__}: {error}"

    def _finish(self, recorder: Recorder) -> None:
        if self.root is None:
            lib.mh_abandon(self._tx)
            self._warn(f"magic.root was not set: the snapshot {self.path} was not made, as later runs would get nothing")
            return
        try:
            self._commit(recorder)
        except RootError:
            raise  # H2
        except (MagicHeapError, OSError) as error:
            findings = self.audit.describe() if self.audit else ""
            self._warn(f"the snapshot {self.path} was not made: {text_of(error)}{findings}")
        finally:
            if not self.committed:
                lib.mh_abandon(self._tx)

    def _commit(self, recorder: Recorder) -> None:
        from magicheap._audit import read_audit
        from magicheap._root import store_root

        store_root(self._tx, self.root)
        self._add_inputs(recorder)
        try:
            self._commit_watched(lib.mh_commit)
        finally:
            self.audit = read_audit(self._tx)
        self.committed = True
        _log.info("committed %s", self.path)
        if self.audit.n_findings:
            self._warn(f"the snapshot {self.path} holds pointers that later runs must not follow:{self.audit.describe()}")
