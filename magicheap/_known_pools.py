"""Known threads and pools of libraries: one table, with a test on the real library for each row.

    began = settle()             # in the committing process, before mh_arm;
                                 # UnsupportedError names the threads that can't be carried
    known_threads()              # for mh_know_thread, last thing before the fork
    begin_again(began)           # in the committing process, after the commit or its failure; and in a resumed one

A fork loses all other threads, and their work. So each known library is of one of three kinds, and the threads of an
unknown one prevent the commit:

ends   Its own interface ends its idle threads, and starts them again at their next use or by begin_again.
rests  It survives a fork by itself: its own handlers start its threads again, or it does without them. A lock that a
       thread holds, or its work, would be lost; so the thread must not run between the check that it has no work and
       the end of the fork, which the kernel's count of its context switches proves (mhi_threads_check).
stays  Neither is possible. The refusal names a remedy for the author.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import NamedTuple

from magicheap import _known_processes, _pools, _symbols, _threads
from magicheap._cpython import current_frames
from magicheap._cpython_library import target_of
from magicheap._errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from magicheap._threads import Thread

    Again = Callable[[], object]

# for spinning pools to come to rest; arbitrary: a program whose commit is always refused waits so long in every run
_REST_S = 0.5
_END_S = 1.0  # for a thread that is ending; arbitrary
_FLUSH_S = 5.0  # for spans on their way to a collector: by default its processor wakes every five seconds
_STEP_S = 0.005
# mhi_threads_check admits it: the allocator's fork handlers end it and start another
_JEMALLOC = "jemalloc_bg_thd"


class Pool(NamedTuple):
    """A row of the table."""

    remedy: str  # for the author, if its threads prevent the commit
    # ends all its idle threads; AttributeError, KeyError: an unknown version, whose threads stay
    end: Callable[[], Again] | None = None
    resting: Callable[[list[Thread]], list[Thread]] | None = None  # those of its threads that may be lost, in any order


def settle() -> list[Again]:
    """End the pools that can be ended, and wait a little for threads that are about to end or to rest."""
    _pools.end_tqdm()
    _known_processes.end_pools()
    _end_workers_of_sentry()
    _flush_spans()
    deadline = time.monotonic() + _REST_S
    _refuse([thread for thread in _threads.others() if thread.python and thread not in [*_resting([thread])]])
    began: list[Again] = []
    try:
        for library in {_name(thread) for thread in _found(deadline)}:
            pool = POOLS.get(library)
            if pool is not None and pool.end is not None:
                with contextlib.suppress(AttributeError, KeyError):
                    began.append(pool.end())
        _refuse([thread for thread in _remaining(time.monotonic() + _REST_S) if _name(thread) in POOLS])
    except BaseException:
        begin_again(began)
        raise
    return began


def begin_again(began: list[Again]) -> None:
    """Start the pools again that settle has ended. Libraries that do so by themselves are left alone."""
    for begin in began:
        begin()


def known_threads() -> list[tuple[int, str, int]]:
    """Return the kernel's id of each thread, its library, and its count of context switches; 0: it must not be lost."""
    found = [thread for thread in _threads.others() if thread.name != _JEMALLOC]
    lost = {thread.id for thread in _resting(found)}
    return [
        (thread.id, _name(thread), thread.n_switches if thread.id in lost else 0) for thread in found if _name(thread)
    ]


def _found(deadline: float) -> list[Thread]:
    """Return all threads. Running ones get some time to come to rest: pools spin before they wait, and the library of a
    running thread can't be found."""
    # the interpreter's, whose threads are Python's
    is_worth_it = any(library in sys.modules for library in POOLS if library != "multiprocessing")
    while True:
        found = _threads.others()
        is_at_rest = all(thread.waits_in is not None or thread.python for thread in found)
        if not is_worth_it or is_at_rest or time.monotonic() > deadline:
            return found
        time.sleep(_STEP_S)


def _remaining(deadline: float) -> list[Thread]:
    """Return the threads that must not be lost. Threads of known libraries get some time to rest or to end."""
    while True:
        found = [thread for thread in _found(deadline) if thread.name != _JEMALLOC]
        lost = {thread.id for thread in _resting(found)}
        remaining = [thread for thread in found if thread.id not in lost]
        is_hopeful = any(
            POOLS[_name(thread)].resting or POOLS[_name(thread)].end for thread in remaining if _name(thread) in POOLS
        )
        if not is_hopeful or time.monotonic() > deadline:
            return remaining
        time.sleep(_STEP_S)


def _resting(found: list[Thread]) -> Iterable[Thread]:
    for library, pool in POOLS.items():
        own = [thread for thread in found if _name(thread) == library]
        if own and pool.resting:
            yield from pool.resting(own)


def _name(thread: Thread) -> str:
    """Return the library's name in an import statement."""
    library = thread.library.lstrip("_")
    return next((name for prefix, name in _PREFIXES.items() if library.startswith(prefix)), thread.library)


def _refuse(threads: list[Thread]) -> None:
    if not threads:
        return
    owners: dict[str, list[str]] = {}
    for thread in threads:
        owners.setdefault(_name(thread), []).append(thread.name)
    raise UnsupportedError(
        "a fork would lose " + "; and ".join(_sentence(library, names) for library, names in sorted(owners.items()))
    )


def _sentence(library: str, names: list[str]) -> str:
    told = sorted(set(names))[:3]
    more = f" and {len(names) - len(told)} more" if len(names) > len(told) else ""
    threads = f"the threads {', '.join(told)}{more}" if len(names) > 1 else f"the thread {told[0]}"
    pool = POOLS.get(library)
    remedy = pool.remedy if pool else "join them in the body, or start them after it"
    return f"{threads}{' of ' + library if library else ''}: {remedy}"


