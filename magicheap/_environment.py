"""The environment of a resumed process: the one it was started with, and on top of it the program's own changes.

    see_set(is_asked)                 # in the committing process, after the body, before its questions are dropped
    delta = changes(initial)          # there
    areas = inherited(initial)        # for mh_scrub
    keep_places(initial, delta)       # for mh_renew_variables, in the committing process
    needs_more(delta)                 # whether a resumed process whose variables could all be renewed has to call
    take_up(resumed, n_left, delta)   # in a resumed process, after mh_renew_variables(resumed, left), its result

`initial` is the environment at the start of the process, a list of NAME=VALUE: read_initial(), or the launcher's list
in a process that was itself resumed.

E1  No value that the committing process inherited stays where the interpreter and the C library keep their environment,
    nor in `initial`, and no function here leaves a copy. An object that the program made of a value (a client that
    holds a key) belongs to the program, and stays.
E2  os.environ and os.environb stay the same objects, and the C library's environ has the same content. Where the names
    are those of the committing process, values are written into the very objects that had its values, if they are as
    long (native/python/environment.c). Else their dict is replaced. The old dict is never freed: that would write to
    every value in it.
E3  getenv returns an address, which C code may keep. A resumed process copies the value, which is unchanged (the
    question is an input), to that address. This is done only in the block that the kernel gave to the first process:
    the launcher's block of a resumed process is gone with that process.
E4  A variable that the program set to the value that it had, or removed though it was not there, is set or removed in
    each later run, where it may have another value. If the program asked for it, it has that value in each run: then
    the value counts as inherited, and is in no file (E1).
"""

from __future__ import annotations

import os
import posix
from typing import NamedTuple

from magicheap import _asked_environment
from magicheap._cpython import is_held_once, text_of
from magicheap._cpython_environment import set_environment
from magicheap._errors import call
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Area = tuple[int, int]  # address, size in bytes

_CHARS = ffi.typeof("char *")  # parsed here, not in each resumed process
_OTHER = lib.MH_VARIABLE_OTHER
left: Any = ffi.new("uint64_t[]", 0)  # of the variables that keep_places has kept, those which could not be renewed
_held: dict[bytes, Area] = {}  # of values that C code asked for (E3)
_c_own: set[bytes] = set()  # variables that C code, or Python through it, has set or removed (E4); b"": all of them


class Delta(NamedTuple):
    """The program's changes to os.environ, and to the C library's environ (`c_`), each by itself."""

    set: dict[bytes, bytes]
    removed: frozenset[bytes]
    c_set: dict[bytes, bytes]
    c_removed: frozenset[bytes]
    c_is_cleared: bool  # all but c_set are removed
    is_empty: bool
    old: dict[bytes, bytes]  # to free it in a resumed process would write to every value in it


def read_initial() -> list[bytes]:
    """Return the environment that the kernel started this process with. OSError: there is no /proc."""
    size, length = 1 << 16, 1 << 16
    while length == size:
        size *= 2
        block = bytearray(size)
        with open("/proc/self/environ", "rb", buffering=0) as file:
            length = 0
            while read := file.readinto(memoryview(block)[length:]):
                length += read
        entries = [] if length == size else _split(block, length)
        block[:] = bytes(size)  # E1
    return entries


def see_set(is_asked: Callable[[bytes], bool]) -> None:
    """Remember which variables C's environ got or lost."""
    i = ffi.new("uint32_t *")
    while name := lib.mh_next_set_variable(i):
        if not (text := ffi.string(name)) or not (is_asked(text) or lib.mh_asked_variable(name)):
            _c_own.add(text)


def changes(initial: list[bytes]) -> Delta:
    """Return how the environment differs from `initial`, or may differ from that of a later run (E4)."""
    before, now, own = _by_name(initial), posix.environ, _asked_environment.own()
    # nobody can set a variable without a name
    changed = {name: value for name, value in now.items() if name and (name in own or not _has(before, name, value))}
    c_is_cleared = b"" in _c_own
    c_set, c_names = {}, set()
    for name, address, view in _c_entries():
        if name in c_names:
            continue  # getenv finds the first
        c_names.add(name)
        if len(view) and address in _BLOCK and _has(before, name, view) and lib.mh_asked_variable(name):
            _held[name] = address, len(view)
        if c_is_cleared or name in _c_own or not _has(before, name, view):
            c_set[name] = bytes(view)
    removed = frozenset((before.keys() | own) - now.keys())
    c_removed = frozenset((before.keys() | now.keys() | _c_own) - c_names - {b""})
    is_empty = not (changed or removed or c_set or c_removed or c_is_cleared)
    return Delta(changed, removed, c_set, c_removed, c_is_cleared, is_empty, now)


