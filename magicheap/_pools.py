"""Thread pools of libraries that are sized by the CPUs: ended at the commit, and in full size afterwards.

    with limited_pools():        # around the body
        ...
    kept = prepare()             # in the committing process, last thing before the fork
    take_up(kept)                # in a resumed process

The body runs with full pools. OpenMP and OpenBLAS can end their threads on request, and start them again at the next
use. Rayon can't end its threads: Hugging Face's tokenizers, which uses Rayon, is told not to start any. So is the
telemetry of onnxruntime, which has a thread, and writes to a database that all processes share; no result of a program
depends on it. Threads that are still alive at the commit are carried (native/process/threads.c).

A pool sized by the number of CPUs is sized anew in a process that may use another number, and starts its threads at its
first use. If the program, or a variable such as OMP_NUM_THREADS, chose the size, it stays.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from typing import NamedTuple

from magicheap import _pauses, _symbols
from magicheap._cpython import EVENTS_OF_HOOKS, current_frames
from magicheap._cpython_environment import ENVIRONMENT
from magicheap._errors import call
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Variables that keep pools from starting that can't be ended. Libraries read them at every use, or at their import.
_TOLD = {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}
# audit events
_STARTS = {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
_OMP_PAUSE_HARD = 2  # omp_pause_hard of omp.h

_told: dict[str, str] = {}  # variables that are set while a body runs
_is_hidden = _is_hooked = False


class Kept(NamedTuple):
    """The result of prepare."""

    n_cpus: int
    controllers: tuple[Any, ...]  # of threadpoolctl: those sized by n_cpus
    is_torch_sized: bool
    stack_limit_bytes: int  # soft RLIMIT_STACK: what glibc gives new threads


@contextlib.contextmanager
def limited_pools() -> Iterator[None]:
    """Keep pools from starting that can't be ended."""
    global _is_hooked
    _told.update({name: value for name, value in _TOLD.items() if not _is_in_c(name)})
    if not _is_hooked:
        sys.addaudithook(_hide_from_children)
        os.register_at_fork(after_in_child=_forget)
        _is_hooked = True
    _tell()
    try:
        yield
    finally:
        _untell()
        _told.clear()


def _is_in_c(name: str) -> bool:
    """Tell whether the C library's environment has a variable."""
    i, sizes = 0, ffi.new("uint64_t[2]")
    while entry := lib.mh_environment_entry(i, sizes, sizes + 1):
        if ffi.unpack(entry, sizes[0]) == name.encode():
            return True
        i += 1
    return False


def _tell() -> None:
    global _is_hidden
    _is_hidden = False
    with _pauses.pause():
        for name, value in _told.items():
            if name not in ENVIRONMENT:  # the program may have set it
                os.putenv(name, value)  # not os.environ: the program must not see it


def _untell() -> None:
    with _pauses.pause():
        for name in _told:
            if name not in ENVIRONMENT:
                os.unsetenv(name)


def _forget() -> None:
    """Remove the variables in a child of a fork, whose fork handlers may have raised audit events that set them."""
    _untell()
    _told.clear()


def forgets_nothing(handler: object) -> bool:
    """Tell whether this is our fork handler, and nothing is told."""
    return handler is _forget and not _told


def _hide_from_children(event: str, arguments: tuple[Any, ...]) -> None:
    """Hide the variables from processes that the body starts: until the next audit event, when the process exists."""
    global _is_hidden
    if not _told:
        return
    if event in _STARTS:
        _untell()
        _is_hidden = True
    elif _is_hidden and event not in EVENTS_OF_HOOKS:
        _tell()


def prepare() -> Kept:
    """End the pools that can be ended."""
    end_tqdm()
    n_cpus = _n_cpus()
    controllers = _controllers()
    sized = tuple(controller for controller in controllers if controller.num_threads == n_cpus)
    torch = sys.modules.get("torch")
    is_torch_sized = torch is not None and torch.get_num_threads() == n_cpus
    if is_alone():
        for controller in controllers:
            _end_openmp(controller)
            _end_openblas(controller)
    return Kept(n_cpus, sized, is_torch_sized, _stack_limit_bytes())


