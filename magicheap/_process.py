"""The transaction of a process: exchange this process for its snapshot, or run the body cold and commit by fork.

P1  The exchange happens only when mh_open has found the snapshot sound and not stale, and nothing of this process would be lost that
    its user would miss (_surroundings.py). Whatever fails after it executes the program cold, with the reason in MAGICHEAP_COLD.
P2  Inside the body nothing is different from a cold run without us, except for the pools that _pools.py keeps small.
P3  What a resumed process writes to it copies page by page, so nothing is freed there that was made before: the collector leaves the
    objects of the image alone (_exit.py), and the transaction itself lives on.
P4  The child of the commit's fork is what later runs resume: they come out of os.fork() with 0, and end __exit__ as this run does.
    The child itself only rehearses that (native/process/rehearsal.c), and ends before anything of the program's could run.
"""

from __future__ import annotations

import os
import sys

from magicheap import _log
from magicheap._errors import MagicHeapError, call
from magicheap._native import ffi, lib
from magicheap._paths import launcher_path
from magicheap._transaction import MagicTransaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from magicheap._inputs import Recorder
    from magicheap._resumed import Kept, Resumed

COLD_VARIABLE = "MAGICHEAP_COLD"  # the launcher's: why it could not resume
_OPTIONS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")  # of the interpreter
_active: ProcessTransaction | None = None  # whose body runs
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_kept: list[tuple[ProcessTransaction, Kept]] = []  # of a resumed process (P3)
_is_first = True  # no transaction of this program was entered yet


class ProcessTransaction(MagicTransaction):
    """A transaction that commits, or becomes, the whole process."""

    def __init__(self, path: str, options: dict[str, Any], key: str, env: tuple[str, ...], inputs: tuple[Any, ...], is_constant: bool) -> None:
        super().__init__(path, options, f"{key} {_call_stack()} {_interpreter_options()} {sys.path}", env, inputs)
        self._is_constant, self._is_relative = is_constant, not os.path.isabs(path)

    # ---- entering ----

    def _open(self) -> None:
        global _is_first
        self._is_first, _is_first = _is_first, False
        from magicheap._surroundings import why_not

        self._resumed = ffi.new("mh_resumed *")
        is_resumed = lib.mh_read_resumed(self._resumed)
        reason = f"the body of another transaction, {_active.path}, is running" if _active else why_not(is_resumed)
        if reason:
            self.path, self.reason = os.path.abspath(self.path), reason
            return
        cold = os.environ.pop(COLD_VARIABLE, "")
        self._open_native(**self._native_options(ignore_snapshot=bool(cold) or self._options["ignore_snapshot"]))
        self.reason = cold or self.reason
        if lib.mh_is_resumable(self._tx):
            self._resume()
        for entry in self._environment:
            ffi.buffer(entry)[:] = bytes(len(entry))  # mh_scrub would find no other copy either
        self._begin()

    def _native_options(self, **more: Any) -> dict[str, Any]:
        self._initial = self._initial_environment()
        self._environment = [ffi.new("char[]", entry) for entry in self._initial]
        self._environ = ffi.new("char *[]", [*self._environment, ffi.NULL])
        self._program = ffi.new("char[]", os.fsencode(sys.executable))
        self._command = ffi.new("char[]", self._command_text())
        own = {"process": True, "environment": self._environ, "program": self._program, "command": self._command}
        return {**self._options, **own, **more}

    def _command_text(self) -> bytes:
        """Return the command line by which the launcher is to find the snapshot; b"": by none.

        The launcher evaluates no Python. So it can lead to a program's first transaction only, and serves any arguments only where
        path and key can't depend on them, and any working directory only where the path is absolute.
        """
        if not self._is_first:
            return b""
        skipped = _n_skipped(sys.orig_argv)
        kind, name = "script", getattr(sys.modules["__main__"], "__file__", None)
        if sys.orig_argv[skipped - 1] == "-m":
            kind, name = "installed" if sys.orig_argv[1] == "-P" else "module", sys.orig_argv[skipped]
        if name is None or skipped > {"script": 1, "module": 2, "installed": 3}[kind] or not os.access(launcher_path(), os.X_OK):
            return b""
        words = [ffi.new("char[]", os.fsencode(word)) for word in sys.orig_argv[skipped + 1 :]]
        arguments = ffi.NULL if self._is_constant else ffi.new("char *[]", [*words, ffi.NULL])
        text = ffi.new("char[]", 128 << 10)
        try:
            launcher, is_here = os.fsencode(launcher_path()), self._is_relative
            call(lib.mh_command_text, text, len(text), launcher, kind.encode(), os.fsencode(name), is_here, arguments)
        except (MagicHeapError, OSError, ValueError) as error:
            _log.info("%s will not find this snapshot: %s", launcher_path(), error)
            return b""
        return ffi.string(text)

    def _resume(self) -> None:
        """Become the snapshot; return only if that fails."""
        from magicheap._streams import flush

        flush()
        self._link()  # as when it was made; that cache may have been another, or emptied
        words = [ffi.new("char[]", os.fsencode(word)) for word in sys.orig_argv]
        argv = ffi.new("char *[]", [*words, ffi.NULL])
        launcher = ffi.new("char[]", os.fsencode(launcher_path()))
        try:
            call(lib.mh_resume, self._tx, launcher, argv, _n_skipped(sys.orig_argv), self._environ, path=launcher_path())
        except (MagicHeapError, OSError) as error:
            self.reason = f"the snapshot can't be resumed: {error}"

    def _initial_environment(self) -> list[bytes]:
        from magicheap._environment import read_initial

        return _strings_of(self._resumed)[1] if self._resumed.path else read_initial()

    def _link(self) -> None:
        """Let the launcher find the snapshot by the command line of this run. Without, it begins as a plain Python does."""
        if len(self._command) > 1:
            try:
                call(lib.mh_link_command, self._command, os.fsencode(self.path))
            except (MagicHeapError, OSError) as error:
                _log.info("%s will not find this snapshot: %s", launcher_path(), error)

    def _begin(self) -> None:
        global _active
        super()._begin()
        if self._recorder:
            from magicheap._pools import limited_pools
            from magicheap._resumed import ignored_signals

            self._ignored = ignored_signals()
            self._limits = limited_pools()
            self._limits.__enter__()
            _active = self

    # ---- leaving ----

    def __exit__(self, *raised: Any) -> None:
        global _active
        if _active is self:
            _active = None
            self._limits.__exit__(None, None, None)
        super().__exit__(*raised)

    def _finish(self, recorder: Recorder) -> None:
        try:
            self._commit(recorder)
        except Exception as error:  # of other people's code, too, that is told to prepare for the fork
            what = "" if isinstance(error, MagicHeapError | OSError) else f"{type(error).__name__}: "
            self._warn(f"the snapshot {self.path} was not made: {what}{error}")
        finally:
            if not self.committed and not self.was_committed:
                lib.mh_abandon(self._tx)

    def _commit(self, recorder: Recorder) -> None:
        from magicheap import _known_pools

        self._add_inputs(recorder)
        recorder.forget()
        began = _known_pools.settle()
        try:
            self._commit_settled()
        finally:  # in a resumed process, too
            _known_pools.begin_again(began)

    def _commit_settled(self) -> None:
        from magicheap import _known_pools, _resumed

        take_up = _resumed.take_up
        kept = _resumed.prepare(self._initial, self._ignored)
        try:
            for address, size_bytes in kept.areas:
                call(lib.mh_scrub, self._tx, ffi.cast("void *", address), size_bytes)
            call(lib.mh_arm, self._tx)
            lib.mh_rehearse(self._tx)
            for thread, library, n_switches in _known_pools.known_threads():
                call(lib.mh_know_thread, self._tx, thread, library.encode(), n_switches)
            if (child := os.fork()) == 0:
                _kept.append((self, kept))  # P3
                self._take_up(take_up, kept)  # P4
                return
            call(lib.mh_commit_child, self._tx, child, path=self.path)
        finally:
            if not self.was_committed:
                _resumed.go_on(kept)
        self.committed = True
        _log.info("committed %s", self.path)
        self._link()

    def _take_up(self, take_up: Callable[[Resumed, Kept], None], kept: Kept) -> None:
        """Go on in a resumed process; or, if it can't be made what it should be, execute the program cold.

        Each line here runs for the first time in its process, on pages that it must copy: so it is short, and imports nothing.
        """
        self.was_committed, self.reason = True, ""
        started = self._resumed
        is_rehearsal = not lib.mh_read_resumed(started)
        words, entries = _strings_of(started)
        try:
            arguments = [word.decode(_ENCODING, _ERRORS) for word in words]
            take_up((arguments, started.n_skipped, entries, started.ignored_signals), kept)
        except BaseException as error:
            if is_rehearsal:
                lib.mh_rehearsed()
            _execute_cold(words, entries, f"the process cannot be resumed: {type(error).__name__}: {error}")
        if is_rehearsal:
            lib.mh_rehearsed()
        _log.info("warm: %s", self.path)


