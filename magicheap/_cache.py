"""The bound of the cache: what is forgotten when a snapshot is committed to it. A resume never forgets anything.

F1  Only snapshots in the cache directory, under names that we give: what a user named by a path elsewhere is the
    user's.
F2  First go those whose program or interpreter is gone, unless a run took them within a day: such a path may be another
    machine's. If the rest takes more than the bound, those go that no run can take, since a file has changed, then the
    least recently used.
F3  Never what was just committed, nor what it is a layer on. A layer goes before what it is on, whose use counts as its
    own.
F4  One process at a time, under a lock of the directory; who comes meanwhile leaves it to that one. Whoever runs from a
    file keeps it: a name goes, the memory stays. Who was about to run from it runs cold.
F5  The work of one commit is bounded: of many files it looks into a few, others each time.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import NamedTuple, TypeVar

from magicheap import _log
from magicheap._errors import MagicHeapError
from magicheap._image import open_image
from magicheap._paths import first_path, is_dangling, is_snapshot_name, links_of, variant_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_T = TypeVar("_T")

VARIABLE = "MAGICHEAP_CACHE_SIZE"
SHARE = 10  # the default is this part of the file system; arbitrary
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LOOKS = 16  # files and links that each commit looks into; arbitrary
_LOOKS_OVER_BOUND = 256
_DAY_NS = 86_400 * 10**9


class Entry(NamedTuple):
    """A file in the cache that may be a snapshot."""

    path: str
    stored_bytes: int
    used_ns: int  # when a run took it, or else when it was committed
    is_used: bool
    identity: tuple[int, int]  # inode and mtime in ns: tells it from what may take its place


class State(NamedTuple):
    """What the file itself says."""

    parent: str  # that it is a layer on
    is_gone: bool


def bound_bytes(directory: str) -> int:
    """Return how much the snapshots in a cache directory may take, by the variable or as a share of its file system; 0:
    whatever they like."""
    text = os.environ.get(VARIABLE, "").strip().upper()
    number = text.rstrip("BIKMGT ")
    unit = text[len(number) :].strip().removesuffix("B").removesuffix("I")
    if number.replace(".", "", 1).isdecimal() and unit in _UNITS:
        return int(float(number) * _UNITS[unit])
    if text:
        _log.info("%s is %r, expected a number of bytes, such as 5G: the default holds", VARIABLE, text)
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize // SHARE


def forget_old(committed: str) -> None:
    """Keep to the bound, having committed a snapshot to the cache. OSError: that can't be done now."""
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
    """Return what has a name of ours in a directory, and is a file of this user."""
    found = []
    with os.scandir(directory) as listed:
        for each in listed:
            with suppress(OSError):
                if is_snapshot_name(each.name) and each.is_file(follow_symlinks=False):
                    status = each.stat(follow_symlinks=False)
                    is_used = status.st_atime_ns >= 10**9
                    used_ns = status.st_atime_ns if is_used else status.st_mtime_ns
                    entry = Entry(
                        each.path, status.st_blocks * 512, used_ns, is_used, (status.st_ino, status.st_mtime_ns)
                    )
                    found += [entry] if status.st_uid == os.geteuid() else []
    return sorted(found)


def remove(entry: Entry, why: str) -> None:
    """Remove a snapshot, if it still is what was judged, and what was noted beside it."""
    status = os.lstat(entry.path)
    if (status.st_ino, status.st_mtime_ns) != entry.identity:
        return
    os.unlink(entry.path)
    _log.info("forgotten: %s: %s", entry.path, why)
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
    """Return the snapshot and what it is a layer on, and so on. No cycles: a parent was there before its layers."""
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
    """Yield a few items in a row, beginning anywhere, so that each has its turn."""
    start = time.time_ns() // 1000 % max(len(items), 1) if len(items) > n_max else 0
    return [*items[start:], *items[:start]][:n_max]
