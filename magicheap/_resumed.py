"""Python's part of a resume: it replaces state of the committing process by that of this run.

    kept = prepare(initial)              # in the committing process, last thing before mh_arm
    take_up = plan(kept)                 # there
    spared = settle(kept)                # there, last thing before the fork; parent and child put it back behind it
    go_on(kept)                          # in the committing process
    take_up(resumed)                     # in a resumed process, with its mh_resumed
    restore(held, changes, snapshot)     # there, behind it, for what _files.py and _kernel.py have found; None: nothing

`initial` is the environment that the process was started with (_environment.py). Each of kept.areas is to be passed to
mh_scrub. Signals need nothing: what a process is started to ignore or to block is an input, so it is as at the commit.

R1  All modules that the resume needs are imported before the fork.
R2  If take_up raises any exception, the process must not go on: it has the arguments, environment or random numbers of
    another. It has not used a descriptor yet, so executing the program cold is as good as a cold start.
R3  The fork handlers of libraries have run, except those that are known to have nothing to do: each would write to
    pages that a resumed process must copy. Kernel state (working directory, umask, limits, ids) is the run's own;
    _kernel.py then makes the program's changes again.
R4  In CPython each use of an object writes to it, and the first write to a page copies it, which takes longer than a
    function of C. A call writes to the function and its code; an attribute to its name, its value, and the type's entry
    in a cache. So what a resumed process executes, up to the end of the transaction's __exit__, is planned before the
    fork: what there is nothing to do for is left out, what differs rarely is asked about once (mh_circumstances), and
    what is used lies in variables of the functions, which are made last, and so lie together.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from functools import partial
from time import tzset
from typing import NamedTuple

from magicheap import (
    _asked_arguments,
    _environment,
    _exit,
    _files_again,
    _kernel,
    _key,
    _original_directory,
    _pools,
    _reseed,
    _seeds,
    _streams,
    _threads,
)
from magicheap._cpython import child_handlers
from magicheap._cpython_library import (
    default_temporary_directory,
    forgets_threads,
    native_id_setter,
    renew_running_loops,
    running_loops,
)
from magicheap._errors import StaleError, UnsupportedError, call
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from magicheap._files import Held

# CPython's list of fork handlers, an index in it, and the handler that belongs there.
Spared = tuple[list[object], int, object]


class Kept(NamedTuple):
    """The result of prepare, for the resumed process."""

    areas: list[tuple[int, int]]  # address and size in bytes: for mh_scrub
    is_temporary_directory_found: bool  # by tempfile, not named by the program
    time_zone: int | None  # a hash of TZ
    environment: _environment.Delta
    circumstances: int  # mh_circumstances; equal: no signals, time zone, streams, pools to take up; 0: unknown
    streams: _streams.Kept
    seeds: _reseed.Kept
    pools: _pools.Kept
    exit: _exit.Kept
    has_threads: bool  # others, which are carried
    has_own_arguments: bool  # the program has changed sys.argv, from arguments that are equal in each resumed process
    own_name: str | None  # the first item, if the program has changed that


def prepare(initial: list[bytes]) -> Kept:
    """Prepare this process for the fork. OSError, UnsupportedError: it can't be committed, and nothing was changed."""
    child_handlers()  # which nobody finds once they are frozen
    pools = _pools.prepare()
    streams = _streams.prepare()
    tempfile: Any = sys.modules.get("tempfile")
    is_found = (
        tempfile is not None
        and tempfile.tempdir is not None
        and tempfile.tempdir == default_temporary_directory(tempfile)
    )
    has_threads = _threads.are_there()
    if has_threads and not running_loops():
        raise UnsupportedError(
            "an event loop runs in another thread, in a way that this Python's asyncio does not tell"
        )
    environment, seeds = _environment.changes(initial), _reseed.prepare(has_threads)
    areas = _environment.inherited(initial)
    _environment.keep_places(initial, environment)
    circumstances = lib.mh_circumstances() if all(stream.kind for stream in streams.streams) else 0
    return Kept(
        areas,
        is_found,
        _environment.time_zone(),
        environment,
        circumstances,
        streams,
        seeds,
        pools,
        _exit.prepare(),
        has_threads,
        _asked_arguments.has_changed(),
        _own_name(),
    )


def _own_name() -> str | None:
    skipped = _key.n_skipped(sys.orig_argv)
    is_script = skipped < len(sys.orig_argv) and sys.orig_argv[skipped - 1] not in ("-c", "-m")
    own = getattr(sys, "argv", None) or [""]  # the program may have removed it
    return own[0] if is_script and own[0] != sys.orig_argv[skipped] else None


