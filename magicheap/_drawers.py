"""Libraries that drew random bytes from the kernel in the body: which of their generators are known, and which are not.

    unknown(forks)       # paths of modules whose generators may repeat
    sqlite_resets()      # steps for each copy of SQLite, to be taken in a resumed process

A module is known if one of these holds, whatever is linked into it:

D1  It is the interpreter (_generators.py), ourselves, or libuuid (_reseed.py).
D2  It is a copy of SQLite that can be reset.
D3  It holds OpenSSL 1.1.1 or later, or BoringSSL. OpenSSL reseeds when the process id differs from that at its last
    use, which a resume ensures (native/sys/sys_other_id.c). BoringSSL reseeds when memory that a fork wipes was wiped,
    as it is by a resume.
D4  It draws only keys of hash tables: libxml2, and Rust's ahash, which draws 64 bytes for that. These keys stay shared,
    like the interpreter's.
D5  Its package renews its generator in a fork handler, and fork handlers run: not with threads that are carried.
"""

from __future__ import annotations

import os
import re
import sys

from magicheap import _symbols
from magicheap._cpython import sqlite_extension
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_AHASH_BYTES = 64  # eight words of two generators' state (ahash, src/random_state.rs)
_RUST_GENERATOR = re.compile(rb"/rand-0\.[0-9.]+/src/rngs/")
_HOLDS = re.compile(rb"OpenSSL (?:1\.1\.1|[3-9]\.)|BoringSSL|AWS-LC|xmlSAX2StartDocument")
_RENEWED_BY_FORK_HANDLERS = ("uuid_utils",)
_KNOWN_NAMES = re.compile(r"/(?:libuuid\.so|libpython3|libcrypto\.so)[^/]*$")


def _modules() -> dict[str, int]:
    """Return the paths of the modules that drew, and the size of each draw (0: they differ)."""
    found = {}
    for i in range(lib.mh_drawer_count()):
        path = lib.mh_drawer_path(i)
        if path != ffi.NULL:
            found[os.fsdecode(ffi.string(path))] = lib.mh_drawer_size(i)
    return found


def _is_known(path: str, size: int, forks: bool) -> bool:
    if not path or _KNOWN_NAMES.search(path) or path == sys.modules["magicheap._native"].__file__ or _sqlite_of(path):
        return True
    if any(_is_below(path, name) for name in _RENEWED_BY_FORK_HANDLERS):
        return forks
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    if size == _AHASH_BYTES and b"/ahash-0." in content:
        return True
    return bool(_HOLDS.search(content)) and not _RUST_GENERATOR.search(content)


def _is_below(path: str, package: str) -> bool:
    own = getattr(sys.modules.get(package), "__file__", None)
    return own is not None and path.startswith(os.path.dirname(own) + "/")


def unknown(forks: bool) -> list[str]:
    """Return the paths of modules whose own generators may repeat their numbers; `forks`: handlers of a fork will run
    in a resumed process."""
    found = sorted(path for path, size in _modules().items() if not _is_known(path, size, forks))
    return found if lib.mh_drawers_are_complete() else [*found, "further libraries"]


# ---- SQLite ----


class _Sqlite:
    """A copy that exports sqlite3_randomness: a call without a buffer makes it forget its seed
    (sqlite.org/c3ref/randomness.html)."""

    def __init__(self, function: Any) -> None:
        self._randomness = function

    def __call__(self) -> None:
        self._randomness(0, ffi.NULL)


def _reset_apsw() -> None:
    sys.modules["apsw"].randomness(0)


def _reset_by_opening() -> None:
    """Open a file, even in vain: SQLite then compares the process id with that of its last seed (os_unix.c,
    unixOpen)."""
    sqlite3: Any = sqlite_extension()
    try:
        sqlite3.connect("file:/dev/null?mode=ro", uri=True).close()
    except sqlite3.OperationalError:
        pass


def _sqlite_of(path: str) -> Callable[[], object] | None:
    """Return the step that resets the copy of SQLite in this module; None: no copy, or one that can't be reached."""
    if _is_below(path, "apsw"):
        return _reset_apsw
    try:
        return _Sqlite(_symbols.function(path, "sqlite3_randomness", "void(int, void *)"))
    except AttributeError:
        return _reset_by_opening if path == getattr(sqlite_extension(), "__file__", None) else None


def sqlite_resets(mapped: list[str]) -> list[tuple[str, Callable[[], object]]]:
    """Return a step for each copy of SQLite. `mapped`: libraries that are copies, even if they drew before draws were
    recorded."""
    paths = dict.fromkeys([*mapped, *_modules()])
    own = getattr(sqlite_extension(), "__file__", None)
    found = {
        os.path.realpath(path): (f"SQLite ({path})", step)
        for path in [*paths, *filter(None, [own])]
        if path and (step := _sqlite_of(path))
    }
    return list(found.values())
