"""Whether Python code asks for the host, the kernel or the time zone.

watch(), release()     # os.uname, platform and time note their questions in between, in native/route/questions.h
"""

from __future__ import annotations

import os
import posix
import time

from magicheap import _pauses
from magicheap._cpython import frame as frame_of
from magicheap._native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_is_watched = False
_real_uname = posix.uname


def watch() -> None:
    global _is_watched
    _is_watched = True
    os.uname = posix.uname = _uname
    _watch_zone()


def release() -> None:
    global _is_watched
    _is_watched = False
    os.uname = posix.uname = _real_uname
    _release_zone()


# ---- host and kernel ----


def _field(i: int) -> property:
    return property(lambda self: tuple.__getitem__(self, i))


class _Uname(tuple[str, ...]):
    """The result of os.uname while it is watched: only a look at the host's name asks for that, since libraries look at
    the kernel's version alone."""

    sysname, release, version, machine = (_field(i) for i in (0, 2, 3, 4))

    @property
    def nodename(self) -> str:
        return str(self[1])

    def __getitem__(self, i: Any) -> Any:
        if i not in (0, 2, 3, 4, -5, -3, -2, -1):
            lib.mh_note_host(True)
        return super().__getitem__(i)

    def __iter__(self) -> Iterator[str]:
        lib.mh_note_host(True)
        return super().__iter__()


def _uname() -> Any:
    with _pauses.pause():
        found = _real_uname()
    if _pauses.n:
        return found
    lib.mh_note_host(False)
    caller = frame_of(1)
    if caller.f_globals.get("__name__") != "platform":
        return _Uname(found)
    asker = caller.f_back  # platform.machine and similar functions look at one part of platform.uname
    if asker is None or asker.f_globals.get("__name__") != "platform" or asker.f_code.co_name == "node":
        lib.mh_note_host(True)
    elif not isinstance(caller.f_globals.get("node"), _Node):
        caller.f_globals["node"] = _Node(caller.f_globals["node"])  # platform caches the answer
    return found


class _Node:
    """Replaces platform.node once platform has cached the answer."""

    def __init__(self, inner: Callable[[], str]) -> None:
        self._inner = inner

    def __call__(self) -> str:
        if _is_watched and not _pauses.n:
            lib.mh_note_host(True)
        return self._inner()


# ---- the time zone ----

# attributes of the module `time`, set at its load: reading them calls no function
_ZONE = ("tzname", "timezone", "altzone", "daylight")
_hidden: dict[str, Any] = {}


def _watch_zone() -> None:
    variables = vars(time)
    if _hidden or not all(name in variables for name in _ZONE) or "__getattr__" in variables or "__all__" in variables:
        return
    variables["__all__"] = [name for name in variables if not name.startswith("_")]
    _hidden.update({name: variables.pop(name) for name in _ZONE})
    variables["__getattr__"] = _of_zone


def _release_zone() -> None:
    variables = vars(time)
    if _hidden:
        del variables["__getattr__"], variables["__all__"]
        for name, value in _hidden.items():
            variables.setdefault(name, value)  # time.tzset sets them anew
        _hidden.clear()


def _of_zone(name: str) -> Any:
    if name not in _hidden:
        raise AttributeError(f"module 'time' has no attribute {name!r}", name=name, obj=time)
    if not _pauses.n:
        lib.mh_note_zone()
    return _hidden[name]
