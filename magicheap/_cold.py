"""Transactions that are always cold, for interpreters that can't load the compiled half, such as a subinterpreter with
a lock of its own.

The program runs as if it had no snapshot, and `reason` says why.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

reason = "the compiled half of magicheap can't be loaded"  # the importer replaces it


class MagicTransaction:
    """The interface of magicheap._transaction.MagicTransaction, always cold."""

    def __init__(self, path: str) -> None:
        self.path, self.reason = path, reason
        self.was_committed = self.committed = False
        self.root: Any = None
        self.audit = None
        self._is_entered = False

    def __repr__(self) -> str:
        return f"<magicheap.MagicTransaction cold {self.path!r}>"

    def commit_progress(self) -> tuple[int, int]:
        """Return (0, 0): nothing is committed."""
        return 0, 0

    def __enter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("a transaction is entered once: call magic_transaction again")
        self._is_entered = True
        return self

    def __exit__(self, *raised: Any) -> None:
        pass


def magic_transaction(path: str | os.PathLike[str] | None = None, **_options: Any) -> MagicTransaction:
    """Return a context manager that only runs its body."""
    return MagicTransaction("" if path is None else os.path.abspath(os.fsdecode(path)))
