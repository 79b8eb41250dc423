"""Python's part of a resume: it replaces state of the committing process by that of this run.

    kept = prepare(initial, ignored)     # in the committing process, last thing before mh_arm
    spared = settle()                    # there, last thing before the fork
    put_back(spared)                     # in parent and child, first thing after it
    go_on(kept)                          # in the committing process
    take_up(resumed, kept)               # in a resumed process

`initial` is the environment that the process was started with (_environment.py), `ignored` is ignored_signals() at the
beginning of the transaction. Each of kept.areas is to be passed to mh_scrub.

R1  All modules that the resume needs are imported before the fork.
R2  If take_up raises any exception, the process must not go on: it has the arguments, environment or random numbers of
    another. It has not used a descriptor yet, so executing the program cold is as good as a cold start.
R3  The fork handlers of libraries have run, except those that are known to have nothing to do: each would write to
    pages that a resumed process must copy. Kernel state (working directory, umask, limits, ids) is the run's own;
    _kernel.py then makes the program's changes again.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from time import tzset
from typing import NamedTuple

from magicheap import (
    _asked_arguments,
    _environment,
    _exit,
    _key,
    _original_directory,
    _pools,
    _reseed,
    _seeds,
    _streams,
    _surroundings,
)
from magicheap._cpython import child_handlers
from magicheap._cpython_library import default_temporary_directory, forgets_threads, renew_native_id
from magicheap._native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGNALS_OF_PYTHON = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # ignored in every Python process
_STANDARD_SIGNALS = (1 << 31) - 1  # the launcher asks for no others


# The start of a resumed process: sys.orig_argv, how many of its items come before sys.argv, the environment as
# NAME=VALUE, or None where os.environ has it already, and a bit (its number - 1) for each ignored signal.
Resumed = tuple[list[str], int, list[bytes] | None, int]
# CPython's list of fork handlers, an index in it, and the handler that belongs there.
Spared = tuple[list[object], int, object]


class Kept(NamedTuple):
    """The result of prepare, for the resumed process."""

    areas: list[tuple[int, int]]  # address and size in bytes: for mh_scrub
    ignored_signals: int
    is_temporary_directory_found: bool  # by tempfile, not named by the program
    time_zone: int | None  # a hash of TZ
    environment: _environment.Delta
    circumstances: int  # hash of all that decides about streams and pools; equal: nothing to take up; 0: unknown
    streams: _streams.Kept
    seeds: _reseed.Kept
    pools: _pools.Kept
    exit: _exit.Kept
    has_own_arguments: bool  # the program has changed sys.argv, from arguments that are equal in each resumed process
    own_name: str | None  # the first item, if the program has changed that


def ignored_signals() -> int:
    """Return a bit for each ignored signal, without those that Python itself ignores. OSError: there is no /proc."""
    with open("/proc/self/status", "rb") as status:
        return (
            next(int(line.split()[1], 16) for line in status if line.startswith(b"SigIgn:"))
            & ~_SIGNALS_OF_PYTHON
            & _STANDARD_SIGNALS
        )


def prepare(initial: list[bytes], ignored: int) -> Kept:
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
    environment, seeds = _environment.changes(initial), _reseed.prepare()
    areas = _environment.inherited(initial)
    _environment.keep_places(initial, environment)
    circumstances = lib.mh_circumstances() if all(stream.kind for stream in streams.streams) else 0
    return Kept(
        areas,
        ignored,
        is_found,
        _environment.time_zone(),
        environment,
        circumstances,
        streams,
        seeds,
        pools,
        _exit.prepare(),
        _asked_arguments.has_changed(),
        _own_name(),
    )


def _own_name() -> str | None:
    skipped = _key.n_skipped(sys.orig_argv)
    is_script = skipped < len(sys.orig_argv) and sys.orig_argv[skipped - 1] not in ("-c", "-m")
    own = getattr(sys, "argv", None) or [""]  # the program may have removed it
    return own[0] if is_script and own[0] != sys.orig_argv[skipped] else None


def settle() -> list[Spared]:
    """Replace fork handlers that would do nothing, or only what something shorter does as well."""
    handlers = child_handlers()
    shorter = [(i, each, _shorter(each)) for i, each in enumerate(handlers)]
    spared = [(handlers, i, each) for i, each, other in shorter if other is not None]
    _exit.settle()
    for i, each, other in shorter:
        handlers[i] = other or each
    return spared


def _shorter(handler: object) -> object:
    """Return what may be called in the place of a fork handler; None: nobody knows."""
    is_alone = threading.enumerate() == [threading.current_thread()] == [threading.main_thread()]
    if (forgets_threads(handler) and is_alone) or _pools.forgets_nothing(handler):
        return gc.isenabled  # anything that does nothing
    return _seeds.shorter(handler)


def put_back(spared: list[Spared]) -> None:
    for handlers, i, handler in spared:
        handlers[i] = handler


def go_on(kept: Kept) -> None:
    """Undo prepare in the committing process, after the commit or its failure."""
    _exit.go_on(kept.exit)


def take_up(resumed: Resumed, kept: Kept) -> None:
    """Give this process the arguments, environment and so on that it was started with, `resumed`."""
    orig_argv, n_skipped, entries, ignored = resumed
    time_zone = _environment.take_up(entries, kept.environment)
    _take_up_arguments(orig_argv, n_skipped, kept)
    if (ignored := ignored & ~_SIGNALS_OF_PYTHON) != kept.ignored_signals:
        _take_up_signals(ignored, kept.ignored_signals)
    if time_zone != kept.time_zone:
        tzset()
    renew_native_id(threading.main_thread(), threading.get_native_id())
    _surroundings.begin()
    _original_directory.take_up()
    _reseed.take_up(kept.seeds)
    if kept.is_temporary_directory_found:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if not kept.circumstances or kept.circumstances != lib.mh_circumstances():
        _pools.take_up(kept.pools)
        _streams.take_up(kept.streams)
    _exit.take_up(kept.exit)


def _take_up_arguments(orig_argv: list[str], n_skipped: int, kept: Kept) -> None:
    sys.orig_argv[:] = orig_argv
    if kept.has_own_arguments:
        return
    arguments = orig_argv[n_skipped:]
    if orig_argv[n_skipped - 1] in ("-c", "-m"):
        arguments[0] = sys.argv[0] if sys.argv else ""  # Python puts "-c" there, or the module's path
    elif kept.own_name is not None:
        arguments[0] = kept.own_name
    sys.argv[:] = arguments
    _asked_arguments.take_up(arguments)


def _take_up_signals(now: int, before: int) -> None:
    """Ignore the signals that this process was started to ignore, and stop ignoring those that only the committing
    process was started to ignore.

    Handlers that the program has set stay; so do signals that the program chose to ignore, unless they were ignored
    from the start.
    """
    for number in (number for number in range(1, signal.NSIG) if (now ^ before) >> (number - 1) & 1):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        old, new = (default, signal.SIG_IGN) if now >> (number - 1) & 1 else (signal.SIG_IGN, default)
        if signal.getsignal(number) == old:
            signal.signal(number, new)
