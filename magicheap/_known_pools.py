"""Pools of libraries that are sized by the machine, or belong to processes: ended before the commit, by their own
interfaces.

    began = settle()             # in the committing process, before mh_arm
    name_threads()               # for mh_know_thread, last thing before the copy
    noted_ids()                  # for the resumed process
    begin_again(began)           # in the committing process, after the commit or its failure; and in a resumed one

Other threads are carried as they are (native/process/threads.c). What is ended here would be carried, too; but a
resumed process may have another number of processors, and starts such a pool in the size of its own. Where another
thread of Python lives, which may be using a pool at this moment, all are carried.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from magicheap import _known_processes, _pools, _threads
from magicheap._cpython_library import target_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Again = Callable[[], object]


def settle() -> list[Again]:
    """End the pools that can be ended."""
    _pools.end_tqdm()
    _known_processes.end_pools()
    began: list[Again] = []
    for name, end in _ENDS.items() if _pools.is_alone() else ():
        if name in sys.modules:
            with contextlib.suppress(AttributeError):  # another version
                began.append(end())
    return began


def begin_again(began: list[Again]) -> None:
    """Start the pools again that settle has ended. Libraries that do so by themselves are left alone."""
    for begin in began:
        begin()


def name_threads() -> list[tuple[int, str]]:
    """Return the kernel's id of each other thread, and its name with that of its library, as far as that is known."""
    return [(each.id, f"{each.name} of {_name(each)}" if _name(each) else each.name) for each in _threads.others()]


def noted_ids() -> list[tuple[object, str]]:
    """Return what owns a thread of Python and has noted the process id, with the name of the attribute: where the id is
    another, it would take its thread for lost in a fork, and drop its work."""
    own = os.getpid()
    owners = [getattr(target_of(thread), "__self__", None) for thread in threading.enumerate()]
    return [
        (owner, name)
        for owner in owners
        for module, name in _NOTED_IDS.items()
        if type(owner).__module__.startswith(module) and getattr(owner, name, None) == own
    ]


def _name(thread: _threads.Thread) -> str:
    """Return the library's name in an import statement."""
    library = thread.library.lstrip("_")
    return next((name for prefix, name in _PREFIXES.items() if library.startswith(prefix)), thread.library)


def _end_numexpr() -> Again:
    """End numexpr's pool: it detects a fork by the process id, which may be the same in another pid namespace. The
    default size follows from the machine's processors."""
    numexpr: Any = sys.modules["numexpr"]
    n_threads, is_default = numexpr.get_num_threads(), numexpr.get_num_threads() == numexpr.ncores
    numexpr.set_num_threads(1)
    most = numexpr.MAX_THREADS
    return lambda: numexpr.set_num_threads(min(numexpr.detect_number_of_cores(), most) if is_default else n_threads)


def _end_opencv() -> Again:
    cv2: Any = sys.modules["cv2"]
    n_threads = cv2.getNumThreads()
    cv2.setNumThreads(-1)  # the default: by the processors that this process may use
    is_default = n_threads == cv2.getNumThreads()
    cv2.setNumThreads(1)
    return lambda: cv2.setNumThreads(-1 if is_default else n_threads)


_NOTED_IDS = {"opentelemetry.sdk.": "_pid", "sentry_sdk.worker": "_for_pid"}
_ENDS: dict[str, Callable[[], Again]] = {"numexpr": _end_numexpr, "cv2": _end_opencv}
# What modules and libraries' files that begin so belong to.
_PREFIXES = {
    "polars_runtime": "polars",
    "libarrow.so": "pyarrow",
    "duckdb": "duckdb",
    "multiprocessing.pool": "multiprocessing",
}
