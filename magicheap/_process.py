"""The transaction of a process: exchange this process for its snapshot, or run the body cold and commit by fork.

P1  The exchange happens only if mh_open has found the snapshot sound and not stale, and if this process holds nothing
    that its user would miss (_surroundings.py). A failure after the exchange executes the program cold, with the reason
    in MAGICHEAP_COLD. A snapshot that is sound and fresh, and only could not be resumed here, is kept: to make it anew
    would cost each run the time of a commit.
P2  The body runs as in a plain run, except for the pools that _pools.py keeps from starting.
P3  The first write to a page of the image copies that page. So a resumed process frees no object of the image: the
    collector ignores them (_exit.py), and the transaction itself stays alive.
P4  Later runs resume the child of the commit's fork: os.fork() returns 0 there, and __exit__ ends as in this run. The
    child itself only rehearses that (native/process/rehearsal.c), and ends before any code of the program could run.
P5  Signals are blocked in a resumed process, from the launcher's first instruction until the resume is complete. An
    earlier handler would find the process incomplete, and Python drops pending signals as a fork returns.
"""

from __future__ import annotations

import os
import sys

from magicheap import (
    _asked_arguments,
    _brought,
    _callers,
    _go_cold,
    _kernel,
    _key,
    _log,
    _openings,
    _pauses,
    _prefix,
    _watch,
)
from magicheap._cpython import obstacle
from magicheap._errors import MagicHeapError, UnsupportedError, call, text_of
from magicheap._native import ffi, lib
from magicheap._paths import command_path, launcher_path
from magicheap._transaction import MagicTransaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from magicheap._files import Held
    from magicheap._inputs import Recorder
    from magicheap._known_pools import Again
    from magicheap._resumed import Kept

_active: ProcessTransaction | None = None  # the one whose body runs
_kept: list[tuple[ProcessTransaction, Callable[[], None]]] = []  # of a resumed process, and of what it lies on (P3)
_is_first = True  # no transaction of this program was entered yet


