"""The transaction: attach a snapshot, or run the body cold and commit what it loaded.

T1  A warm run has its root before the body starts; a root that can't be restored makes the run cold.
T2  An exception in the body commits nothing and passes through.
T3  Whatever prevents a commit, the program goes on with what it loaded, and one warning says why. Only a root that could
    never be stored is an error, since no later run would fare better.
T4  Nothing here decides whether a snapshot is sound or stale: mh_open does, from what a commit recorded.
"""

from __future__ import annotations

import os
import sys

from magicheap import _log
from magicheap._errors import MagicHeapError, MagicHeapWarning, RootError, StaleError, call
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Any, Literal, Self

    from magicheap._audit import AuditResult
    from magicheap._inputs import Recorder

    Path = str | os.PathLike[str]

_AUDITS = {"refuse": lib.MH_AUDIT_REFUSE, "warn": lib.MH_AUDIT_WARN}
_default_paths: set[str] = set()  # handed out in this process


def magic_transaction(
    path: Path | None = None,
    *,
    process: bool = True,
    audit: Literal["refuse", "warn"] = "refuse",
    capacity: int | None = None,
    env: Iterable[str] = (),
    inputs: Iterable[Path] = (),
    key: str = "",
    refresh: bool = False,
) -> MagicTransaction:
    """Return the context manager in which a program loads what later runs will map.

    path      the snapshot; None: one per script, in the user's cache directory
    process   True: snapshot the whole process. False: the C heap of the body, with `root` leading into it
    audit     what to do about pointers that leave the arena: "refuse" to commit, or commit and "warn"
    capacity  address space that the heap may grow into, in bytes; None: 256 GiB
    env       names of environment variables that make the snapshot stale, besides PYTHON*, LC_*, OMP_* and their like
    inputs    files that make it stale, besides those that the body opens and the modules it imports
    key       text that must be equal for a snapshot to be taken: name there what else the body depends on, such as
              sys.argv or the working directory
    refresh   True: run cold even if there is a snapshot, and replace it

    NotImplementedError: process=True. ValueError: an argument that makes no sense, or no path where there is no script.
    OSError, on entering: one of `inputs` is not there.
    """
    if process:
        raise NotImplementedError("process snapshots do not exist yet: pass process=False for a heap snapshot")
    if audit not in _AUDITS:
        raise ValueError(f"audit is {audit!r}, expected 'refuse' or 'warn'")
    if capacity is not None and capacity <= 0:
        raise ValueError(f"capacity is {capacity}, expected a number of bytes or None")
    if isinstance(env, str) or isinstance(inputs, str | bytes):
        raise ValueError("env and inputs take several names: pass a list")
    env = tuple(env)
    if path is None:
        path, key = _default_path(key)
    path = os.fsdecode(path)
    if any("\0" in text for text in (path, key, *env)):
        raise ValueError("path, key or a name in env contains a NUL character: expected text")
    options = {"audit": _AUDITS[audit], "capacity_bytes": capacity or 0, "ignore_snapshot": refresh}
    return MagicTransaction(path, options, _full_key(key), env, tuple(inputs))


def _default_path(key: str) -> tuple[str, str]:
    """Return the script's own snapshot and a key that ties it to the caller's line: another transaction may not take it."""
    from magicheap._paths import default_path

    path, caller = default_path(), sys._getframe(2)
    if path in _default_paths:
        raise ValueError("this script's own snapshot is taken already: pass each further transaction a path")
    _default_paths.add(path)
    return path, f"{caller.f_code.co_filename}:{caller.f_lineno} {key}"


def _full_key(key: str) -> str:
    """Join the user's key to what the interpreter is: another one would read the same files differently."""
    flags = f"-O{sys.flags.optimize} utf8={sys.flags.utf8_mode}"
    return f"{key} {sys.executable} {flags} {sys.implementation.name} {' '.join(sys.version.split())}".lstrip()


