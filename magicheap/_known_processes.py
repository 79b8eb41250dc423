"""Idle pools of Python's and joblib's processes and threads: they are ended before the commit, so that the snapshot has
none.

    end_pools()

A pool that has work, or to which the program still refers, is left alone, and prevents the commit.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from magicheap._cpython_library import end_tracker, is_pool_running, pool_queues, pool_threads, pool_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATIENCE_S = 1.0  # for the end of a thread or process; arbitrary: a run is cold once
_STEP_S = 0.005
_SHARED = "/dev/shm"  # has the C library's named semaphores, and the arrays of joblib's workers


def end_pools() -> None:
    """End multiprocessing's pools that were closed, and the pool that joblib keeps for its next use."""
    _end_multiprocessing()
    _end_loky()


# ---- multiprocessing.pool ----


def _end_multiprocessing() -> None:
    """Close the pipes of pools that have ended. `with Pool() as pool` leaves them open for as long as there is a
    `pool`."""
    module: Any = sys.modules.get("multiprocessing.pool")
    if module is None:
        return
    for pool in [found for found in gc.get_objects() if issubclass(type(found), module.Pool)]:
        if not is_pool_running(module, pool) and _have_ended(pool, module.ThreadPool):
            pool.terminate()  # the pool was closed and joined, so nobody uses its pipes any more
            for queue in pool_queues(pool):
                if hasattr(queue, "close"):  # a ThreadPool's queues are no pipes
                    queue.close()
            del pool_workers(pool)[:]  # as the pool does with ended workers, which have pipes, too


def _have_ended(pool: Any, thread_pool: type[Any]) -> bool:
    """Wait for the pool's threads, which end after its processes."""
    workers = pool_workers(pool) if isinstance(pool, thread_pool) else []
    deadline = time.monotonic() + _PATIENCE_S
    threads = [*pool_threads(pool), *workers]
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


# ---- loky ----


def _end_loky() -> None:
    """Shut down joblib's executor, and the processes that track its files. The next use makes all of them anew."""
    for package in ("joblib.externals.loky", "loky"):
        module: Any = sys.modules.get(f"{package}.reusable_executor")
        executor = getattr(module, "_executor", None)
        if executor is None or executor._flags.shutdown or executor._pending_work_items or _is_held(executor, module):
            continue
        if hasattr(executor, "terminate"):
            executor.terminate(kill_workers=False)  # removes joblib's temporary files, too
        else:
            executor.shutdown(wait=True)
        folders = list(getattr(getattr(executor, "_temp_folder_manager", None), "_cached_temp_folders", {}).values())
        del executor
        if not any(map(os.path.exists, folders)) and not _shared_since_start():
            for name in (f"{package}.backend.resource_tracker", "multiprocessing.resource_tracker"):
                _stop_tracker(sys.modules.get(name))


def _is_held(executor: Any, module: Any) -> bool:
    """Tell whether the program refers to the executor, and would find it shut down."""
    return any(holder is not vars(module) and type(holder).__name__ != "frame" for holder in gc.get_referrers(executor))


def _shared_since_start() -> list[str]:
    """Return this user's entries in /dev/shm since this process began: a tracker that ends deletes the entries that it
    tracks."""
    with (
        open("/proc/self/stat", encoding="utf-8", errors="replace") as stat,
        open("/proc/stat", encoding="ascii") as machine,
    ):
        ticks = int(stat.read().rpartition(")")[2].split()[19])  # starttime, field 22
        booted = next(int(line.split()[1]) for line in machine if line.startswith("btime "))
    began = booted + ticks // os.sysconf("SC_CLK_TCK") - 1  # btime is of whole seconds
    try:
        entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(_SHARED)]
    except OSError:
        return [_SHARED]
    return [name for name, stat in entries if stat.st_uid == os.geteuid() and stat.st_ctime >= began]


def _stop_tracker(module: Any) -> None:
    """End the tracker, with a bound on the wait."""

    def wait(pid: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(_STEP_S)

    end_tracker(module, wait)
