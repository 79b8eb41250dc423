"""Whether Python code looks at the arguments, sys.argv and sys.orig_argv, and what it makes of them.

watch(), release()      # the lists note a look in between
is_asked(), forget()
"""

from __future__ import annotations

import sys

from magicheap import _key, _pauses
from magicheap._cpython import change_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_arguments: list[str] | None = None  # sys.argv while it is watched,
_original: list[str] | None = None  # and sys.orig_argv
_seen: list[list[str]] = []  # each that was watched: the program may hold it under another name
_is_asked = False


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: list[str], *arguments: Any) -> Any:
        global _is_asked
        # the program's own name follows from the command
        if _pauses.n == 0 and (self is _arguments or self is _original) and arguments != (0,):
            _is_asked = True
        return method(self, *arguments)

    return call


class _Arguments(list[str]):
    """What sys.argv is while it is watched: the very list, since the program may hold it under other names."""

    __slots__ = ()

    for _name in (
        "__getitem__ __iter__ __len__ __contains__ __reversed__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __add__ "
        "__radd__ __mul__ __rmul__ __repr__ index count copy pop"
    ).split():
        # lists have no __radd__
        locals()[_name] = _watched(getattr(list, _name, lambda self, before: before + list(self)))
    __hash__ = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)  # a receiver, such as a worker of multiprocessing, need not have this package


def watch() -> None:
    global _arguments, _original
    _arguments, _original = _watch("argv"), _watch("orig_argv")


def _watch(name: str) -> list[str] | None:
    found: list[str] | None = vars(sys).get(name)
    if type(found) is not list:
        return None
    change_type(found, _Arguments)
    if not any(each is found for each in _seen):
        _seen.append(found)
    return found


def release() -> None:
    global _arguments, _original
    for watched in (_arguments, _original):
        if watched is not None:
            change_type(watched, list)
    _arguments = _original = None


def is_asked() -> bool:
    """Tell whether the program has looked at the arguments."""
    return _is_asked


def forget() -> None:
    """Drop the looks at the arguments up to here."""
    global _is_asked
    _is_asked = False


def has_changed() -> bool:
    """Tell whether the program has changed sys.argv after its own name, or left no list with a name."""
    with _pauses.pause():
        own = vars(sys).get("argv")
        return not isinstance(own, list) or not own or own[1:] != _key.arguments()


def held() -> list[list[str]]:
    """Return the lists that were sys.argv and still have its arguments, under another name of the program's: each
    resumed process puts its own there, too."""
    now, arguments = vars(sys).get("argv"), _key.arguments()
    return [each for each in _seen if each is not now and each is not sys.orig_argv and each[1:] == arguments]