def is_alone() -> bool:
    """Return whether no other thread of Python could be inside a library, and use its pool while we end it."""
    return len(current_frames()) == 1


def take_up(kept: Kept) -> None:
    """Size the pools by the CPUs that this process may use, and new threads' stacks by its limit."""
    n_cpus = _n_cpus()
    if n_cpus != kept.n_cpus:
        for controller in kept.controllers:
            if not _size_resting_openblas(controller, n_cpus):
                controller.set_num_threads(n_cpus)
        if kept.is_torch_sized:
            sys.modules["torch"].set_num_threads(n_cpus)
    limit_bytes = _stack_limit_bytes()
    if limit_bytes != kept.stack_limit_bytes:
        _size_stacks(kept.stack_limit_bytes, limit_bytes)


def _controllers() -> list[Any]:
    """Return threadpoolctl's objects for the libraries that are loaded."""
    is_set = "KMP_DUPLICATE_LIB_OK" in os.environ  # as the import finds it: the program may have replaced it
    import threadpoolctl

    if not is_set:
        os.environ.pop("KMP_DUPLICATE_LIB_OK", None)  # the import of threadpoolctl sets this, not the program
    controllers: list[Any] = threadpoolctl.ThreadpoolController().lib_controllers
    return controllers


def _n_cpus() -> int:
    return len(os.sched_getaffinity(0))


def end_tqdm() -> None:
    """End tqdm's monitor thread; the next bar starts another."""
    for thread in threading.enumerate():
        if type(thread).__module__ == "tqdm._monitor":
            thread.exit()  # type: ignore[attr-defined]


def _end_openmp(controller: Any) -> None:
    """End an OpenMP pool of this thread. Pools of other threads stay alive, and are carried."""
    if controller.user_api == "openmp":
        with contextlib.suppress(AttributeError):
            _symbols.function(controller.filepath, "omp_pause_resource_all", "int(int)")(_OMP_PAUSE_HARD)


def _end_openblas(controller: Any) -> None:
    """End an OpenBLAS pool by the function that the library itself calls before each fork."""
    if controller.internal_api == "openblas" and controller.threading_layer == "pthreads":
        with contextlib.suppress(AttributeError):
            _symbols.function(controller.filepath, "blas_thread_shutdown_", "int()")()


def _size_resting_openblas(controller: Any, n_threads: int) -> bool:
    """Size an OpenBLAS pool as its start does, while no thread of the pool is alive; return whether that succeeded.

    openblas_set_num_threads would start the threads at once. It and the first use read these variables
    (driver/others/blas_server.c), which are exported under these names, whatever prefix the functions have.
    """
    if controller.internal_api != "openblas" or controller.threading_layer != "pthreads":
        return False
    try:
        has_threads, n_at_work, n_started = (
            _symbols.variable(controller.filepath, f"blas_{name}", "int")
            for name in ("server_avail", "cpu_number", "num_threads")
        )
    except AttributeError:
        return False
    if has_threads[0] or n_at_work[0] != n_started[0]:
        return False
    n_at_work[0] = n_started[0] = n_threads
    return True


def _stack_limit_bytes() -> int:
    return resource.getrlimit(resource.RLIMIT_STACK)[0]


def _size_stacks(before_bytes: int, now_bytes: int) -> None:
    """Set the default stack size from the limit, as glibc does at a process's start, unless the program chose one."""
    size_bytes = ffi.new("uint64_t *")
    call(lib.mh_read_stack_size, size_bytes)
    if size_bytes[0] == _default_stack_bytes(before_bytes):
        call(lib.mh_set_stack_size, _default_stack_bytes(now_bytes))


def _default_stack_bytes(limit_bytes: int) -> int:
    """Return what __pthread_initialize_minimal_internal makes of RLIMIT_STACK in glibc's nptl/nptl-stack.c."""
    if limit_bytes == resource.RLIM_INFINITY:
        return 2 << 20  # ARCH_STACK_DEFAULT_SIZE
    smallest = os.sysconf("SC_THREAD_STACK_MIN")
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return -(-max(limit_bytes, smallest) // page_bytes) * page_bytes