class ProcessTransaction(MagicTransaction):
    """A transaction that commits, or becomes, the whole process."""

    def __init__(
        self,
        path: str,
        options: dict[str, Any],
        key: list[_key.Part],
        env: tuple[str, ...],
        inputs: tuple[Any, ...],
        progress: Callable[[int, int], object] | None,
        is_strict: bool,
        compares: bool,
    ) -> None:
        self._unknown, stack = "", ""
        try:
            stack = _callers.call_stack()
        except ValueError as error:
            self._unknown = f"the code that calls it can't be told from other code: {error}"
        super().__init__(
            path, options, [_key.program(), *key[:-2], *_key.search_path(), *key[-2:]], env, inputs, progress
        )
        self._key[-1] = "place", [*self._key[-1][1], *stack.split(" < ")]
        self._is_relative, self._is_strict, self._compares = not os.path.isabs(path), is_strict, compares

    # ---- entering ----

    def _open(self) -> None:
        global _is_first
        self._is_first, _is_first = _is_first, False
        from magicheap._surroundings import why_not

        cold = _go_cold.taken()
        self._resumed = ffi.new("mh_resumed *")
        is_resumed = lib.mh_read_resumed(self._resumed)
        reason = (
            f"the body of another transaction, {_active.path}, is running"
            if _active
            else self._unknown or why_not(is_resumed)
        )
        if reason:
            self.path, self.reason = os.path.abspath(self.path), reason
            return
        self._is_again = cold.verdict == "left"
        if cold.verdict in ("busy", "twice"):
            self.path, self.reason = os.path.abspath(self.path), cold.reason
            if cold.verdict == "twice":
                self._warn(f"the snapshot {self.path} can't be used, nor could the one before: {cold.reason}")
            return
        if self._compares:
            self._key.insert(-1, ("brought", _brought.describe(_callers.caller(), self._is_first)))
        self._is_watched = self._is_first and _watch.is_from_start
        is_changed = _asked_arguments.has_changed()
        self._asked_before = _asked_arguments.is_asked() or is_changed, lib.mh_asked_place() or self._is_relative
        if not self._compares:
            _asked_arguments.forget()
        self._open_native(**self._native_options(ignore_snapshot=bool(cold.reason) or self._options["ignore_snapshot"]))
        self.reason, is_kept = cold.reason or self.reason, cold.is_kept
        self._is_left_alone = False  # True: the snapshot is good, but not for this run
        if lib.mh_is_resumable(self._tx):
            self._resume()
            if self._is_left_alone:
                return
            is_kept = True
        for entry in self._environment:
            ffi.buffer(entry)[:] = bytes(len(entry))  # mh_scrub does not find other copies
        if unknown := obstacle():
            self.reason = unknown
            return
        if is_kept and not self._options["ignore_snapshot"]:
            self._warn(f"the snapshot {self.path} is good and is kept, but could not be resumed: {self.reason}")
            return
        self._know()
        if self._is_first and not self._is_known and not (_watch.places and _prefix.is_alone(_watch.modules)):
            self._leave_to_the_next_run()
            return
        call(lib.mh_set_command, self._tx, self._command_text(), self._is_known)
        self._begin()

    def _leave_to_the_next_run(self) -> None:
        """Say that this run makes no snapshot: answers that libraries got before the program was watched would be in
        it, and their questions could not be asked again."""
        from magicheap._warned import mark_program

        will_be_watched = mark_program(getattr(sys.modules.get("magicheap_start"), "mark", ""))
        what_to_do = (
            "the next run is watched from its first instruction"
            if will_be_watched
            else f"start it by {command_path() or 'magic'}, or import magicheap in the script itself"
        )
        self.reason += f"; and none is made: the program ran unwatched code before it imported magicheap: {what_to_do}"

    def _know(self) -> None:
        """Find the questions of the program before it was watched."""
        is_watched_since = self._is_first and _watch.is_on and _watch.places is not None
        asked = (
            _prefix.asked(_watch.places or (), _watch.modules) if is_watched_since and not self._is_watched else None
        )
        self._is_known = self._is_watched or asked is not None
        if asked is not None:
            self._asked_before = self._asked_before[0] or asked.arguments, self._asked_before[1] or asked.place
            for name in asked.variables:
                call(lib.mh_add_env, self._tx, os.fsencode(name))
            if asked.arguments and self._compares:
                call(lib.mh_add_arguments, self._tx)
            if asked.place:
                call(lib.mh_add_place, self._tx)

    def _native_options(self, **more: Any) -> dict[str, Any]:
        self._initial = self._initial_environment()
        self._environment = [ffi.new("char[]", entry) for entry in self._initial]
        self._environ = ffi.new("char *[]", [*self._environment, ffi.NULL])
        self._program = ffi.new("char[]", os.fsencode(sys.executable))
        own = {"process": True, "environment": self._environ, "program": self._program, "is_watched": self._is_watched}
        return {**self._options, **own, **more}

    def _command_text(self) -> bytes:
        """Return the command line by which the launcher is to find the snapshot; b"": by none.

        The launcher evaluates no Python. So a link can lead only to a program's first transaction, and only if all
        questions before it are known: then path and key depend on nothing else. If the program had looked at its
        arguments, the link is for these arguments alone.
        """
        if not self._is_known:
            return b""
        skipped = _key.n_skipped(sys.orig_argv)
        kind, name = "script", getattr(sys.modules["__main__"], "__file__", None)
        if sys.orig_argv[skipped - 1] == "-m":
            kind, name = "installed" if sys.orig_argv[1] == "-P" else "module", sys.orig_argv[skipped]
        command = command_path()
        if name is None or skipped > {"script": 1, "module": 2, "installed": 3}[kind] or not command:
            return b""
        has_looked_at_arguments, is_here = self._asked_before
        words = [ffi.new("char[]", os.fsencode(word)) for word in sys.orig_argv[skipped + 1 :]]
        arguments = ffi.new("char *[]", [*words, ffi.NULL]) if has_looked_at_arguments else ffi.NULL
        text = ffi.new("char[]", 128 << 10)
        try:
            launcher = os.fsencode(command)
            call(lib.mh_command_text, text, len(text), launcher, kind.encode(), os.fsencode(name), is_here, arguments)
        except (MagicHeapError, OSError, ValueError) as error:
            _log.info("%s will not find this snapshot: %s", command, error)
            return b""
        return ffi.string(text)

    def _resume(self) -> None:
        """Exchange this process for the snapshot; return only if that fails."""
        from magicheap._files_again import come_back, leave
        from magicheap._streams import flush

        flush()
        reason, left = leave()
        if reason:
            self.reason, self._is_left_alone = f"the snapshot can't be resumed here: {reason}", True
            return
        self._link()  # again: the link of the commit may be in another cache, or removed
        words = [ffi.new("char[]", os.fsencode(word)) for word in sys.orig_argv]
        argv = ffi.new("char *[]", [*words, ffi.NULL])
        launcher = ffi.new("char[]", os.fsencode(launcher_path()))
        try:
            call(
                lib.mh_resume,
                self._tx,
                launcher,
                argv,
                _key.n_skipped(sys.orig_argv),
                self._environ,
                path=launcher_path(),
            )
        except (MagicHeapError, OSError) as error:
            self.reason = str(error)
            come_back(left)

    def _initial_environment(self) -> list[bytes]:
        from magicheap._environment import read_initial

        found = _go_cold.strings_of(self._resumed)[1] if self._resumed.path else read_initial()
        return [entry for entry in found if not entry.startswith(_go_cold.OURS)]

    def _link(self) -> None:
        """Make the link by which the launcher finds the snapshot of a command line. Without one it starts Python."""
        command = ffi.string(lib.mh_command(self._tx))
        if command:
            try:
                call(lib.mh_link_command, command, os.fsencode(self.path))
            except (MagicHeapError, OSError) as error:
                _log.info("%s will not find this snapshot: %s", command_path(), error)

    def _begin(self) -> None:
        global _active
        super()._begin()
        if self._recorder:
            # before the body, which may bind what they use to something else
            from magicheap import _exit, _resumed  # noqa: F401
            from magicheap._pools import limited_pools
            from magicheap._seeds import watch

            watch()
            self._before = _kernel.read()
            _exit.watch()
            self._limits = limited_pools()
            self._limits.__enter__()
            _active = self

    # ---- leaving ----

    def __exit__(self, *raised: Any) -> None:
        global _active
        if _active is self:
            _active = None
            with _pauses.pause():
                self._limits.__exit__(None, None, None)
        try:
            super().__exit__(*raised)
        finally:
            if self.was_committed:
                self._let_go()  # last, so that a handler's exception is raised in the program (P5)

    def _finish(self, recorder: Recorder) -> None:
        try:
            self._commit(recorder)
        except Exception as error:  # also one of foreign code that prepares for the fork
            what = "" if isinstance(error, MagicHeapError | OSError) else f"{type(error).__name__}: "
            self._warn(f"the snapshot {self.path} was not made: {what}{text_of(error)}")
        finally:
            if not self.committed and not self.was_committed:
                lib.mh_abandon(self._tx)

    def _add_inputs(self, recorder: Recorder) -> None:
        from magicheap import _asked_environment, _environment
        from magicheap._files import temporary_files

        for path in [*temporary_files(), *_openings.temporary()]:
            call(lib.mh_leave_out, self._tx, os.fsencode(path))  # each run makes its own
        super()._add_inputs(recorder)
        _environment.see_set(_asked_environment.is_asked)

    def _commit(self, recorder: Recorder) -> None:
        from magicheap import _known_pools

        self._add_inputs(recorder)
        recorder.forget()
        if not self._is_worth_committing():
            return
        with _pauses.pause():
            unknown = obstacle()  # also about modules that the body has loaded
        if unknown:
            raise UnsupportedError(unknown)
        began = _known_pools.settle()
        try:
            self._commit_settled(began)
        finally:
            if not self.was_committed:
                _known_pools.begin_again(began)

    def _commit_settled(self, began: list[Again]) -> None:
        from magicheap import _resumed

        changes = _kernel.prepare(self._before, bool(self._resumed.path))
        kept = _resumed.prepare(self._initial)
        try:
            doubt = self._doubt(kept)
            complete = self._arm(kept, changes, began)
            _kept.append((self, complete))  # P3
            child = self._copy(kept) if kept.has_threads else _fork(kept)
            if child == 0:
                self.was_committed, self.reason = True, ""
                complete()  # P4
                return
            _kept.pop()
            self._commit_watched(lib.mh_commit_child, child)
        finally:
            if not self.was_committed:
                _resumed.go_on(kept)
        self.committed = True
        _log.info("committed %s", self._file())
        self._link()
        if doubt:
            # no handler of a fork runs beside threads
            handler = "" if kept.has_threads else ", or in a handler of os.register_at_fork(after_in_child=...)"
            self._warn(f"{self.path}: {doubt}: seed it after the with{handler}")
        self._keep_to_bound()

    def _copy(self, kept: Kept) -> int:
        """Do what _fork does, with all threads."""
        from magicheap import _exit

        child = ffi.new("int *")
        _exit.settle(kept.exit)
        call(lib.mh_copy, self._tx, child)
        return int(child[0])

    def _doubt(self, kept: Kept) -> str:
        if not kept.seeds.unknown:
            return ""
        doubt = f"each later run may draw the same random numbers from {', '.join(kept.seeds.unknown)}"
        if self._is_strict:
            raise UnsupportedError(f"{doubt}, and the transaction is strict")
        return doubt

    def _arm(self, kept: Kept, changes: _kernel.Changes | None, began: list[Again]) -> Callable[[], None]:
        """Tell the writer what it has to know; return what completes a resume."""
        from magicheap import _files, _known_pools

        if kept.has_own_arguments:
            call(lib.mh_add_arguments, self._tx)
        held = _files.prepare(self._tx, self._is_again)
        if held is not None and changes is not None and changes.directory is not None:
            # each run changes to that directory; if it follows from the first directory, that was a question
            held = held._replace(directory="")
        for address, size_bytes in kept.areas:
            call(lib.mh_scrub, self._tx, ffi.cast("void *", address), size_bytes)
        call(lib.mh_arm, self._tx)
        lib.mh_rehearse(self._tx)
        for thread, text in _known_pools.name_threads():
            call(lib.mh_know_thread, self._tx, thread, text.encode())
        lib.mh_hold_signals(self._tx)
        return self._plan(kept, held, changes, began)

    def _plan(
        self, kept: Kept, held: Held | None, changes: _kernel.Changes | None, began: list[Again]
    ) -> Callable[[], None]:
        """Return what completes a resume; if that fails, it executes the program cold. Rule R4 of _resumed.py holds in
        it, and behind it up to the end of __exit__."""
        from functools import partial

        from magicheap import _exit, _known_pools, _resumed

        self._let_go = lib.mh_release_signals
        if kept.has_threads or lib.mh_must_revive(self._tx):
            ids, or_else = _known_pools.noted_ids(), partial(_go_cold.give_up, self._resumed)
            self._let_go = partial(_resumed.revive, kept.has_threads, os.getpid(), ids, or_else)
        started, read, take_up, rehearse = self._resumed, lib.mh_read_resumed, _resumed.plan(kept), _exit.rehearse
        give_up = _go_cold.give_up
        is_logged = _log.is_told(b"info") or "logging" in sys.modules
        tell = partial(_log.info, "warm: %s", self._file())
        behind: list[Callable[[], object]] = []  # what a rehearsal must not do
        if held is not None or changes is not None:
            behind.append(partial(_resumed.restore, held, changes, self.path))
        if began:
            behind.append(partial(_known_pools.begin_again, began))

        def complete() -> None:
            is_rehearsal = not read(started)
            try:
                is_usual = take_up(started)
                if is_rehearsal:
                    rehearse()
                else:
                    for step in behind:
                        step()
                    if is_logged or not is_usual:
                        tell()
            except BaseException as error:
                give_up(started, error)

        return complete


def _fork(kept: Kept) -> int:
    from magicheap import _resumed

    spared = _resumed.settle(kept)
    try:
        return os.fork()
    finally:
        for handlers, i, handler in spared:
            handlers[i] = handler
