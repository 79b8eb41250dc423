"""Files that this program has opened for writing, and directories that it made, since the import of magicheap.

    watch()                      # once
    find(status), known()        # how an open file was opened; all recorded openings
    temporary(), made()          # files that a later run must have, too

How a file was opened can't be found from its descriptor, and decides what a plain run does to it (_files.py). Files
that were opened before the import, or by C code, are unknown here.

O1  The audit hook can't be removed, must not raise, and runs at every open. It ignores files opened for reading only.
O2  Records stay for the process's life: a layer must carry the files that its parent carried.
"""

from __future__ import annotations

import os
import stat
import sys

from magicheap import _pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_RECORDS_MAX = 20_000  # arbitrary; of more files opened for writing the rest is unknown
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_MADE_UP = ("/proc/", "/dev/", "/sys/")
_TEXT_MODE = 0o666  # with which open() makes files


class Opening:
    """A file that was opened for writing, once or more often, and its state before the first time."""

    __slots__ = ("before", "directory", "is_appended", "is_emptied", "is_exclusive", "mode", "path")

    def __init__(self, path: str, directory: str, before: os.stat_result | None) -> None:
        self.path = path  # absolute, as it was opened
        self.directory = directory  # that the path was relative to; "": the path was absolute
        self.before = before  # None: the file did not exist
        self.is_emptied = False  # by O_TRUNC, at any time
        self.is_exclusive = False  # the first time
        self.is_appended = True  # each time
        self.mode: int | None = None  # for a new file; None: unknown

    def is_changed(self) -> bool:
        """Tell whether the file exists, and has changed."""
        status = _status(self.path)
        return status is not None and not self.is_unchanged(status)

    def is_unchanged(self, now: os.stat_result) -> bool:
        from magicheap._identity import state_of  # a run that resumes does not import it

        return self.before is not None and state_of(self.before) == state_of(now)


_openings: dict[str, Opening] = {}
_temporary: dict[str, None] = {}  # an ordered set, of paths that tempfile made
_directories: dict[str, None] = {}
_named: dict[str, None] = {}  # by a rename or a link
_is_watching = False


def watch() -> None:
    """Begin to record."""
    global _is_watching
    if not _is_watching and sys.platform == "linux":
        _is_watching = True
        sys.addaudithook(_hook)


def find(status: os.stat_result) -> Opening | None:
    """Return how the file with this status was opened, or None if that is not known."""
    from magicheap._identity import file_of  # likewise

    for opening in list(_openings.values()):
        try:
            found = os.stat(opening.path)
        except OSError:
            continue
        if file_of(found) == file_of(status):
            return opening
    return None


def known() -> list[Opening]:
    """Return all recorded openings."""
    return list(_openings.values())


def renew(path: str, status: os.stat_result) -> None:
    """Record the status in which a resumed process found the file, before changing it."""
    if path in _openings and _openings[path].before is not None:
        _openings[path].before = status


def forget(directory: str) -> None:
    """Drop the records of a directory and of files below it, which are ours, not the program's."""
    for records in (_openings, _directories, _named):
        for path in [path for path in records if path == directory or path.startswith(directory + "/")]:
            del records[path]


def temporary() -> list[str]:
    """Return the temporary files and directories that exist."""
    return [path for path in list(_temporary) if os.path.lexists(path)]


def made() -> Iterator[tuple[str, bool]]:
    """Yield the existing paths that were written or made, and whether each is a directory; bytecode is left out."""
    for path in list(_directories):
        if os.path.isdir(path) and os.path.basename(path) != "__pycache__":
            yield path, True
    for path in [*(path for path, each in list(_openings.items()) if each.is_changed()), *_named]:
        if os.path.lexists(path) and os.path.basename(os.path.dirname(path)) != "__pycache__":
            yield path, os.path.isdir(path)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        flags = arguments[2]
        if type(flags) is int and flags & _WRITES and flags & os.O_TMPFILE != os.O_TMPFILE:
            _guarded(_saw_open, *arguments)
    elif event == "os.mkdir":
        _guarded(_saw_mkdir, *arguments)
    elif event in ("os.rename", "os.link", "os.symlink"):
        _guarded(_saw_name, *arguments)
    elif event in ("tempfile.mkstemp", "tempfile.mkdtemp"):
        _guarded(_saw_temporary, *arguments)


def _guarded(saw: Any, *arguments: Any) -> None:
    try:
        with _pauses.pause():  # our own questions are not the program's
            saw(*arguments)
    except (OSError, TypeError, ValueError):
        pass  # an invalid name, which the call itself will refuse


def _saw_open(name: str | bytes | int, mode: str | None, flags: int) -> None:
    if isinstance(name, int):
        return
    given = os.fsdecode(name)
    path = os.path.abspath(given)
    if path.startswith(_MADE_UP) and not path.startswith("/dev/shm/"):
        return
    opening = _openings.get(path)
    if opening is None:
        before = _status(path)
        if len(_openings) == _RECORDS_MAX or (before is not None and not stat.S_ISREG(before.st_mode)):
            return
        opening = _openings[path] = Opening(path, "" if given.startswith("/") else os.getcwd(), before)
        opening.is_exclusive = bool(flags & os.O_EXCL)
        opening.mode = None if mode is None else _TEXT_MODE
    opening.is_emptied |= bool(flags & os.O_TRUNC)
    opening.is_appended &= bool(flags & os.O_APPEND)


def _saw_mkdir(name: str | bytes, mode: int, directory: int) -> None:
    path = os.path.abspath(os.fsdecode(name))
    if directory == -1 and len(_directories) < _RECORDS_MAX and not os.path.lexists(path):
        _directories[path] = None


def _saw_name(_: object, name: str | bytes, *directories: int) -> None:
    if not any(directory >= 0 for directory in directories) and len(_named) < _RECORDS_MAX:
        _named[os.path.abspath(os.fsdecode(name))] = None


def _saw_temporary(name: str | bytes) -> None:
    _temporary[os.path.abspath(os.fsdecode(name))] = None


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