def settle(kept: Kept) -> list[Spared]:
    """Replace fork handlers that would do nothing, or only what something shorter does as well."""
    handlers = child_handlers()
    shorter = [(i, each, _shorter(each)) for i, each in enumerate(handlers)]
    spared = [(handlers, i, each) for i, each, other in shorter if other is not None]
    _exit.settle(kept.exit)
    for i, each, other in shorter:
        handlers[i] = other or each
    return spared


def _shorter(handler: object) -> object:
    """Return what may be called in the place of a fork handler; None: nobody knows."""
    is_alone = threading.enumerate() == [threading.current_thread()] == [threading.main_thread()]
    if (forgets_threads(handler) and is_alone) or _pools.forgets_nothing(handler):
        return gc.isenabled  # anything that does nothing
    return _seeds.shorter(handler)


def go_on(kept: Kept) -> None:
    """Undo prepare in the committing process, after the commit or its failure."""
    _exit.go_on(kept.exit)


def revive(
    has_threads: bool, committing_id: int, ids: list[tuple[object, str]], give_up: Callable[[BaseException], object]
) -> None:
    """Make what is made anew, begin the carried threads, and release the signals: the last step. `ids`: what has noted
    the committing process's id, and in which attribute."""
    for owner, name in ids:
        setattr(owner, name, os.getpid())
    try:
        call(lib.mh_revive)
    except StaleError as error:
        give_up(_files_again.Unavailable(str(error), _files_again.STALE))
    except Exception as error:
        give_up(error)
    if has_threads:
        for thread in threading.enumerate():
            if (number := lib.mh_thread_id(thread.ident or 0)) > 0:
                native_id_setter(thread)(number)
        renew_running_loops(committing_id)
    lib.mh_release_signals()


def plan(kept: Kept) -> Callable[[Any], bool]:
    """Return the function that gives a resumed process the arguments, environment and so on that it was started with,
    by its mh_resumed (R4). It returns whether all else is as at the commit."""
    renew, left, unpack, circumstances = lib.mh_renew_variables, _environment.left, ffi.unpack, lib.mh_circumstances
    of_commit = kept.circumstances
    needs_more = _environment.needs_more(kept.environment)
    orig_argv = sys.orig_argv
    lists = [] if kept.has_own_arguments else [sys.argv, *_asked_arguments.held()]
    own_name, encoding, errors = kept.own_name, sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    set_native_id, native_id = native_id_setter(threading.main_thread()), threading.get_native_id
    steps = _steps(kept)

    def more(resumed: Any, n_left: int) -> None:
        _environment.take_up(resumed, n_left, kept.environment)

    def otherwise() -> None:
        _take_up_circumstances(kept)

    def take_up(resumed: Any) -> bool:
        n_left = renew(resumed, left)
        if n_left or needs_more:
            more(resumed, n_left)
        words = unpack(resumed.strings, resumed.arguments_bytes).decode(encoding, errors).split("\0")
        del words[-1]
        orig_argv[:] = words
        if lists:
            n_skipped = resumed.n_skipped
            if words[n_skipped - 1] in ("-c", "-m"):
                words[n_skipped] = lists[0][0] if lists[0] else ""  # Python puts "-c" there, or the module's path
            elif own_name is not None:
                words[n_skipped] = own_name
            for each in lists:
                each[:] = words[n_skipped:]
        is_usual: bool = circumstances() == of_commit != 0
        if not is_usual:
            otherwise()
        set_native_id(native_id())
        for step in steps:
            step()
        return is_usual

    return take_up


def _steps(kept: Kept) -> list[Callable[[], object]]:
    """Return what only some programs need."""
    steps: list[Callable[[], object]] = []
    if _original_directory.is_followed():
        steps.append(_original_directory.take_up)
    if kept.seeds.steps:
        steps.append(partial(_reseed.take_up, kept.seeds))
    if kept.is_temporary_directory_found:
        steps.append(partial(setattr, sys.modules["tempfile"], "tempdir", None))
    return steps


def _take_up_circumstances(kept: Kept) -> None:
    if _environment.time_zone() != kept.time_zone:
        tzset()
    _pools.take_up(kept.pools)
    _streams.take_up(kept.streams)


def restore(held: Held | None, changes: _kernel.Changes | None, snapshot: str) -> None:
    """Make the program's files, and its changes to the kernel's state."""
    made = () if held is None else [path for path, _ in held.trees]
    directory = _kernel.check(changes, made) if changes is not None else -1
    if held is not None:  # files are made under the committing process's umask
        with _kernel.umask(changes):
            _files_again.take_up(held, snapshot)
    if changes is not None:
        _kernel.take_up(changes, directory)
