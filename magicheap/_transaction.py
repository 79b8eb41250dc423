"""The transaction: the common part of both kinds, and the function that makes one.

T1  mh_open alone decides whether a snapshot is sound or stale, by the records of its commit.
T2  After an exception in the body nothing is committed; the exception passes through.
T3  If a commit fails, the program goes on with its load, and one warning says why, once a day (_warned.py). There is no
    warning if another run is making the snapshot.
"""

from __future__ import annotations

import os
import posix
from _thread import get_ident

from magicheap import _key, _log, _openings, _pauses, _questions, _watch
from magicheap._cpython import frame
from magicheap._errors import BusyError, MagicHeapError, StaleError, call, text_of
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
_default_paths: dict[str, str] = {}  # given out in this process, each with the line that got it
_loading: list[int] = []  # the threads whose transactions have begun, or are about to


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
    strict: bool = False,
    compare: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> MagicTransaction:
    """Return a context manager: its body loads, and later runs have the loaded state.

    path      the snapshot; None: one per script, in the user's cache directory. Without a script, as in a notebook, the
              run is cold
    process   True: snapshot the whole process; later runs begin after the `with`. They ask again all questions of the
              body and of the code before it. Standard input must be read after the `with`. False: snapshot the C heap
              of the body, with `root` leading into it; later runs map it
    audit     heap only: for pointers that leave the arena: "refuse" the commit, or commit and "warn"
    capacity  heap only: address space that the heap may grow into, in bytes; None: 256 GiB
    env       names of environment variables that make the snapshot stale, besides PYTHON*, LC_*, OMP_* and similar
              ones, and those that the body asks for
    inputs    files that make it stale, besides those that the body opens and the modules it imports
    key       text that must be equal in a run that takes the snapshot: for dependencies of the body that can't be asked
              again, such as the answer of a server
    refresh   True: run cold even if there is a snapshot, and replace it
    strict    process only: True: do not commit if a library or object may repeat its random numbers in every later run;
              False: warn
    compare   process only: True: a run in which Python reaches the `with` takes the snapshot only if its variables
              there, and its callers', equal those of the run that committed. False: they are not compared, nor are
              arguments that the program looked at before the `with`. That is for a program that sets all variables
              that may differ anew after the `with`, and uses none of them in the body
    progress  called during the commit, as progress(bytes done, bytes in all), some 20 times a second, from a thread of
              its own, and once at the end. For a process each byte counts twice, once written and once made durable;
              before all are written, the sum is an estimate

    ValueError: an invalid argument.
    OSError, on entering: one of `inputs` does not exist.
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
    place: list[str] = []
    with _pauses.pause():
        if path is None:
            path, *place = _default_path(is_repeatable=not process)
        elif not os.fspath(path):
            raise ValueError("path is empty, expected one, or None for the script's own")
        parts = [_key.interpreter(), _key.options(), ("key", [key]), ("place", place)]
    path = os.fsdecode(path)
    if any("\0" in text for text in (path, key, *env)):
        raise ValueError("path, key or a name in env contains a NUL character: expected text")
    with _pauses.pause():  # the key's parts are our own questions
        if process:
            from magicheap._process import ProcessTransaction

            return ProcessTransaction(
                path, {"ignore_snapshot": refresh}, parts, env, tuple(inputs), progress, strict, compare
            )
        from magicheap._heap import HeapTransaction

        options = {"audit": _AUDITS[audit], "capacity_bytes": capacity or 0, "ignore_snapshot": refresh}
        return HeapTransaction(path, options, parts, env, tuple(inputs), progress)


def _default_path(is_repeatable: bool) -> tuple[str, str]:
    """Return the script's own snapshot and the caller's line, to which it is tied: another line must not use it.

    is_repeatable: the same line may use it again, since a heap can be loaded more than once in a process.
    """
    from magicheap._paths import default_path

    caller = frame(2)
    # multiprocessing runs the script again under this name
    is_child = caller.f_globals.get("__name__") == "__mp_main__"
    path = default_path(caller.f_code.co_filename if is_child else None)
    line = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    if path and path in _default_paths and not (is_repeatable and _default_paths[path] == line):
        raise ValueError("this script's own snapshot is taken already: pass each further transaction a path")
    _default_paths[path] = line
    return path, line


class MagicTransaction:
    """One transaction: made by magic_transaction, entered once by `with`.

    path           of the snapshot, absolute once entered; "": there is no script to name it after
    was_committed  True in a warm run: for a heap from the start of the body; for a process after the body, which never
                   runs warm
    root           of a heap: the object that later runs get: pointers of cffi or ctypes into the arena, numpy arrays,
                   or a picklable graph of these. A second load in one process gets the content of the file, without
                   the program's changes to the first
    reason         why the run is cold; "" when warm
    committed      True once this run has committed
    audit          of a heap: AuditResult of this run's commit, also if it was refused; None before
    """

    def __init__(
        self,
        path: str,
        options: dict[str, Any],
        key: list[_key.Part],
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

        For another thread, which shows them during the commit of a heap. A thread of the program prevents the commit of
        a process: use `progress`.
        """
        if self._tx == ffi.NULL:
            return 0, 0
        counts = ffi.new("uint64_t[2]")
        lib.mh_commit_progress(self._tx, counts, counts + 1)
        return counts[0], counts[1]

    def __enter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("a transaction is entered once: call magic_transaction again")
        self._is_entered = _watch.is_entered = True
        with _pauses.pause():
            if posix.environ.get(b"MAGICHEAP_DISABLE") == b"1":
                self.path, self.reason = self.path and os.path.abspath(self.path), "MAGICHEAP_DISABLE is set"
            elif not self.path:
                self.reason = "there is no script to name the snapshot after: pass magic_transaction a path"
            else:
                self._open()
            if self._recorder is None and not _loading:
                _watch.stand_down()
        if self.was_committed:
            _log.info("warm: %s", self._file())
        else:
            _log.info("cold: %s", self.reason)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder:
            try:
                self._leave(self._recorder, kind)
            finally:
                _loading.remove(get_ident())

    def _leave(self, recorder: Recorder, kind: type[BaseException] | None) -> None:
        lib.mh_end(self._tx)
        recorder.stop()
        if kind is None:
            self._finish(recorder)
        else:
            lib.mh_abandon(self._tx)
            _log.info("nothing committed: the body raised %s", kind.__name__)

    # ---- different in each kind ----

    def _open(self) -> None:
        """Take the snapshot, or begin."""
        raise NotImplementedError

    def _finish(self, recorder: Recorder) -> None:
        """Commit, or warn and abandon."""
        raise NotImplementedError

    # ---- common to both ----

    def _open_native(self, **options: Any) -> None:
        names = [ffi.new("char[]", os.fsencode(name)) for name in self._env]
        env = ffi.new("char *[]", [*names, ffi.NULL])
        key = ffi.new("char[]", _key.join(self._key).encode(errors="surrogateescape"))
        tx = ffi.new("mh_transaction **")
        words = [ffi.new("char[]", os.fsencode(word)) for word in _key.arguments()]
        arguments = ffi.new("char *[]", [*words, ffi.NULL])
        library = ffi.new("char[]", os.fsencode(_questions.STANDARD_LIBRARY))
        own = {"env": env, "key": key, "arguments": arguments, "standard_library": library}
        call(lib.mh_open, tx, os.fsencode(self.path), ffi.new("mh_options *", {**options, **own}))
        # not closed at the end of the `with`: another thread may ask for the progress
        self._tx = ffi.gc(tx[0], lib.mh_close)
        self.path = os.fsdecode(ffi.string(lib.mh_path(self._tx)))
        self.was_committed = lib.mh_was_committed(self._tx)
        self.reason = _text(lib.mh_reason(self._tx))

    def _begin(self) -> None:
        from magicheap._inputs import Recorder

        recorder = Recorder(self._inputs)
        thread, others = get_ident(), set(_loading)
        _loading.append(thread)
        try:
            call(lib.mh_begin, self._tx, path=self.path)
        except (MagicHeapError, OSError) as error:
            _loading.remove(thread)
            from magicheap._paths import obstacle

            why = obstacle(self.path) or text_of(error)
            self.reason = f"{self.reason}; and none will be made: {why}"
            is_thread = isinstance(error, BusyError) and others.union(_loading) - {thread}
            if is_thread or getattr(error, "is_another_run", False):
                # the other run makes the snapshot, and waiting for it could deadlock
                _log.info("%s is not made by this run: %s", self.path, why)
            else:
                self._warn(f"the snapshot {self.path} will not be made: {why}")
            return
        self._recorder = recorder
        recorder.start()

    def _file(self) -> str:
        """Return the path of this transaction's variant."""
        number = lib.mh_variant(self._tx)
        return f"{self.path}.v{number}" if number else self.path

    def _keep_to_bound(self) -> None:
        """Keep the cache within its bound, after a commit to it."""
        from magicheap._paths import cache_directory

        file = self._file()
        if os.path.dirname(file) != os.path.realpath(cache_directory()):
            return
        try:
            from magicheap._cache import forget_old

            forget_old(file)
        except (MagicHeapError, OSError) as error:
            _log.info("the cache is left as it is: %s", error)

    def _is_worth_committing(self) -> bool:
        """Tell whether to commit, once all inputs are recorded; log why not."""
        wanted, err = ffi.new("bool *"), ffi.new("mh_error *")
        is_known = lib.mh_wants_commit(self._tx, wanted, err) == lib.MH_OK
        if is_known and not wanted[0] and not self._options["ignore_snapshot"]:
            _log.info("not committed: %s", _text(err.detail))
            return False
        return True

    def _commit_watched(self, commit: Callable[..., int], *arguments: Any) -> None:
        from magicheap._progress import Watch

        with Watch(self, self._progress) as watch:
            call(commit, self._tx, *arguments, path=self.path)
        if watch.error is not None:
            self._warn(
                f"the progress function of the commit of {self.path} raised {type(watch.error).__name__}: {watch.error}"
            )

    def _add_inputs(self, recorder: Recorder) -> None:
        paths = recorder.paths()
        for path in paths:
            call(lib.mh_add_file, self._tx, os.fsencode(path), path=path)
            _log.debug("input: %s", path)
        if changed := recorder.changed(paths):
            raise StaleError(f"{changed} changed while it was being loaded: run again")
        recorder.add_questions(self._tx)
        if notes := _questions.notes():
            _log.info(
                "the body asked questions that later runs can't ask again, so these have its answers: %s",
                "; ".join(notes),
            )

    def _warn(self, message: str) -> None:
        from magicheap._warned import warn

        before, path, behind = message.partition(self.path)
        warn(self.path, before + path + behind.replace(self.path, os.path.basename(self.path)))


def _text(chars: Any) -> str:
    text: str = ffi.string(chars).decode(errors="replace")
    return text
