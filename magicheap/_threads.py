"""The other threads of this process, and whose they are.

    for thread in others():
        print(thread.library, thread.name)

A thread belongs to the library that started it. For a thread of Python that is the package whose code it runs, by its
frames. For another thread it is the first library after the C library on its stack, from the stack's beginning. The
kernel has the stack pointer of a waiting thread (/proc/self/task/ID/syscall), and a word on the stack that is an
address in a library's code is taken for a return address.

A1  Remains of earlier calls on a stack may look like such words, but lie above the frame of their caller. The beginning
    of the stack, which decides, is written once.
A2  For a thread that can't be examined, since it runs or the kernel shows nothing, the library is "".
"""

from __future__ import annotations

import array
import bisect
import os
import re
import sys
import threading
from typing import NamedTuple

from magicheap._cpython import current_frames
from magicheap._cpython_library import target_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_TASKS = "/proc/self/task"
_WORD_BYTES = 8
# the examined part of a stack; arbitrary: threads that wait for work have used 2 KiB, Python's some more
_STACK_BYTES = 1 << 18
# PF_EXITING of include/linux/sched.h: pthread_join returns shortly before its thread disappears from /proc
_IS_EXITING = 0x4
# Libraries in which every thread begins, and the interpreter: a thread never belongs to these.
_SUPPORT = re.compile(r"(ld-linux|libc|libpthread|libstdc\+\+|libgcc_s|libpython|python)[-.\d]")
_STANDARD = os.path.realpath(os.path.dirname(threading.__file__))  # the standard library


class Thread(NamedTuple):
    """A thread other than the calling one."""

    id: int  # the kernel's
    name: str  # a Python thread's name with its function; else the kernel's name, of at most 15 bytes
    library: str  # the name of its import, or of its file; "": the program's own, or unknown


def are_there() -> bool:
    """Return whether this process has other threads. OSError: /proc does not list them."""
    return len(os.listdir(_TASKS)) > 1


def others() -> list[Thread]:
    """Return all living threads except this one, which holds the interpreter's lock. OSError: /proc does not list
    them."""
    own = threading.get_native_id()
    code = _Code()
    pythons = {thread.native_id: thread for thread in threading.enumerate()}
    frames = current_frames()
    found = [
        _look(number, code, pythons.get(number), frames)
        for number in sorted(map(int, os.listdir(_TASKS)))
        if number != own
    ]
    code.close()
    return [thread for thread in found if thread]


def library_of(path: str) -> str:
    """Return the package that a file belongs to, else the file's name: of site-packages/numpy.libs/libopenblas.so
    "numpy"."""
    places = [os.path.realpath(place) + "/" for place in sys.path]  # the kernel's names of files are real paths
    place = max((place for place in places if path.startswith(place)), key=len, default="")
    package, slash, _ = path[len(place) :].partition("/")
    if not place or place in (_STANDARD + "/", _STANDARD + "/lib-dynload/"):
        return os.path.basename(path)
    return package.removesuffix(".libs") if slash else package.partition(".")[0]


def _look(number: int, code: _Code, python: threading.Thread | None, frames: dict[int, FrameType]) -> Thread | None:
    try:
        flags = int(_read(number, "stat").rpartition(")")[2].split()[6])
        name, words = _read(number, "comm").rstrip("\n"), _read(number, "syscall").split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:  # A2
        flags, name, words = 0, "", []
    if flags & _IS_EXITING:
        return None
    ident, path = code.on_stack(int(words[-2], 16), frames) if len(words) >= 3 else (0, "")  # else it runs
    frame = frames.get(python.ident if python is not None and python.ident else ident)
    library = _library_of_frames(frame) if frame is not None else library_of(path) if path else ""
    return Thread(number, describe(python) if python else name, library)


def describe(thread: threading.Thread) -> str:
    """Return the name of a thread, with its function."""
    target = target_of(thread)
    name = getattr(target, "__qualname__", None) or type(thread).__qualname__
    return thread.name if thread.name.endswith(f"({name})") else f"{thread.name} ({name})"  # as threading names them


def _read(number: int, name: str) -> str:
    with open(f"{_TASKS}/{number}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read()


def _library_of_frames(frame: FrameType | None) -> str:
    """Return the package of the outermost frame outside the standard library; "": the program's own; else the
    module."""
    outermost, standard = "", ""
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if _is_standard(frame.f_code.co_filename):
            standard = name if name not in ("threading", "queue") else standard
        else:
            outermost = "" if name == "__main__" else name.partition(".")[0]
            standard = "" if name == "__main__" else standard
        frame = frame.f_back
    return outermost or standard


def _is_standard(path: str) -> bool:
    return path.startswith("<frozen") or (
        os.path.realpath(path).startswith(_STANDARD + "/") and "-packages/" not in path
    )


class _Code:
    """The mapped libraries, by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._areas: list[tuple[int, str, str]] = []  # end, permissions, path
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                fields = line.split(None, 5)
                start, end = (int(address, 16) for address in fields[0].split("-"))
                self._starts.append(start)
                self._areas.append((end, fields[1], fields[5].rstrip("\n") if len(fields) > 5 else ""))
        self._memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._memory)

    def on_stack(self, pointer: int, frames: Any) -> tuple[int, str]:
        """Return the `ident` of the Python thread with this stack, or 0; and the file of the library that the thread
        began in, or ""."""
        end = self._area(pointer)[0]
        try:
            words = array.array(
                "Q", os.pread(self._memory, min(end - pointer, _STACK_BYTES) // _WORD_BYTES * _WORD_BYTES, pointer)
            )
        except OSError:  # A2
            return 0, ""
        # glibc: the address above the stack
        ident = next((ident for ident in frames if pointer <= ident < end), 0)
        paths = [
            path
            for word in words
            if word
            for _, permissions, path in [self._area(word)]
            if "x" in permissions and path[:1] == "/"
        ]
        while paths and not _is_libc(paths[-1]):  # the thread's function is stored above its stack
            paths.pop()
        return ident, next((path for path in reversed(paths) if not _SUPPORT.match(os.path.basename(path))), "")

    def _area(self, address: int) -> tuple[int, str, str]:
        i = bisect.bisect_right(self._starts, address) - 1
        return self._areas[i] if i >= 0 and address < self._areas[i][0] else (address, "", "")


def _is_libc(path: str) -> bool:
    return re.match(r"(libc|libpthread)[-.]", os.path.basename(path)) is not None
