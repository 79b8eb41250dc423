"""The transaction: what both kinds share, and the function that makes one.

T1  Nothing here decides whether a snapshot is sound or stale: mh_open does, from what a commit recorded.
T2  An exception in the body commits nothing and passes through.
T3  Whatever prevents a commit, the program goes on with what it loaded, and one warning says why, once a day (_warned.py). That another
    run makes the snapshot at this moment is nothing to warn of.
"""

from __future__ import annotations

import os
import sys

from magicheap import _log, _openings
from magicheap._errors import MagicHeapError, StaleError, call, text_of
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, Literal, Self

    from magicheap._audit import AuditResult
    from magicheap._inputs import Recorder

    Path = str | os.PathLike[str]

_openings.watch()
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
    progress: Callable[[int, int], object] | None = None,
) -> MagicTransaction:
    """Return the context manager in which a program loads what later runs will find loaded.

    path      the snapshot; None: one per script, in the user's cache directory
    process   True: snapshot the whole process; later runs begin behind the `with`. What stands before it is as it was in the run
              that committed, so read arguments, environment and standard input behind it. False: snapshot the C heap of the
              body, with `root` leading into it; later runs map it
    audit     heap only: what to do about pointers that leave the arena: "refuse" to commit, or commit and "warn"
    capacity  heap only: address space that the heap may grow into, in bytes; None: 256 GiB
    env       names of environment variables that make the snapshot stale, besides PYTHON*, LC_*, OMP_* and their like
    inputs    files that make it stale, besides those that the body opens and the modules it imports
    key       text that must be equal for a snapshot to be taken: name there what else the body depends on, such as
              sys.argv or the working directory
    refresh   True: run cold even if there is a snapshot, and replace it
    progress  called while the commit runs, as progress(bytes done, bytes in all), some 20 times a second, from a thread of its own, and
              once when all is done; of a process each byte counts twice, once written and once made durable, and before all are written
              the sum is an estimate

    ValueError: an argument that makes no sense, or no path where there is no script.
    OSError, on entering: one of `inputs` is not there.
    """
    if audit not in _AUDITS:
        raise ValueError(f"audit is {audit!r}, expected 'refuse' or 'warn'")
    if capacity is not None and capacity <= 0:
        raise ValueError(f"capacity is {capacity}, expected a number of bytes or None")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is {progress!r}, expected a function of two numbers, or None")
    if isinstance(env, str) or isinstance(inputs, str | bytes):
        raise ValueError("env and inputs take several names: pass a list")
    env = tuple(env)
    constants = sys._getframe(1).f_code.co_consts
    is_constant = (path is None or path in constants) and (not key or key in constants)  # written down where we are called
    if path is None:
        path, key = _default_path(key)
    path = os.fsdecode(path)
    if any("\0" in text for text in (path, key, *env)):
        raise ValueError("path, key or a name in env contains a NUL character: expected text")
    if process:
        from magicheap._process import ProcessTransaction

        return ProcessTransaction(path, {"ignore_snapshot": refresh}, _full_key(key), env, tuple(inputs), progress, is_constant)
    from magicheap._heap import HeapTransaction

    options = {"audit": _AUDITS[audit], "capacity_bytes": capacity or 0, "ignore_snapshot": refresh}
    return HeapTransaction(path, options, _full_key(key), env, tuple(inputs), progress)


def _default_path(key: str) -> tuple[str, str]:
    """Return the script's own snapshot and a key that ties it to the caller's line: another transaction may not take it."""
    from magicheap._paths import default_path

    caller = sys._getframe(2)
    is_child = caller.f_globals.get("__name__") == "__mp_main__"  # of multiprocessing, which runs the script anew under this name
    path = default_path(caller.f_code.co_filename if is_child else None)
    if path in _default_paths:
        raise ValueError("this script's own snapshot is taken already: pass each further transaction a path")
    _default_paths.add(path)
    return path, f"{caller.f_code.co_filename}:{caller.f_lineno} {key}"


def _full_key(key: str) -> str:
    """Join the user's key to what the interpreter is: another one would read the same files differently."""
    flags = f"-O{sys.flags.optimize} utf8={sys.flags.utf8_mode}"
    interpreter = f"{os.path.dirname(sys.executable)} {os.path.realpath(sys.executable)}"  # by whatever name: python, python3
    return f"{key} {interpreter} {flags} {sys.implementation.name} {' '.join(sys.version.split())}".lstrip()


