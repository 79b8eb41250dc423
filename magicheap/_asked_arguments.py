"""Whether Python code looks at the arguments, sys.argv and sys.orig_argv, and what it makes of them.

watch(), release()      # the lists note a look in between
is_asked(), forget()
"""

from __future__ import annotations

import sys

from magicheap import _key, _pauses
from magicheap._cpython import weak_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_arguments: _Arguments | None = None  # sys.argv while it is watched,
_plain_arguments: list[str] = []  # and the list that it replaces
_original: _Arguments | None = None  # likewise sys.orig_argv
_plain_original: list[str] = []
_others: list[weak_reference[_Arguments]] = []  # earlier ones, which the program may hold
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
    """sys.argv while it is watched."""

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
    global _arguments, _plain_arguments, _original, _plain_original
    if type(vars(sys).get("argv")) is list:
        _plain_arguments = sys.argv
        sys.argv = _arguments = _Arguments(sys.argv)
    if type(vars(sys).get("orig_argv")) is list:
        _plain_original = sys.orig_argv
        sys.orig_argv = _original = _Arguments(sys.orig_argv)


def release() -> None:
    global _arguments, _original
    watched, _arguments = _arguments, None
    is_in_place = vars(sys).get("argv") is watched
    if watched is not None:
        _others.append(weak_reference(watched))
    if watched is not None and is_in_place:
        _plain_arguments[:] = watched
        sys.argv = _plain_arguments
    original, _original = _original, None
    is_in_place = vars(sys).get("orig_argv") is original
    if original is not None and is_in_place:
        _plain_original[:] = original
        sys.orig_argv = _plain_original


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
    """Return the lists that were sys.argv and that the program still holds: each resumed process puts its arguments
    there, too."""
    return [each for reference in _others if (each := reference()) is not None]
