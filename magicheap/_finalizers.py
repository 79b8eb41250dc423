"""Which objects are *heard* at the end: their finalizer, or a weak reference's callback, does more than free memory.

    carriers(objects)      # those of `objects` that have a finalizer or a callback
    is_heard(each)         # whether it would have an effect in the present state
    closable(heard)        # the objects that are heard, if their only effect is to write and close files

F1  An object that is not known to be silent is heard: each class with a __del__ of its own, each subclass of a type
    named here.
F2  No code is called that a program could have written: kinds are recognised by their exact types. For some classes of
    the standard library it is known when their work is done (_LIBRARY_RULES).
F3  Silent are: generators that have ended, have not begun, or are suspended outside any try; files that are closed, in
    memory, or without unwritten data, unless a ResourceWarning would be shown; weak references whose callback only
    maintains the standard library's own tables, or ours.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import types
import warnings
import weakref

from magicheap._cpython_library import (
    TEMPORARY_FILE_CLOSER,
    is_collected,
    is_housekeeping,
    is_housekeeping_in_c,
)
from magicheap._native import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_IN_MEMORY = (io.BytesIO, io.StringIO)
_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
# Of most objects; none of them is a carrier, and no program can change that.
_silent_kinds = {tuple, list, dict, set, types.FunctionType, types.BuiltinFunctionType, types.CellType, types.FrameType}
_mro: Any = type.__dict__["__mro__"].__get__  # not cls.__mro__, which a metaclass might answer
_callback: Any = weakref.ReferenceType.__dict__["__callback__"].__get__
_members: Any = type.__dict__["__dict__"].__get__


def carriers(objects: Iterable[Any]) -> list[Any]:
    """Return the objects with a finalizer, and weak references with a callback. Objects that the collector does not
    know are represented by their class."""
    of_kind: dict[type, bool] = {}
    found = []
    for each in objects:
        kind = type(each)
        if kind in _silent_kinds:
            continue
        if kind not in of_kind:
            of_kind[kind] = _is_carrier(kind)
        if of_kind[kind]:
            found.append(each)
    for kind in of_kind:
        if issubclass(kind, type):
            found += _uncollected(kind, objects)
    return found


def _is_carrier(kind: type) -> bool:
    return kind not in _IN_MEMORY and (
        _finalizer(kind) is not None or weakref.ReferenceType in _mro(kind) or kind in _PROXIES
    )


def _finalizer(kind: type) -> object:
    return next((_members(base)["__del__"] for base in _mro(kind) if "__del__" in _members(base)), None)


def _uncollected(kind: Any, objects: Iterable[Any]) -> list[type]:
    """Return the classes with a __del__ in Python whose instances the collector does not know."""
    classes = [each for each in objects if type(each) is kind and not is_collected(each)]
    return [each for each in classes if isinstance(_finalizer(each), types.FunctionType)]


def is_heard(each: Any) -> bool:
    """Return whether the end of `each`, a carrier, could have a visible effect, outside or in the program."""
    kind = type(each)
    if weakref.ReferenceType in _mro(kind):
        return _is_reference_heard(each)
    if kind in _PROXIES:
        return bool(gc.get_referents(each))  # its callback
    rule = _RULES.get(kind) or _rule_of_library(kind)
    return rule is None or rule(each)


def _rule_of_library(kind: type) -> Any:
    """Return the rule for a class of the standard library, if this is that class with its original __del__."""
    name = (_members(kind).get("__module__"), kind.__name__)
    own = (
        getattr(sys.modules.get(name[0]), name[1], None) is kind
        and getattr(_finalizer(kind), "__module__", name[0]) == name[0]
    )
    return _LIBRARY_RULES.get(name) if own else None


def _is_reference_heard(each: Any) -> bool:
    callback = _callback(each)
    if callback is None or weakref.ReferenceType.__call__(each) is None:
        return False
    if type(callback) is types.FunctionType:
        return not is_housekeeping(callback) or isinstance(each, weakref.WeakMethod)
    if type(callback) is not types.BuiltinFunctionType:
        return True
    owner = type(callback.__self__).__name__
    # a destructor of C++ that only drops an object
    return not is_housekeeping_in_c(callback) and owner != "PyCapsule" and not owner.startswith("pybind11_")


def _is_generator_heard(each: types.GeneratorType[Any, Any, Any]) -> bool:
    return each.gi_suspended and (bool(each.gi_code.co_exceptiontable) or each.gi_yieldfrom is not None)


def _is_raw_heard(each: io.FileIO) -> bool:
    return not each.closed and each.closefd and _are_leaks_told()


def _is_reader_heard(each: io.BufferedReader) -> bool:
    return type(each.raw) is not io.FileIO or _is_raw_heard(each.raw)


def _is_text_heard(each: io.TextIOWrapper) -> bool:
    buffer: Any = each.buffer  # may be any object of the program
    if (
        type(buffer) in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
        and type(buffer.raw) is io.FileIO
        and buffer.closed
    ):
        return False
    return type(buffer) is not io.BufferedReader or _is_reader_heard(buffer)


def _is_writer_heard(each: io.BufferedWriter | io.BufferedRandom) -> bool:
    return not (type(each.raw) is io.FileIO and each.closed)


# in the order of closing
_LAYERS: dict[type, int] = {io.TextIOWrapper: 0, io.BufferedWriter: 1, io.BufferedRandom: 1, io.FileIO: 2}


def closable(heard: list[Any]) -> list[Any] | None:
    """Return the files in the order in which to close them, or None if one is not CPython's own, or would be warned
    of."""
    if any(not _is_file_of_cpython(each) for each in heard) or (heard and _are_leaks_told()):
        return None
    return sorted(heard, key=lambda each: _LAYERS[type(each)])


def _is_file_of_cpython(each: Any) -> bool:
    if type(each) is io.TextIOWrapper:
        return type(each.buffer) in _LAYERS and _is_file_of_cpython(each.buffer)
    return type(each) is io.FileIO or (type(each) in _LAYERS and type(each.raw) is io.FileIO)


def _are_leaks_told() -> bool:
    """Return whether a ResourceWarning might be shown."""
    for action, message, category, module, line in warnings.filters:
        if issubclass(ResourceWarning, category):
            if action != "ignore":
                return True
            if message is module is None and not line:
                return False
    return True


_OWN = ffi.gc(ffi.new("mh_error *"), lambda error: None)
_OWN_TYPES = (ffi.typeof("mh_transaction *"), ffi.typeof("mh_error *"), ffi.typeof("mh_image *"))

_RULES: dict[type, Any] = {
    type(_OWN): lambda each: ffi.typeof(each) not in _OWN_TYPES,
    types.GeneratorType: _is_generator_heard,
    types.CoroutineType: lambda each: each.cr_frame is not None,
    types.AsyncGeneratorType: lambda each: each.ag_frame is not None,
    io.FileIO: _is_raw_heard,
    io.BufferedReader: _is_reader_heard,
    io.BufferedWriter: _is_writer_heard,
    io.BufferedRandom: _is_writer_heard,
    io.TextIOWrapper: _is_text_heard,
}

# Classes of the standard library with a __del__ that programs often keep alive after use.
_LIBRARY_RULES: dict[Any, Any] = {
    ("socket", "socket"): lambda each: each.fileno() != -1,
    ("sqlite3", "Connection"): lambda each: _are_leaks_told(),
    ("subprocess", "Popen"): lambda each: each.returncode is None,
    TEMPORARY_FILE_CLOSER: lambda each: not each.close_called,
    ("zipfile", "ZipFile"): lambda each: each.fp is not None,
}


def streams_are_clean() -> set[int] | None:
    """Return the ids of the standard streams and of the objects they consist of, if all output has been written; else
    None.

    CPython has flushed them once. Whether that failed only CPython knows; a second flush then fails again, if the
    descriptor is blocking.
    """
    spared: set[int] = set()
    for stream, original, fd in ((sys.stdout, sys.__stdout__, 1), (sys.stderr, sys.__stderr__, 2)):
        if stream is not original:
            return None
        layers = [] if stream is None else _layers(stream, fd)
        if layers is None or (stream is not None and layers and not stream.closed and not _is_written(layers)):
            return None
        spared.update(map(id, layers))
    return spared


def _layers(stream: Any, fd: int) -> list[Any] | None:
    """Return the objects that a stream consists of, if all are CPython's own."""
    if type(stream) is not io.TextIOWrapper:
        return None
    layers: list[Any] = [stream, stream.buffer]
    if type(layers[-1]) is io.BufferedWriter:  # not under PYTHONUNBUFFERED
        layers.append(layers[-1].raw)
    return layers if type(layers[-1]) is io.FileIO and (layers[-1].closed or layers[-1].fileno() == fd) else None


def _is_written(layers: list[Any]) -> bool:
    try:
        layers[0].flush()
        return os.get_blocking(layers[-1].fileno())
    except (OSError, ValueError):
        return False
