"""The bound of the cache: which snapshots a commit to the cache removes. A resume never removes any.

F1  Only snapshots in the cache directory, under names that we choose, are removed: a snapshot elsewhere, at a path that
    the user chose, belongs to the user.
F2  Snapshots whose program or interpreter is gone are removed first, unless a run took them within a day: the program
    may exist on another machine. If the rest exceeds the bound, snapshots that no run can take, since a file has
    changed, are removed next, then the least recently used.
F3  The snapshot just committed is never removed, nor are its ancestors. A layer is removed before its parent; its use
    counts as a use of the parent.
F4  One process at a time does this, under a lock of the directory; others skip it. A process that runs from a removed
    file keeps its memory. A process that was about to resume the file runs cold.
F5  The work of one commit is bounded: of many files it examines a few, each time others.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import NamedTuple, TypeVar

from magicheap import _log
from magicheap._cpython_environment import ENVIRONMENT
from magicheap._errors import MagicHeapError
from magicheap._identity import content_of
from magicheap._image import open_image
from magicheap._paths import first_path, is_dangling, is_snapshot_name, links_of, variant_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from magicheap._identity import Content

_T = TypeVar("_T")

VARIABLE = "MAGICHEAP_CACHE_SIZE"
SHARE = 10  # the default bound is one part of so many of the file system; arbitrary
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LOOKS = 16  # files and links that each commit examines; arbitrary
_LOOKS_OVER_BOUND = 256
_DAY_NS = 86_400 * 10**9


class Entry(NamedTuple):
    """A file in the cache that may be a snapshot."""

    path: str
    stored_bytes: int
    used_ns: int  # when a run took it, or else when it was committed
    is_used: bool
    content: Content  # another file at this path differs in it


class State(NamedTuple):
    """What a snapshot's file tells."""

    parent: str  # the snapshot that it is a layer on, or ""
    is_gone: bool


def bound_bytes(directory: str) -> int:
    """Return how much the snapshots in a cache directory may take, by the variable or as a share of its file system; 0:
    no bound."""
    text = ENVIRONMENT.get(VARIABLE, "").strip().upper()
    number = text.rstrip("BIKMGT ")
    unit = text[len(number) :].strip().removesuffix("B").removesuffix("I")
    if number.replace(".", "", 1).isdecimal() and unit in _UNITS:
        return int(float(number) * _UNITS[unit])
    if text:
        _log.info("%s is %r, expected a number of bytes, such as 5G: the default holds", VARIABLE, text)
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize // SHARE


def forget_old(committed: str) -> None:
    """Keep the cache within the bound after the commit of a snapshot to it. OSError: that can't be done now."""
    import fcntl

    directory = os.path.dirname(committed)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _forget(directory, committed)
    except BlockingIOError:
        pass  # F4
    finally:
        os.close(lock)


def entries_of(directory: str) -> list[Entry]:
    """Return the files of this user in a directory that have names of ours."""
    found = []
    with os.scandir(directory) as listed:
        for each in listed:
            with suppress(OSError):
                if is_snapshot_name(each.name) and each.is_file(follow_symlinks=False):
                    status = each.stat(follow_symlinks=False)
                    is_used = status.st_atime_ns >= 10**9
                    used_ns = status.st_atime_ns if is_used else status.st_mtime_ns
                    entry = Entry(each.path, status.st_blocks * 512, used_ns, is_used, content_of(status))
                    found += [entry] if status.st_uid == os.geteuid() else []
    return sorted(found)


def remove(entry: Entry, why: str) -> None:
    """Remove a snapshot, unless another file has taken its place, and with the last variant the notes beside it."""
    status = os.lstat(entry.path)
    if content_of(status) != entry.content:
        return
    os.unlink(entry.path)
    _log.info("removed: %s: %s", entry.path, why)
    first = first_path(entry.path)
    if not any(map(os.path.lexists, variant_paths(first))):
        with suppress(OSError):
            os.unlink(f"{first}.seen")


def _forget(directory: str, committed: str) -> None:
    entries = [entry for entry in entries_of(directory) if entry.path != committed]
    for entry in _some(entries, _LOOKS):
        if (not entry.is_used or entry.used_ns < time.time_ns() - _DAY_NS) and (path := _missing_program(entry.path)):
            _try_remove(entry, f"{path} no longer exists")
    bound = bound_bytes(directory)
    if bound and sum(entry.stored_bytes for entry in entries_of(directory)) > bound:
        _keep_to(bound, entries_of(directory), committed)
    for link in _some(links_of(directory), _LOOKS):
        with suppress(OSError):
            if is_dangling(link):
                os.unlink(link)


def _keep_to(bound: int, entries: list[Entry], committed: str) -> None:
    states = {
        entry.path: _state(entry.path) for entry in sorted(entries, key=lambda entry: entry.used_ns)[:_LOOKS_OVER_BOUND]
    }
    states.setdefault(committed, _state(committed))
    kept = set(_ancestors(committed, states))
    used_ns = {entry.path: entry.used_ns for entry in entries}
    for entry in entries:  # F3
        for path in _ancestors(entry.path, states):
            used_ns[path] = max(used_ns.get(path, 0), entry.used_ns)
    depth = {entry.path: len(_ancestors(entry.path, states)) for entry in entries}
    unknown = State("", False)
    order = sorted(
        entries, key=lambda each: (not states.get(each.path, unknown).is_gone, used_ns[each.path], -depth[each.path])
    )
    total = sum(entry.stored_bytes for entry in entries)
    gone: set[str] = set()
    for entry in order:
        if total <= bound:
            break
        layers = [each for each in order if entry.path in _ancestors(each.path, states)[1:]]
        for each in sorted([entry, *layers], key=lambda each: -depth[each.path]):
            if each.path in kept or each.path in gone:
                continue
            _try_remove(each, f"the cache takes more than {bound} bytes ({VARIABLE})")
            gone.add(each.path)
            total -= each.stored_bytes


def _try_remove(entry: Entry, why: str) -> None:
    with suppress(OSError):
        remove(entry, why)


def _state(path: str) -> State:
    try:
        with open_image(path) as image:
            return State(image.parent(), image.is_gone())
    except (MagicHeapError, OSError) as error:
        _log.debug("no run will take %s: %s", path, error)
        return State("", True)


def _ancestors(path: str, states: dict[str, State]) -> list[str]:
    """Return the snapshot, its parent, and so on. No cycles: a parent is older than its layers."""
    chain = []
    while path in states and path not in chain:
        chain.append(path)
        path = states[path].parent
    return chain


def _missing_program(path: str) -> str:
    with suppress(MagicHeapError, OSError), open_image(path) as image:
        return next((program for program in image.programs() if _is_missing(program)), "")
    return ""


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _some(items: Sequence[_T], n_max: int) -> Iterable[_T]:
    """Return a few items in a row, from an arbitrary start, so that in time each is examined."""
    start = time.time_ns() // 1000 % max(len(items), 1) if len(items) > n_max else 0
    return [*items[start:], *items[:start]][:n_max]
