"""Whether this process may be exchanged for a snapshot, or be committed: not under a debugger, nor inside another
program.

Every start asks this, so the module imports nothing, and looks only at modules that are loaded already.
"""

from __future__ import annotations

import os
import sys

from magicheap._cpython import frame as frame_of
from magicheap._cpython import obstacle_of_place
from magicheap._cpython_environment import ENVIRONMENT
from magicheap._identity import file_of
from magicheap._native import lib
from magicheap._paths import launcher_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

# Modules whose code runs the program: while one is on the stack, the process belongs to that module. A name includes
# submodules.
_RUNNERS = {
    "pytest": ("_pytest", "pytest"),
    "unittest": ("unittest.case", "unittest.main", "unittest.runner", "unittest.suite", "unittest.loader"),
    "doctest": ("doctest",),
    "a debugger": ("bdb", "pdb", "debugpy", "pydevd", "_pydevd_bundle"),
    "coverage": ("coverage",),
    "a profiler": ("cProfile", "profile", "trace", "pyinstrument", "scalene", "line_profiler", "memory_profiler"),
    "an interactive prompt": ("code", "idlelib", "IPython", "ptpython", "bpython"),
    "a notebook": ("ipykernel",),
    "a worker of multiprocessing": ("multiprocessing.process", "multiprocessing.spawn", "multiprocessing.forkserver"),
    "an asyncio loop": ("asyncio.base_events", "asyncio.runners", "uvloop"),
}
_RUNNER_OF = {module: runner for runner, modules in _RUNNERS.items() for module in modules}
_N_TOOLS = 6  # ids of sys.monitoring, PEP 669


def why_not(is_resumed: bool = False) -> str:
    """Return "" or the reason why not, as a sentence."""
    return (
        why_never(is_resumed)
        or _wrong_place(is_resumed)
        or _watched()
        or _interactive()
        or _runner()
        or input_is_read()
    )


def why_never(is_resumed: bool = False) -> str:
    """Return "", or the reason why no program of this interpreter could be resumed on this machine."""
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return "process snapshots are for Linux on x86-64"
    if "t" in sys.abiflags:
        return "this is a free-threaded Python, whose memory magicheap does not know"
    try:
        os.stat("/proc/self/exe")
    except FileNotFoundError:
        return "there is no /proc here, which lists the memory of a process"
    except OSError as error:  # a program that may be executed but not read
        return f"this process may not read its own /proc/self: {error.strerror}"
    if getattr(sys, "frozen", False):
        return "the program is frozen: it brings no launcher that could resume it"
    if not is_resumed and not launcher_path():
        return "the launcher in magicheap's package is missing, or can't be executed: install magicheap again"
    return ""


def _wrong_place(is_resumed: bool) -> str:
    if os.getpid() != lib.mh_first_id():
        return "this process was forked from the program's first one"
    if "main thread" in obstacle_of_place():
        return "this is not the main thread of the main interpreter"
    if not is_resumed and not _is_own_interpreter():
        return f"the interpreter is embedded in another program: {os.path.realpath('/proc/self/exe')}"
    greenlet = sys.modules.get("greenlet")
    if greenlet is not None and greenlet.getcurrent().parent is not None:
        return "this is not the main greenlet"
    return ""


def _is_own_interpreter() -> bool:
    try:
        return file_of(os.stat(sys.executable)) == file_of(os.stat("/proc/self/exe"))
    except OSError:
        return False


def _watched() -> str:
    if sys.gettrace() is not None:
        return "a debugger or coverage is tracing (sys.settrace)"
    if sys.getprofile() is not None:
        return "a profiler is active (sys.setprofile)"
    monitoring: Any = getattr(sys, "monitoring", None)
    for tool in range(_N_TOOLS if monitoring else 0):
        if name := monitoring.get_tool(tool):
            return f"{name} is monitoring (sys.monitoring)"
    try:
        with open("/proc/self/status", "rb") as status:
            tracer = next((line.split()[1] for line in status if line.startswith(b"TracerPid:")), b"0")
    except OSError as error:
        return f"/proc does not show whether a process is tracing: {error}"
    return f"process {tracer.decode()} is tracing" if tracer != b"0" else ""


def _interactive() -> str:
    if hasattr(sys, "ps1") or sys.flags.interactive or sys.flags.inspect or ENVIRONMENT.get("PYTHONINSPECT"):
        return "the interpreter is interactive"
    ipython: Any = sys.modules.get("IPython")
    return "IPython is running" if ipython is not None and ipython.get_ipython() is not None else ""


def _runner() -> str:
    frame: FrameType | None = frame_of(0)
    while frame:
        name = str(frame.f_globals.get("__name__"))
        if name == "__main__":  # python -m
            name = str(getattr(frame.f_globals.get("__spec__"), "name", name))
        runner = _RUNNER_OF.get(name) or _RUNNER_OF.get(name.partition(".")[0])
        if runner:
            return f"{runner} runs the program ({name})"
        frame = frame.f_back
    return ""


def input_is_read() -> str:
    """Return "" or the reason: input that is buffered in this process would be lost to the resumed program."""
    text: Any = sys.__stdin__
    try:
        if text is None or text.closed:
            return ""
        text.reconfigure(errors=text.errors)  # changes nothing, and is refused after a read
        is_read = _is_buffered(text.buffer)
    except ValueError:  # io.UnsupportedOperation; or the stream was detached, and another object reads
        is_read = True
    except OSError:  # the descriptor was closed
        is_read = False
    return "standard input has been read from" if is_read else ""


def _is_buffered(buffer: Any) -> bool:
    """Peek with an empty file in place of standard input: a peek at standard input itself might wait."""
    is_inheritable = os.get_inheritable(0)
    standard, empty = os.dup(0), os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(empty, 0)
        return bool(buffer.peek(1))
    finally:
        os.dup2(standard, 0, is_inheritable)
        os.close(standard)
        os.close(empty)