# ---- what ends ----


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


def _end_workers_of_sentry() -> None:
    """End sentry's threads: after a fork the queue would still list the dead thread as a waiter, and the next event
    might wake no other."""
    for thread in threading.enumerate():
        worker = _owner(thread)
        if (
            type(worker).__module__ == "sentry_sdk.worker"
            and worker._thread is thread
            and worker._timed_queue_join(_END_S)
        ):
            worker.kill()
            thread.join(_END_S)


# ---- what rests ----


def _flush_spans() -> None:
    """Send queued spans: the processor's fork handler drops them, since the parent of a fork sends them."""
    for thread in threading.enumerate():
        processor = _owner(thread)
        if _is_batch_processor(processor) and processor._queue:
            flush = threading.Thread(target=processor.force_flush, name=thread.name, daemon=True)
            flush.start()
            flush.join(_FLUSH_S)


def _resting_telemetry(threads: list[Thread]) -> list[Thread]:
    return [thread for thread in threads if thread.python and _is_at_rest(_owner(thread.python), thread.python)]


def _is_at_rest(processor: Any, thread: threading.Thread) -> bool:
    """Tell whether the thread waits for a span, or for its interval, and has no spans to send."""
    frame = current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_globals.get("__name__") == "threading":
        frame = frame.f_back
    return (
        _is_batch_processor(processor)
        and frame is not None
        and frame.f_code.co_name == "worker"
        and not (processor._queue or processor._export_lock.locked() or processor._worker_awaken.is_set())
    )


def _is_batch_processor(processor: Any) -> bool:
    names = ("_at_fork_reinit", "_queue", "_export_lock", "_worker_awaken", "force_flush")
    return type(processor).__module__.startswith("opentelemetry.sdk.") and all(
        hasattr(processor, name) for name in names
    )


def _owner(thread: threading.Thread) -> Any:
    return getattr(target_of(thread), "__self__", None)


def _resting_polars(threads: list[Thread]) -> list[Thread]:
    """Polars' import starts a thread that deletes files of queries too large for memory, which ended processes left.
    Any later process with polars does so, too."""
    return threads if all(thread.name == "polars-ooc-clea" and thread.is_idle() for thread in threads) else []


def _resting_arrow(threads: list[Thread]) -> list[Thread]:
    """Arrow's fork handlers start both pools again (arrow/util/thread_pool.cc), but not the tasks that were running. So
    there must be none."""
    try:
        n_threads, n_tasks = _count_in_pools_of_arrow()
    except (AttributeError, OSError, ValueError):
        return []
    return threads if n_tasks == 0 and n_threads == len(threads) and all(thread.is_idle() for thread in threads) else []


def _count_in_pools_of_arrow() -> tuple[int, int]:
    """Return the numbers of threads and tasks, by functions of arrow/util/thread_pool.h. AttributeError: an unknown
    version."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        (path,) = {line.split(None, 5)[5].rstrip("\n") for line in maps if "/libarrow.so" in line}
    pools = [
        _symbols.function(path, name, "void *()")()
        for name in ("_ZN5arrow8internal16GetCpuThreadPoolEv", "_ZN5arrow2io8internal15GetIOThreadPoolEv")
    ]
    count_threads, count_tasks = (
        _symbols.function(path, name, "int(void *)")
        for name in (
            "_ZN5arrow8internal10ThreadPool17GetActualCapacityEv",
            "_ZN5arrow8internal10ThreadPool11GetNumTasksEv",
        )
    )
    return sum(count_threads(pool) for pool in pools), sum(count_tasks(pool) for pool in pools)


# ---- the table ----

# What modules and libraries' files that begin so belong to.
_PREFIXES = {
    "polars_runtime": "polars",
    "libarrow.so": "pyarrow",
    "duckdb": "duckdb",
    "multiprocessing.pool": "multiprocessing",
}

POOLS = {
    "numexpr": Pool(
        "start Python with NUMEXPR_MAX_THREADS=1, or call numexpr.set_num_threads(1) in the body", end=_end_numexpr
    ),
    "cv2": Pool("call cv2.setNumThreads(0) in the body before anything else of it", end=_end_opencv),
    "multiprocessing": Pool("leave the `with` of the pool in the body, or close and join it there"),
    "joblib": Pool("leave its Parallel, whose workers are processes, before the body ends"),
    "loky": Pool("shut its executor down in the body"),
    "sentry_sdk": Pool("call sentry_sdk.init after the with, or let its sending end in the body"),
    "opentelemetry": Pool(
        "make the provider after the with, or have its queue exported in the body", resting=_resting_telemetry
    ),
    "polars": Pool("import it in the body, and run its first query after it", resting=_resting_polars),
    "pyarrow": Pool(
        (
            "let its readers come to their end, and call pyarrow.enable_signal_handlers(False) before the first "
            "CSV or JSON file"
        ),
        resting=_resting_arrow,
    ),
    "duckdb": Pool("close all connections in the body, and connect after it"),
    "onnxruntime": Pool(
        "start Python with ORT_DISABLE_TELEMETRY=1, or import it in the body, and give sessions that the body makes"
        " SessionOptions with intra_op_num_threads = 1 and inter_op_num_threads = 1"
    ),
    "tokenizers": Pool("start Python without TOKENIZERS_PARALLELISM"),
}
