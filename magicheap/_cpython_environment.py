"""Assumptions about os.environ: a part of _cpython.py, which runs the probes."""

from __future__ import annotations

import os
import posix
import sys
from _collections_abc import KeysView

from magicheap._cpython import assumed, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any

# whatever the program makes of these names
ENVIRONMENT: Any = os.environ
ENVIRONMENT_IN_BYTES: Any = os.environb
_MAPPINGS = ("<frozen _collections_abc>", sys.modules["_collections_abc"].__file__)
_WALKERS = (os.__file__, "<frozen os>", *_MAPPINGS)
_BY_KEYS: CodeType = KeysView.__iter__.__code__


def exchange_codecs(encode: Callable[[Any], Any], decode: Callable[[Any], Any], count: Callable[[Any], Any]) -> None:
    """Wrap the functions through which each looked-up name goes, each name of an iteration, and the number of
    variables, in `encode`, `decode` and `count`."""
    kind = type(ENVIRONMENT)
    kind.__len__ = count(kind.__len__)
    for each in (ENVIRONMENT, ENVIRONMENT_IN_BYTES):
        each.encodekey, each.decodekey = encode(each.encodekey), decode(each.decodekey)


def is_of_mapping(caller: FrameType) -> bool:
    """Tell whether this frame is between the environment and the code that asks it."""
    return caller.f_code.co_filename in _WALKERS


def is_walk_of_mapping(caller: FrameType) -> bool:
    """Tell whether the frame's function asks for a value with each name."""
    return caller.f_code.co_name == "__iter__" and caller.f_code.co_filename in _MAPPINGS


def is_by_keys(caller: FrameType) -> bool:
    """Tell whether the frame's function iterates over the keys, as dict() and copy() do."""
    return caller.f_code is _BY_KEYS


def is_setting(caller: FrameType) -> bool:
    """Tell whether the frame that called encodekey sets a variable."""
    return caller.f_code.co_name == "__setitem__"


def begins_walk(caller: FrameType, name: bytes) -> bool:
    """Tell whether this is the first name of an iteration, by the frame that called decodekey; True if that is
    unknown."""
    keys = caller.f_locals.get("keys")  # of _Environ.__iter__
    return not keys or keys[0] is name


class _Refused(Exception):
    pass


@assumed("os.environ looks up by encodekey, iterates by decodekey, and is copied by its keys", heap=True)
def _probe_codecs() -> bool:
    sets: list[bool] = []
    begins: list[bool] = []
    keys: list[bool] = []

    def encode(name: bytes) -> bytes:
        sets.append(is_setting(frame(1)) and is_of_mapping(frame(1)))
        return name

    def decode(name: bytes) -> bytes:
        begins.append(begins_walk(frame(1), name))
        here: FrameType | None = frame(1)
        is_copied = False
        while here is not None and is_of_mapping(here):
            is_copied |= is_by_keys(here)
            here = here.f_back
        keys.append(is_copied and here is not None and here.f_code is _probe_codecs.__code__)
        return name

    def refuse(value: bytes) -> bytes:
        raise _Refused  # before the variable is set

    own = type(ENVIRONMENT)({b"a": b"", b"b": b""}, encode, decode, refuse, bytes)
    try:
        own[b"c"] = b""
    except _Refused:
        pass
    looked_up = own.get(b"a"), b"b" in own, own.get(b"d")
    copied = dict(own)
    is_known = sets == [True] + [False] * 5 and begins == [True, False] and keys == [True, True]
    return is_known and looked_up == (b"", True, None) and list(copied) == [b"a", b"b"]


# ---- the dict of the environment ----


def set_environment(now: dict[bytes, bytes]) -> None:
    """Give os.environ and os.environb, which stay the same objects, these variables; C's environ is not changed."""
    ENVIRONMENT._data = ENVIRONMENT_IN_BYTES._data = posix.environ = now


@assumed("os.environ keeps its variables in _data, one dict with os.environb and posix.environ")
def _probe_environment() -> bool:
    data = ENVIRONMENT._data
    own = type(ENVIRONMENT)({b"a": b"1"}, bytes, bytes, bytes, bytes)
    own._data = {b"b": b"2"}
    is_one = data is ENVIRONMENT_IN_BYTES._data is posix.environ
    return is_one and type(data) is dict and list(own) == [b"b"] and own[b"b"] == b"2"


# ---- the command line ----