class MagicTransaction:
    """One transaction: made by magic_transaction, entered once by `with`.

    path           of the snapshot, absolute once entered
    was_committed  True in a warm run: `root` is what an earlier run stored
    root           what later runs get: cffi pointers into the arena, numpy arrays, or a picklable graph of them
    reason         why the run is cold; "" when warm
    committed      True once this run has committed
    audit          AuditResult of this run's commit, also when it was refused; None before
    """

    def __init__(self, path: str, options: dict[str, int], key: str, env: tuple[str, ...], inputs: tuple[Path, ...]) -> None:
        self.path = path
        self.was_committed = False
        self.root: Any = None
        self.reason = ""
        self.committed = False
        self.audit: AuditResult | None = None
        self._options, self._key, self._env, self._inputs = options, key, env, inputs
        self._tx = ffi.NULL
        self._recorder: Recorder | None = None
        self._is_entered = False

    def __repr__(self) -> str:
        state = "warm" if self.was_committed else "committed" if self.committed else "cold"
        return f"<magicheap.MagicTransaction {state} {self.path!r}>"

    def commit_progress(self) -> tuple[int, int]:
        """Return (bytes made durable so far, bytes in all) of the commit; for another thread, to show while it runs."""
        if self._tx == ffi.NULL:
            return 0, 0
        counts = ffi.new("uint64_t[2]")
        lib.mh_commit_progress(self._tx, counts, counts + 1)
        return counts[0], counts[1]

    def __enter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("a transaction is entered once: call magic_transaction again")
        self._is_entered = True
        if os.environ.get("MAGICHEAP_DISABLE") == "1":
            self.path, self.reason = os.path.abspath(self.path), "MAGICHEAP_DISABLE is set"
        else:
            self._open()
        if self.was_committed:
            _log.info("warm: %s", self.path)
        else:
            _log.info("cold: %s", self.reason)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._recorder:
            self._recorder.stop()
            lib.mh_end(self._tx)
            if kind is None:
                self._finish(self._recorder)
            else:
                lib.mh_abandon(self._tx)
                _log.info("nothing committed: the body raised %s", kind.__name__)

    # ---- entering ----

    def _open(self) -> None:
        self._open_native(**self._options)
        if self.was_committed:
            self._restore()
        if not self.was_committed:
            self._begin()

    def _open_native(self, **options: int) -> None:
        names = [ffi.new("char[]", os.fsencode(name)) for name in self._env]
        env = ffi.new("char *[]", [*names, ffi.NULL])
        key = ffi.new("char[]", self._key.encode())
        tx = ffi.new("mh_transaction **")
        call(lib.mh_open, tx, os.fsencode(self.path), ffi.new("mh_options *", {**options, "env": env, "key": key}))
        self._tx = ffi.gc(tx[0], lib.mh_close)  # not at the end of the `with`: another thread may ask for the progress
        self.path = os.fsdecode(ffi.string(lib.mh_path(self._tx)))
        self.was_committed = lib.mh_was_committed(self._tx)
        self.reason = _text(lib.mh_reason(self._tx))

    def _restore(self) -> None:
        from magicheap._root import restore_root

        try:
            self.root = restore_root(self._tx)
        except Exception as error:  # unpickling runs other people's code (T1)
            self._open_native(**{**self._options, "ignore_snapshot": True})
            self.reason = f"the root cannot be restored: {type(error).__name__}: {error}"

    def _begin(self) -> None:
        from magicheap._inputs import Recorder

        recorder = Recorder(self._inputs)
        try:
            call(lib.mh_begin, self._tx, path=self.path)
        except (MagicHeapError, OSError) as error:
            self._warn(f"the snapshot {self.path} will not be made: {error}")
            return
        self._recorder = recorder
        recorder.start()

    # ---- leaving ----

    def _finish(self, recorder: Recorder) -> None:
        if self.root is None:
            lib.mh_abandon(self._tx)
            self._warn(f"magic.root was not set: the snapshot {self.path} was not made, as later runs would get nothing")
            return
        try:
            self._commit(recorder)
        except RootError:
            raise  # T3
        except (MagicHeapError, OSError) as error:
            findings = self.audit.describe() if self.audit else ""
            self._warn(f"the snapshot {self.path} was not made: {error}{findings}")
        finally:
            if not self.committed:
                lib.mh_abandon(self._tx)

    def _commit(self, recorder: Recorder) -> None:
        from magicheap._audit import read_audit
        from magicheap._root import store_root

        store_root(self._tx, self.root)
        paths = recorder.paths()
        for path in paths:
            call(lib.mh_add_file, self._tx, os.fsencode(path), path=path)
            _log.debug("input: %s", path)
        if changed := recorder.changed(paths):
            raise StaleError(f"{changed} changed while it was being loaded: run again")
        try:
            call(lib.mh_commit, self._tx, path=self.path)
        finally:
            self.audit = read_audit(self._tx)
        self.committed = True
        _log.info("committed %s", self.path)
        if self.audit.n_findings:
            self._warn(f"the snapshot {self.path} holds pointers that later runs must not follow:{self.audit.describe()}")

    def _warn(self, message: str) -> None:
        import warnings

        level, frame = 1, sys._getframe()
        while frame.f_back and frame.f_globals.get("__name__") == __name__:  # to the program's own `with`
            level, frame = level + 1, frame.f_back
        warnings.warn(message, MagicHeapWarning, stacklevel=level)


def _text(chars: Any) -> str:
    text: str = ffi.string(chars).decode(errors="replace")
    return text