def inherited(initial: list[bytes]) -> list[Area]:
    """Return the areas of values that are still those of `initial`, and of `initial` itself."""
    before = _by_name(initial)
    areas = [text_of(entry) for entry in initial]
    for name in posix.environ:
        # else the program refers to it, too
        if _has(before, name, posix.environ[name]) and is_held_once(posix.environ, name):
            areas.append(text_of(posix.environ[name]))
    for name, address, view in _c_entries():
        if len(view) and _has(before, name, view):
            areas.append((address, len(view)))
    areas.extend(_held.values())
    return [area for area in areas if area[1] > 1]  # the interpreter shares shorter bytes objects; they hold no secret


def keep_places(initial: list[bytes], delta: Delta) -> None:
    """Remember where the values are that a resumed process may replace, unless its os.environ would have another
    order."""
    global left
    changed = delta.removed | delta.set.keys()
    named = _by_name(initial)
    order = [name for name in reversed(named) if name not in delta.removed]
    order += [name for name in delta.set if name not in named]
    is_kept = len(named) == len(initial) and order == list(posix.environ)
    kept = [(name, _OTHER, b"") if name in changed else _use_of(name) for name in reversed(named)] if is_kept else []
    names = [ffi.new("char[]", name) for name, _, _ in kept]
    places = [text_of(value) for _, _, value in kept]
    addresses, sizes = [address for address, _ in places], [size for _, size in places]
    call(lib.mh_keep_variables, names, addresses, sizes, bytes(use for _, use, _ in kept), len(kept))
    left = ffi.new("uint64_t[]", len(kept))


def _use_of(name: bytes) -> tuple[bytes, int, bytes]:
    # the shortest bytes objects are the interpreter's own
    is_own = len(posix.environ[name]) > 1 and is_held_once(posix.environ, name)
    return name, lib.MH_VARIABLE_OWN if is_own else lib.MH_VARIABLE_HELD, posix.environ[name]


def time_zone() -> int | None:
    """Return a hash of TZ: its object may get another value (mh_renew_variables)."""
    value = posix.environ.get(b"TZ")
    return None if value is None else hash(value)


def needs_more(delta: Delta) -> bool:
    """Tell whether there is more to take up than what mh_renew_variables does."""
    return bool(_held) or not delta.is_empty


def take_up(resumed: Any, n_left: int, delta: Delta) -> None:
    """Complete the content of os.environ, which has all but `left` of the values that this process was started with;
    n_left < 0: it has none. Then make the program's changes, in C's environ, too."""
    if n_left < 0:
        now = _anew([ffi.string(resumed.envp[k]) for k in range(resumed.envc)])
        set_environment(now)
    else:
        now = posix.environ
        for k in range(n_left):
            name, _, now[name] = ffi.string(resumed.envp[left[k]]).partition(b"=")
    for name, (address, size) in _held.items():
        if len(value := now.get(name, b"")) == size:
            ffi.memmove(ffi.cast(_CHARS, address), value, size)
    if not delta.is_empty:
        _apply(delta, now)


def _anew(entries: list[bytes]) -> dict[bytes, bytes]:
    now: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if equals:
            now.setdefault(name, value)
    return now


def _apply(delta: Delta, now: dict[bytes, bytes]) -> None:
    for name in delta.removed:
        now.pop(name, None)
    now.update(delta.set)
    for name in {name for name, _, _ in _c_entries()} if delta.c_is_cleared else delta.c_removed:
        os.unsetenv(name)
    for name, value in delta.c_set.items():
        os.putenv(name, value)


def _split(block: bytearray, length: int) -> list[bytes]:
    entries, start = [], 0
    while (end := block.find(b"\0", start, length)) >= 0:
        entries.append(bytes(memoryview(block)[start:end]))
        start = end + 1
    return entries


def _by_name(entries: list[bytes]) -> dict[bytes, bytes]:
    """Return the entries by name; of equal names the first counts, as in getenv and os.environ. An entry that begins
    with = has no name: C finds it by none, and nobody can set it."""
    return {entry[:end]: entry for entry in reversed(entries) if (end := entry.find(b"=")) > 0}


def _has(entries: dict[bytes, bytes], name: bytes, value: bytes | memoryview) -> bool:
    entry = entries.get(name)
    return entry is not None and memoryview(entry)[len(name) + 1 :] == value


def _c_entries() -> Iterator[tuple[bytes, int, memoryview]]:
    """Yield name, address of the value, and a view of the value, for each entry of the C library's environ."""
    i, sizes = 0, ffi.new("uint64_t[2]")
    while entry := lib.mh_environment_entry(i, sizes, sizes + 1):
        i += 1
        n_name, length = sizes
        if 0 < n_name < length:
            address = int(ffi.cast("uintptr_t", entry)) + n_name + 1
            yield ffi.unpack(entry, n_name), address, memoryview(ffi.buffer(entry, length))[n_name + 1 :]


def _initial_block() -> range:
    """Return the addresses of the environment that the kernel made."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    # env_start and env_end, fields 50 and 51 of proc(5), counted from the third
    start, end = int(fields[47]), int(fields[48])
    return range(start, end)


_BLOCK = _initial_block()  # of the first process, which imported this module
