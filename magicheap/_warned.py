"""Warnings are for the author of a program, not for each of its users: a warning is shown once a day for a snapshot and
a cause.

V1  A warning of ours never ends a program. A filter that makes it an error only shows it, and the program goes on.
V2  A shown warning is recorded in the cache directory, else for this boot or in the directory of temporary files, as an
    empty file of ours. Where it can't be recorded, no warning is shown: every user of a tool on such a machine would
    see it in each run. Marks of programs that have reached a transaction lie beside the records (magicheap_start.py).
V3  MAGICHEAP_LOG=info, or a filter that names MagicHeapWarning, shows all warnings.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
import warnings

from magicheap import _openings
from magicheap._cpython import blake2b
from magicheap._cpython import frame as frame_of
from magicheap._cpython_environment import ENVIRONMENT
from magicheap._errors import MagicHeapWarning
from magicheap._log import is_told
from magicheap._paths import cache_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY_S = 24 * 3600
_MARKS_MAX = 256  # arbitrary; half of them go when there are more
_MARK = re.compile("[0-9a-f]{24}")  # a file's name
_CHANGING = re.compile(r"0x[0-9a-f]+|[0-9]+")  # in a message: ids, addresses, sizes


def warn(path: str, message: str) -> None:
    """Warn about the snapshot at `path`, at the line of the program's code that led here."""
    if not _is_due(path, message):
        return
    level, frame = 1, frame_of(0)
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("magicheap."):
        level, frame = level + 1, frame.f_back
    try:
        warnings.warn(message, MagicHeapWarning, stacklevel=level)
    except Exception:  # V1; or the program's own function that shows warnings has failed
        text = warnings.formatwarning(message, MagicHeapWarning, frame.f_code.co_filename, frame.f_lineno)
        if sys.stderr is not None:
            print(text, end="", file=sys.stderr)


def _is_due(path: str, message: str) -> bool:
    if is_told(b"info") or any(each[2] is MagicHeapWarning for each in warnings.filters):
        return True  # V3
    cause = f"{path}\0{_CHANGING.sub('#', message.replace(path, ''))}"
    name = blake2b()(cause.encode(errors="surrogateescape"), digest_size=12).hexdigest()
    for place in _places():
        try:
            return _mark(place, name)
        except OSError:
            continue
    return False


def mark_program(path: str) -> bool:
    """Leave the mark by which magicheap_start.py recognises this program; return whether it exists. `path`: "" for a
    program that can have none."""
    try:
        if path and _is_ours_to_make(os.path.dirname(os.path.dirname(path))):
            _mark(os.path.dirname(path), os.path.basename(path))
            return True
    except OSError:
        pass
    return False


def _places() -> Iterator[str]:
    cache = cache_directory()
    if _is_ours_to_make(cache):
        yield os.path.join(cache, "warned")
    yield from _other_places()


def _other_places() -> Iterator[str]:
    if runtime := ENVIRONMENT.get("XDG_RUNTIME_DIR"):
        yield os.path.join(runtime, "magicheap-warned")
    yield os.path.join(ENVIRONMENT.get("TMPDIR") or "/tmp", f"magicheap-warned-{os.geteuid()}")


def forget_all(cache: str | None) -> Iterator[str]:
    """Remove the records of shown warnings; yield each removed directory. `cache`: the cache directory; None: the
    user's."""
    for directory in (
        [os.path.join(cache, "warned")] if cache else [os.path.join(cache_directory(), "warned"), *_other_places()]
    ):
        try:
            if not _is_ours(os.lstat(directory)):
                continue
            for entry in os.scandir(directory):
                if _MARK.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)
            os.rmdir(directory)
        except OSError:  # it does not exist, or holds other files
            continue
        yield directory


def _is_ours_to_make(directory: str) -> bool:
    """Tell whether the existing part of a path belongs to this user: root makes nothing in another user's home."""
    while not os.path.isdir(directory):
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent
    return os.stat(directory).st_uid == os.geteuid()


def _mark(directory: str, name: str) -> bool:
    """Return whether this was not shown today, and record it as shown."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    found = os.lstat(directory)
    if not _is_ours(found):
        raise PermissionError(f"{directory} could belong to another user")
    path = os.path.join(directory, name)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        if abs(time.time() - os.lstat(path).st_mtime) < _DAY_S:
            return False
        os.utime(path, follow_symlinks=False)
        return True
    _forget_some(directory)
    _openings.forget(directory)
    return True


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _forget_some(directory: str) -> None:
    entries = list(os.scandir(directory))
    if len(entries) > _MARKS_MAX:
        for entry in sorted(entries, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)[: len(entries) // 2]:
            os.unlink(entry.path)