class MagicTransaction:
    """One transaction: made by magic_transaction, entered once by `with`.

    path           of the snapshot, absolute once entered
    was_committed  True in a warm run: of a heap from the start of the body, of a process behind it, for its body never runs warm
    root           of a heap: what later runs get: cffi pointers into the arena, numpy arrays, or a picklable graph of them
    reason         why the run is cold; "" when warm
    committed      True once this run has committed
    audit          of a heap: AuditResult of this run's commit, also when it was refused; None before
    """

    def __init__(
        self,
        path: str,
        options: dict[str, Any],
        key: str,
        env: tuple[str, ...],
        inputs: tuple[Path, ...],
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self.path = path
        self.was_committed = False
        self.root: Any = None
        self.reason = ""
        self.committed = False
        self.audit: AuditResult | None = None
        self._options, self._key, self._env, self._inputs, self._progress = options, key, env, inputs, progress
        self._tx = ffi.NULL
        self._recorder: Recorder | None = None
        self._is_entered = False

    def __repr__(self) -> str:
        state = "warm" if self.was_committed else "committed" if self.committed else "cold"
        return f"<magicheap.MagicTransaction {state} {self.path!r}>"

    def commit_progress(self) -> tuple[int, int]:
        """Return (bytes done so far, bytes in all) of the commit, as `progress` gets them.

        For another thread, to show while it runs. The commit of a process needs one that began behind it, as `progress` has: a thread of
        the program's prevents it.
        """
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

    # ---- of each kind ----

    def _open(self) -> None:
        """Take the snapshot, or begin."""
        raise NotImplementedError

    def _finish(self, recorder: Recorder) -> None:
        """Commit, or warn and abandon."""
        raise NotImplementedError

    # ---- of both ----

    def _open_native(self, **options: Any) -> None:
        names = [ffi.new("char[]", os.fsencode(name)) for name in self._env]
        env = ffi.new("char *[]", [*names, ffi.NULL])
        key = ffi.new("char[]", self._key.encode(errors="surrogateescape"))
        tx = ffi.new("mh_transaction **")
        call(lib.mh_open, tx, os.fsencode(self.path), ffi.new("mh_options *", {**options, "env": env, "key": key}))
        self._tx = ffi.gc(tx[0], lib.mh_close)  # not at the end of the `with`: another thread may ask for the progress
        self.path = os.fsdecode(ffi.string(lib.mh_path(self._tx)))
        self.was_committed = lib.mh_was_committed(self._tx)
        self.reason = _text(lib.mh_reason(self._tx))

    def _begin(self) -> None:
        from magicheap._inputs import Recorder

        recorder = Recorder(self._inputs)
        try:
            call(lib.mh_begin, self._tx, path=self.path)
        except (MagicHeapError, OSError) as error:
            if getattr(error, "is_another_run", False):
                _log.info("%s is not made by this run: %s", self.path, error)
            else:
                self._warn(f"the snapshot {self.path} will not be made: {text_of(error)}")
            return
        self._recorder = recorder
        recorder.start()

    def _commit_watched(self, commit: Callable[..., int], *arguments: Any) -> None:
        from magicheap._progress import Watch

        with Watch(self, self._progress) as watch:
            call(commit, self._tx, *arguments, path=self.path)
        if watch.error is not None:
            self._warn(f"the function that was to show the progress of {self.path} raised {type(watch.error).__name__}: {watch.error}")

    def _add_inputs(self, recorder: Recorder) -> None:
        for path in recorder.outputs():
            call(lib.mh_add_output, self._tx, os.fsencode(path), path=path)
        paths = recorder.paths()
        for path in paths:
            call(lib.mh_add_file, self._tx, os.fsencode(path), path=path)
            _log.debug("input: %s", path)
        if changed := recorder.changed(paths):
            raise StaleError(f"{changed} changed while it was being loaded: run again")

    def _warn(self, message: str) -> None:
        from magicheap._warned import warn

        before, path, behind = message.partition(self.path)
        warn(self.path, before + path + behind.replace(self.path, os.path.basename(self.path)))


def _text(chars: Any) -> str:
    text: str = ffi.string(chars).decode(errors="replace")
    return text
