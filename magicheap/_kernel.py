"""The program's changes to kernel state that is not memory: working directory, umask, limits, timers, standard streams.

    before = read()                  # as the transaction begins
    changes = prepare(before, ...)   # in the committing process; None: no changes;
                                     # UnsupportedError: one that no resumed process could repeat
    directory = check(changes, made) # in a resumed process, before anything is changed; raises Differs
    take_up(changes, directory)      # as the last step

A resumed process inherits this state from its parent. The program's changes, in the body or before, are made again.
Working directory and umask get their value at the commit, since programs set these to absolute values. Other values may
have been computed from earlier ones. So they are set only if the run begins with the values that the committing run
began with, at the program's first instruction or at its `with`, or if the run has the new value already.
"""

from __future__ import annotations

import os

from magicheap._errors import UnsupportedError
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_N_LIMITS = 16
_LIMITS = slice(4, 4 + 2 * _N_LIMITS)  # the limits among all values: soft, hard
_OTHERS = (
    "the session (os.setsid)",
    "the process group (os.setpgid)",
    "the scheduler (os.sched_setscheduler)",
    "no_new_privs (prctl)",
    "whether it can be dumped (prctl)",
    "the signal of its parent's death (prctl)",
    "whether it adopts orphans (prctl)",
    "the securebits (prctl)",
    "the slack of its timers (prctl)",
    "the groups (os.setgroups)",
    "the root directory (os.chroot)",
)
_TIMERS = slice(_LIMITS.stop + len(_OTHERS), _LIMITS.stop + len(_OTHERS) + 3)
_STREAMS = ("standard input", "standard output", "standard error")
_OF_STREAM = (
    "was redirected (os.dup2, os.close)",
    "has other status flags (os.set_blocking)",
    "has another inheritance flag (os.set_inheritable)",
)
_LIMIT_NAMES = (
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
)


class Differs(Exception):
    """The run began with another value than the committing run, and the program may have computed its own from that."""


class Changes:
    """The changes that each resumed process makes again; empty: none."""

    __slots__ = ("alike", "closed", "cpus", "directory", "limits", "nice", "setrlimit", "umask")

    def __init__(self) -> None:
        self.directory: str | None = None
        self.umask: int | None = None
        self.nice: int | None = None
        self.cpus: set[int] | None = None
        self.limits: list[tuple[int, int, int]] = []  # number, soft, hard
        self.closed: list[int] = []  # standard streams
        self.alike: list[tuple[str, slice, list[list[int]]]] = []  # name, place among all values, acceptable values
        self.setrlimit: Any = None


def read(at_first: bool = False) -> list[int]:
    """Return all values, in the order of native/sys/sys.h; at_first: those when this package was loaded."""
    values = ffi.new("int64_t[]", lib.MH_STATE_VALUES)
    lib.mh_read_state(at_first, values)
    return list(values)


def prepare(before: list[int], is_resumed: bool) -> Changes | None:
    """Find the changes. UnsupportedError: one can't be made again.

    is_resumed: this process was itself resumed. Each run that reaches this `with` has resumed the same snapshot, and so
        has the earlier changes.
    """
    began, now = [before] if is_resumed else [read(at_first=True), before], read()
    _refuse(began, now)

    def is_changed(part: slice) -> bool:
        return any(each[part] != now[part] for each in began)

    directory, umask, nice, cpus = (is_changed(slice(i, i + 1)) for i in range(4))
    limits = [i for i in range(_N_LIMITS) if is_changed(_of_limit(i))]
    closed = [fd for fd in range(3) if is_changed(_of_stream(fd)) and now[_of_stream(fd)][0] == 0]
    if not (directory or umask or nice or cpus or limits or closed):
        return None
    import resource

    changes = Changes()
    changes.directory = os.getcwd() if directory else None
    changes.umask, changes.nice = now[1] if umask else None, now[2] if nice else None
    changes.cpus = os.sched_getaffinity(0) if cpus else None
    changes.limits, changes.setrlimit = [(i, *resource.prlimit(0, i)) for i in limits], resource.setrlimit
    changes.closed = closed
    alike = [("the nice value", slice(2, 3))] if nice else []
    alike += [("the CPUs that it may use", slice(3, 4))] if cpus else []
    alike += [(f"RLIMIT_{_LIMIT_NAMES[i]}", _of_limit(i)) for i in limits]
    changes.alike = [(name, part, [each[part] for each in (*began, now)]) for name, part in alike]
    return changes


