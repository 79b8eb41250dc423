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

# attributes of the module `time`, set at its load: reading them calls no function. A look at all attributes, such as
# vars(time), asks for them, too; so does setting one, since a resumed process may set them anew (time.tzset)
_ZONE = frozenset(("tzname", "timezone", "altzone", "daylight", "__dict__"))


_ModuleType = type(os)


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: object, name: str, *value: object) -> Any:
        if name in _ZONE and not _pauses.n:
            lib.mh_note_zone()
        return method(self, name, *value)

    return call


# The class of the module `time` while it is watched. Nobody can tell it from that of other modules by its name: what a
# program brings to its `with` is the same, watched or not (_brought.py).
_Module: Any = type(
    _ModuleType.__name__,
    (_ModuleType,),
    {
        "__module__": _ModuleType.__module__,
        **{name: _noting(getattr(_ModuleType, name)) for name in ("__getattribute__", "__setattr__", "__delattr__")},
    },
)


def _watch_zone() -> None:
    if type(time) is _ModuleType:
        time.__class__ = _Module


def _release_zone() -> None:
    if type(time) is _Module:
        time.__class__ = _ModuleType
