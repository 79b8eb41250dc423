"""The transaction of a process: exchange this process for its snapshot, or run the body cold and commit by fork.

P1  The exchange happens only when mh_open has found the snapshot sound and not stale, and nothing of this process would be lost that
    its user would miss (_surroundings.py). Whatever fails after it executes the program cold, with the reason in MAGICHEAP_COLD.
P2  Inside the body nothing is different from a cold run without us, except for the pools that _pools.py keeps small.
P3  What a resumed process writes to it copies page by page, so nothing is freed there that was made before: the collector leaves the
    objects of the image alone, and the transaction itself lives on.
P4  The child of the commit's fork is what later runs resume: they come out of os.fork() with 0, and end __exit__ as this run does.
"""

from __future__ import annotations

import gc
import os
import sys

from magicheap import _log
from magicheap._errors import MagicHeapError, call
from magicheap._native import ffi, lib
from magicheap._transaction import MagicTransaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from magicheap._inputs import Recorder

COLD_VARIABLE = "MAGICHEAP_COLD"  # the launcher's: why it could not resume
_OPTIONS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")  # of the interpreter
_active: ProcessTransaction | None = None  # whose body runs
_kept: list[ProcessTransaction] = []  # of a resumed process (P3)
_is_first = True  # no transaction of this program was entered yet


class ProcessTransaction(MagicTransaction):
    """A transaction that commits, or becomes, the whole process."""

    def __init__(self, path: str, options: dict[str, Any], key: str, env: tuple[str, ...], inputs: tuple[Any, ...], is_constant: bool) -> None:
        super().__init__(path, options, f"{key} {_call_stack()} {_interpreter_options()} {sys.path}", env, inputs)
        self._is_constant = is_constant

    # ---- entering ----

    def _open(self) -> None:
        global _is_first
        self._is_first, _is_first = _is_first, False
        from magicheap._surroundings import why_not

        reason = f"the body of another transaction, {_active.path}, is running" if _active else why_not()
        if reason:
            self.path, self.reason = os.path.abspath(self.path), reason
            return
        cold = os.environ.pop(COLD_VARIABLE, "")
        self._open_native(**self._native_options(ignore_snapshot=bool(cold) or self._options["ignore_snapshot"]))
        self.reason = cold or self.reason
        if lib.mh_is_resumable(self._tx):
            self._resume()
        self._begin()

    def _native_options(self, **more: Any) -> dict[str, Any]:
        self._environment = [ffi.new("char[]", entry) for entry in _initial_environment()]
        self._environ = ffi.new("char *[]", [*self._environment, ffi.NULL])
        self._program = ffi.new("char[]", os.fsencode(sys.executable))
        self._command = ffi.new("char[]", self._command_text())
        own = {"process": True, "environment": self._environ, "program": self._program, "command": self._command}
        return {**self._options, **own, **more}

    def _command_text(self) -> bytes:
        """Return the command line by which the launcher is to find the snapshot; b"": by none.

        The launcher evaluates no Python. So it can lead to a program's first transaction only, and serves any arguments only where
        path and key can't depend on them.
        """
        if not self._is_first:
            return b""
        skipped = _n_skipped(sys.orig_argv)
        kind, name = "script", getattr(sys.modules["__main__"], "__file__", None)
        if sys.orig_argv[skipped - 1] == "-m":
            kind, name = "module", sys.orig_argv[skipped]
        if name is None or skipped > (2 if kind == "module" else 1) or not os.access(_launcher(), os.X_OK):
            return b""
        words = [ffi.new("char[]", os.fsencode(word)) for word in sys.orig_argv[skipped + 1 :]]
        arguments = ffi.NULL if self._is_constant else ffi.new("char *[]", [*words, ffi.NULL])
        text = ffi.new("char[]", 128 << 10)
        try:
            call(lib.mh_command_text, text, len(text), os.fsencode(_launcher()), kind.encode(), os.fsencode(name), arguments)
        except (MagicHeapError, OSError, ValueError) as error:
            _log.info("%s will not find this snapshot: %s", _launcher(), error)
            return b""
        return ffi.string(text)

    def _resume(self) -> None:
        """Become the snapshot; return only if that fails."""
        _flush()
        words = [ffi.new("char[]", os.fsencode(word)) for word in sys.orig_argv]
        argv = ffi.new("char *[]", [*words, ffi.NULL])
        launcher = ffi.new("char[]", os.fsencode(_launcher()))
        try:
            call(lib.mh_resume, self._tx, launcher, argv, _n_skipped(sys.orig_argv), self._environ, path=_launcher())
        except (MagicHeapError, OSError) as error:
            self.reason = f"the snapshot can't be resumed: {error}"

    def _begin(self) -> None:
        global _active
        super()._begin()
        if self._recorder:
            _active = self

    # ---- leaving ----

    def __exit__(self, *raised: Any) -> None:
        global _active
        if _active is self:
            _active = None
        super().__exit__(*raised)

    def _finish(self, recorder: Recorder) -> None:
        try:
            self._commit(recorder)
        except (MagicHeapError, OSError) as error:
            self._warn(f"the snapshot {self.path} was not made: {error}")
        finally:
            if not self.committed and not self.was_committed:
                lib.mh_abandon(self._tx)

    def _commit(self, recorder: Recorder) -> None:
        self._add_inputs(recorder)
        recorder.forget()
        _flush()
        call(lib.mh_arm, self._tx)
        child = _fork_frozen()
        if child == 0:
            _kept.append(self)  # P3
            self._take_up()  # P4
            return
        call(lib.mh_commit_child, self._tx, child, path=self.path)
        self.committed = True
        _log.info("committed %s", self.path)
        if len(self._command) > 1:
            call(lib.mh_link_command, self._command, os.fsencode(self.path), path=self.path)

    def _take_up(self) -> None:
        """Go on in a resumed process."""
        resumed = ffi.new("mh_resumed *")
        lib.mh_read_resumed(resumed)
        sys.orig_argv[:] = [os.fsdecode(ffi.string(resumed.argv[i])) for i in range(resumed.argc)]
        arguments = sys.orig_argv[resumed.n_skipped :]
        if sys.orig_argv[resumed.n_skipped - 1] in ("-c", "-m"):
            arguments[0] = sys.argv[0] if sys.argv else ""  # Python puts "-c" there, or the module's path
        sys.argv[:] = arguments
        self.was_committed, self.reason = True, ""
        _log.info("warm: %s", self.path)


def _fork_frozen() -> int:
    """Fork with all objects where the collector does not look, as gc.freeze advises; this process, which goes on, takes them back."""
    n_before, child = gc.get_freeze_count(), -1
    gc.collect()
    gc.freeze()
    try:
        child = os.fork()
    finally:
        if child != 0 and n_before == 0:
            gc.unfreeze()
    return child


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _initial_environment() -> list[bytes]:
    """Return the environment that this process was started with, as NAME=VALUE."""
    resumed = ffi.new("mh_resumed *")
    if lib.mh_read_resumed(resumed):
        return [ffi.string(resumed.envp[i]) for i in range(resumed.envc)]
    with open("/proc/self/environ", "rb") as file:
        return file.read().rstrip(b"\0").split(b"\0")


def _launcher() -> str:
    """Return the path of the launcher that was installed beside this interpreter."""
    return os.path.join(os.path.dirname(sys.executable), "magic")


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
