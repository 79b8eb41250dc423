"""Which variables of the environment Python code asks for: by name, or by a loop over all.

    watch(), release()     # os.environ and os.environb note their questions in between
    variables(), walks()   # the questions; forget() drops them
    is_asked(name)         # whether the variable is among them
    own()                  # variables that the program has set or removed without asking for them

A loop over the whole environment asks for all of it, or for the variables that the loop selects (_walks.py); its
length asks for all of it. A copy by C code, as dict(), copy(), {**os.environ} and os.environ | {} make it, asks for no
variable: programs so make the environment of a child process, which is no question of ours. What is read from the copy,
or from the dict below os.environ, is not seen.
"""

from __future__ import annotations

from magicheap import _pauses
from magicheap._cpython import frame as frame_of
from magicheap._cpython import is_at_loop
from magicheap._cpython_environment import (
    begins_walk,
    exchange_codecs,
    is_by_keys,
    is_of_mapping,
    is_setting,
    is_walk_of_mapping,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

_variables: set[bytes] = set()
_own_variables: set[bytes] = set()  # that the program set before it asked for them: it then reads its own values
_is_copy_of_names = False  # and no value was read since
_copier: tuple[CodeType, int] | None = None  # the instruction by which all of the environment was copied last
_walked: bytes | None = None  # the last name of an iteration
_patterns: dict[str, None] = {}  # of the names that loops over the environment select, each with one *


def watch() -> None:
    exchange_codecs(_encoding, _decoding, _counting)


def release() -> None:
    exchange_codecs(_inner, _inner, _inner)


def forget() -> None:
    _variables.clear()
    _patterns.clear()


def variables() -> list[bytes]:
    """Return the names of the variables that the program asked for."""
    return sorted(_variables)


def walks() -> list[str]:
    """Return patterns of names, each with one *: the program asked for all variables that match."""
    _see_copy_of_names()
    return sorted(_patterns)


def is_asked(name: bytes) -> bool:
    """Tell whether the variable is an input, so that its value in each later run is that of this one."""
    return name in _variables or _walks_all()


def own() -> frozenset[bytes]:
    """Return the names of the variables that the program has set, though it may have removed them since. What they were
    before makes no difference to it, and is no input."""
    return frozenset(_own_variables)


def _walks_all() -> bool:
    return "*" in _patterns


# The wrappers are functions with the names of what they wrap: the program may look at os.environ.encodekey.


def _encoding(inner: Any) -> Any:
    """Wrap the environment's encodekey, which each look-up by name calls."""

    def encode(key: Any) -> bytes:
        name: bytes = inner(key)
        method = frame_of(1)
        if _pauses.n == 0 and name not in _own_variables and not _is_of_a_walk(name, method.f_back):
            if not is_setting(method):
                _variables.add(name)
            elif not is_asked(name):
                _own_variables.add(name)
        return name

    return _wrapper(encode, inner)


def _decoding(inner: Any) -> Any:
    """Wrap the environment's decodekey, which an iteration over all variables calls for each name."""

    def decode(name: bytes) -> Any:
        global _walked
        _walked = name
        if _pauses.n == 0 and begins_walk(walker := frame_of(1), name):
            _saw_walk(walker)
        return inner(name)

    return _wrapper(decode, inner)


def _counting(inner: Any) -> Any:
    """Wrap the environment's __len__."""

    def count(environment: Any) -> int:
        if _pauses.n == 0:
            _saw_walk(frame_of(1))
        n: int = inner(environment)
        return n

    return _wrapper(count, inner)


def _wrapper(function: Any, inner: Any) -> Any:
    function.__wrapped__ = inner
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(function, name, getattr(inner, name, None))
    return function


def _inner(function: Any) -> Any:
    return getattr(function, "__wrapped__", function)


def _saw_walk(frame: FrameType | None) -> None:
    global _copier, _is_copy_of_names
    is_copied = False  # as dict() does
    while frame and is_of_mapping(frame):
        is_copied |= is_by_keys(frame)
        frame = frame.f_back
    if frame is None:
        return
    with _pauses.pause():
        from magicheap import _walks

        is_loop = is_at_loop(frame)
        _see_copy_of_names()
        if (is_copied and not is_loop) or frame.f_globals.get("__name__") == "subprocess":
            _copier, _is_copy_of_names = (frame.f_code, frame.f_lasti), is_copied
        else:
            _patterns.update(dict.fromkeys(_walks.patterns(frame) if is_loop else [_walks.ALL]))


def _is_of_a_walk(name: bytes, frame: FrameType | None) -> bool:
    """Tell whether a value is read by an iteration: in a loop over all, or by the instruction that has just copied all
    names."""
    global _is_copy_of_names
    if name == _walked and _walks_all():
        return True
    if frame and is_walk_of_mapping(frame):
        return True
    while frame and is_of_mapping(frame):
        frame = frame.f_back
    is_copy = frame is not None and (frame.f_code, frame.f_lasti) == _copier
    _is_copy_of_names &= not is_copy
    return is_copy


def _see_copy_of_names() -> None:
    """Record a question for all names if they were copied by keys() and no value was read since: that was no dict()."""
    global _is_copy_of_names
    if _is_copy_of_names:
        _patterns["*"] = None
    _is_copy_of_names = False