def check(changes: Changes, made: Sequence[str]) -> int:
    """Return a descriptor of the directory to change to, or -1. Differs, OSError: nothing was changed. `made`:
    directories that the resume is yet to make."""
    now = read()
    for name, part, expected in changes.alike:
        if now[part] not in expected:
            raise Differs(f"the program has changed {name}, and this run began with another value")
    is_made = changes.directory is None or any(f"{changes.directory}/".startswith(f"{path}/") for path in made)
    return -1 if is_made else _opened(changes.directory)


class umask:
    """Sets the program's umask inside the block, for files that the program made, and the run's umask after it."""

    __slots__ = ("_changes", "_mask")

    def __init__(self, changes: Changes | None) -> None:
        self._changes = changes

    def __enter__(self) -> None:
        if self._changes is not None and self._changes.umask is not None:
            self._mask = os.umask(self._changes.umask)

    def __exit__(self, *raised: object) -> None:
        if self._changes is not None and self._changes.umask is not None:
            os.umask(self._mask)


def take_up(changes: Changes, directory: int) -> None:
    """Make the changes."""
    now = read()
    if changes.nice is not None and now[2] != changes.nice:
        os.setpriority(os.PRIO_PROCESS, 0, 20 - changes.nice)
    if changes.cpus is not None:
        os.sched_setaffinity(0, changes.cpus)
    for number, soft, hard in changes.limits:
        changes.setrlimit(number, (soft, hard))
    if changes.directory is not None:
        directory = _opened(changes.directory) if directory < 0 else directory
        os.fchdir(directory)
        os.close(directory)
    if changes.umask is not None:
        os.umask(changes.umask)
    for fd in changes.closed:
        if now[_of_stream(fd)][0]:
            os.close(fd)


def _opened(directory: str | None) -> int:
    return os.open(str(directory), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _of_limit(i: int) -> slice:
    return slice(_LIMITS.start + 2 * i, _LIMITS.start + 2 * i + 2)


def _of_stream(fd: int) -> slice:
    return slice(_TIMERS.stop + 3 * fd, _TIMERS.stop + 3 * fd + 3)


def _refuse(began: list[list[int]], now: list[int]) -> None:
    for name, i in zip(_OTHERS, range(_LIMITS.stop, _TIMERS.start), strict=True):
        if any(each[i] != now[i] for each in began):
            raise UnsupportedError(
                f"the program has changed {name}, which later runs would not have: change it after the with"
            )
    if any(now[i] and not began[0][i] for i in range(_TIMERS.start, _TIMERS.stop)) or _has_timers():
        raise UnsupportedError(
            "a timer runs (signal.alarm, signal.setitimer), which later runs would not have: start it after the with"
        )
    for fd, stream in enumerate(_STREAMS):
        leads = now[_of_stream(fd)]
        for i, what in enumerate(_OF_STREAM):
            if leads[0] and any(each[_of_stream(fd)][i] != leads[i] for each in began):
                raise UnsupportedError(f"{stream} {what}, which later runs would not have: do it after the with")


def _has_timers() -> bool:
    """Tell whether timer_create made any timer; False on kernels without checkpoint support, which don't list them."""
    try:
        with open("/proc/self/timers", "rb") as timers:
            return bool(timers.read(1))
    except OSError:
        return False
