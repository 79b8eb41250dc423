"""Which files a load depends on: what the body opens for reading, and the source of every imported module.

I1  A file counts as it was when the load first looked at it: if it is another one at the commit, the load may have seen
    either, and nothing is committed.
I2  What the body writes is its output, and what is gone at the commit was temporary: neither is an input.
I3  An audit hook can't be removed and may not raise, so it is installed once, switched by `_recorder`, and harmless.

Files that C libraries open, and the libraries themselves, are recorded by the native routing, by the same rules.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    Identity = tuple[int, int, int, int]  # size in bytes, mtime in ns, inode, device

_NOT_FILES = ("/proc/", "/dev/", "/sys/")  # what the kernel makes up
_FILES_AFTER_ALL = "/dev/shm/"
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = ("site-packages", "dist-packages")  # may lie below the standard library, but isn't part of it

_recorder: Recorder | None = None
_is_hooked = False


class Recorder:
    """The inputs of one load, between start() and stop(); of all threads, since any may do the loading."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]] = ()) -> None:
        """`paths`: inputs that the user names. OSError or ValueError if one is no regular file."""
        self._seen: dict[str, Identity] = {}
        self._written: set[str] = set()
        for path in map(os.path.abspath, paths):
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ValueError(f"input {path} is no regular file: name the files themselves")
            self._see(path)

    def start(self) -> None:
        """Begin to record."""
        global _recorder, _is_hooked
        self._see_modules()
        _recorder = self
        if not _is_hooked:
            sys.addaudithook(_audit_hook)
            _is_hooked = True

    def stop(self) -> None:
        """Cease to record."""
        global _recorder
        _recorder = None

    def forget(self) -> None:
        """Drop what was recorded."""
        self._seen.clear()
        self._written.clear()

    def paths(self) -> list[str]:
        """Return the inputs there are, absolute and sorted."""
        self._see_modules()
        return sorted(path for path in list(self._seen) if path not in self._written and _identity(path))

    def outputs(self) -> list[str]:
        """Return what Python code has opened for writing: libraries may have read it afterwards."""
        return sorted(self._written)

    def changed(self, paths: Iterable[str]) -> str:
        """Return the first of `paths` that is not what was seen, or ""."""
        return next((path for path in paths if _identity(path) != self._seen[path]), "")

    def saw_open(self, name: str | bytes | int, mode: str | None, flags: int) -> None:
        """Record an `open` event: its arguments are those of the audit event of that name."""
        if isinstance(name, int):
            return
        path = os.path.abspath(os.fsdecode(name))
        if flags & (os.O_WRONLY | os.O_RDWR) or (mode and set(mode) & set("wax+")):
            self._written.add(path)
        elif not _is_standard(source := _source_of(path)):
            self._see(source)

    def _see(self, path: str) -> None:
        if path in self._seen or (path.startswith(_NOT_FILES) and not path.startswith(_FILES_AFTER_ALL)):
            return
        if identity := _identity(path):
            self._seen[path] = identity

    def _see_modules(self) -> None:
        for module in list(sys.modules.values()):
            if path := _module_file(module):
                self._see(os.path.abspath(path))


def _audit_hook(event: str, arguments: tuple[Any, ...]) -> None:
    recorder = _recorder
    if recorder is None or event != "open":
        return
    try:
        recorder.saw_open(*arguments)
    except (OSError, TypeError, ValueError):
        pass  # what has no sound name, the open itself will refuse


def _identity(path: str) -> Identity | None:
    """Return what tells one state of a regular file from another; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _source_of(path: str) -> str:
    """Return the source that the bytecode at `path` caches, since Python rewrites bytecode as it likes; else `path`."""
    directory, name = os.path.split(path)
    if os.path.basename(directory) != "__pycache__" or not name.endswith(".pyc"):
        return path
    return os.path.join(os.path.dirname(directory), name.split(".")[0] + ".py")


def _is_standard(path: str) -> bool:
    """Tell whether a file belongs to the standard library, which the interpreter's version covers."""
    return path.startswith(_STANDARD_LIBRARY) and path[len(_STANDARD_LIBRARY) :].split(os.sep)[0] not in _INSTALLED


def _module_file(module: ModuleType) -> str | None:
    """Return the file that a module's code came from, or None if there is none to watch."""
    variables = getattr(module, "__dict__", {})  # not getattr: modules that load lazily would begin to
    path = variables.get("__file__")
    if not isinstance(path, str) or _is_standard(path):
        return None
    archive = getattr(getattr(variables.get("__spec__"), "loader", None), "archive", None)
    return archive if isinstance(archive, str) else path