def _strings_of(started: Any) -> tuple[list[bytes], list[bytes]]:
    """Return arguments and environment."""
    both, argc = ffi.unpack(started.strings, started.strings_bytes).split(b"\0"), started.argc
    return both[:argc], both[argc:-1]


def _execute_cold(words: list[bytes], entries: list[bytes], reason: str) -> NoReturn:
    variables = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    variables[COLD_VARIABLE.encode()] = os.fsencode(reason.replace("\0", "?"))
    try:
        os.execve(sys.executable, words, variables)
    finally:  # nothing else may run here
        os.write(2, os.fsencode(f"magicheap: {reason}, and {sys.executable} can't be executed\n"))
        os._exit(127)


def _n_skipped(words: list[str]) -> int:
    """Return how many words of a Python command line come before those that become sys.argv."""
    i = 1
    while i < len(words) and words[i].startswith("-") and words[i] != "-":
        word, i = words[i], i + 1
        if word in ("-c", "-m"):
            return i
        if word in _OPTIONS_WITH_VALUE:
            i += 1
    return i


def _interpreter_options() -> str:
    """Return what the interpreter was told, on its command line or by variables: it acts on most of it only as it starts."""
    return f"{sys.flags} -W{sys.warnoptions} -X{sys._xoptions}"


def _call_stack() -> str:
    """Return where in the program the transaction is: a snapshot resumes all callers of its `with`, so they must be the same."""
    frame: FrameType | None = sys._getframe()
    while frame and str(frame.f_globals.get("__name__")).startswith("magicheap."):
        frame = frame.f_back
    places = []
    while frame:
        places.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}:{frame.f_lasti}")
        frame = frame.f_back
    return " < ".join(places)
