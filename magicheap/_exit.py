"""The end of a resumed process: all that a program may rely on happens, but what was loaded is not taken apart object by object.

    kept = prepare()       # in the committing process, last thing before the fork
    go_on(kept)            # in the committing process, when it is done
    take_up(kept)          # in a resumed process

CPython ends by joining threads, calling what atexit has, flushing the standard streams, and then destroying every module; the last
part takes longer than the resume, and writes to each page of the heap. In its stead:

X1  At the commit everything there is goes to the collector's permanent generation, as gc.freeze advises: no later collection
    writes to it, and what the collector knows of at the end came later.
X2  As soon as the modules are to be destroyed (the collection before that calls us), objects that came later and have a
    finalizer are finalized, files last, and files that were open at the commit after them: buffers are flushed, temporary files removed.
X3  Then the modules are kept from being found, and CPython's own end goes on, with its exit status, to C's atexit handlers.
X4  Callbacks of weak references are not called for what is left; weakref.finalize is, as it uses atexit. The local variables
    of functions are taken apart as ever when these return: the `with` of a big load belongs at the top of a module.
X5  A program that calls gc.freeze or gc.unfreeze itself ends as any other does.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import sys
import weakref
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ctypes.pythonapi.PyObject_CallFinalizer.argtypes = [ctypes.py_object]
ctypes.pythonapi.PyObject_CallFinalizer.restype = None

_LAYERS = (io.TextIOBase, io.BufferedIOBase, io.RawIOBase)  # a file's, in the order in which they are to be flushed


class Kept(NamedTuple):
    """What prepare found; itself part of the permanent generation."""

    is_first: bool  # nothing was frozen before
    files: tuple[weakref.ref[Any], ...]  # open ones, and what is to remove a temporary one


_below: tuple[weakref.ref[Any], ...] = ()  # files of the snapshots that this process was resumed from, which are frozen already


def prepare() -> Kept:
    """Throw away what is unreachable, so that it is in no image, and freeze the rest."""
    gc.collect()
    closer = getattr(sys.modules.get("tempfile"), "_TemporaryFileCloser", None)
    files = tuple(
        weakref.ref(each)
        for each in gc.get_objects()
        if type(each) is closer or (issubclass(type(each), io.IOBase) and not each.closed)  # isinstance would ask the object
    )
    kept = Kept(gc.get_freeze_count() == 0, (*_below, *files))
    gc.freeze()
    return kept


def go_on(kept: Kept) -> None:
    """Undo what prepare did, unless that would undo another's choice, or an earlier one of ours in a resumed process."""
    if kept.is_first:
        gc.unfreeze()


def take_up(kept: Kept) -> None:
    """Arrange a quick end."""
    global _below
    _below = kept.files
    atexit.register(_expect_the_end, kept, [])


def _expect_the_end(kept: Kept, witness: list[object]) -> None:
    """Have the collection that comes after all of atexit call us; `witness` is as old as the resume."""

    def end(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and sys.is_finalizing():
            gc.callbacks.remove(end)
            _end(kept, witness)

    gc.callbacks.append(end)
    gc.enable()


def _end(kept: Kept, witness: list[object]) -> None:
    young = gc.get_objects()
    ids = set(map(id, young))
    if id(kept) in ids or id(witness) not in ids:
        return  # X5
    _finalize(young, kept.files)
    modules: list[object] = [dict(sys.modules), young]
    modules.append(modules)  # nothing but the collector could free it,
    gc.freeze()  # and it will not look
    sys.modules.clear()


def _finalize(young: list[Any], files: Iterable[weakref.ref[Any]]) -> None:
    spared = _standard_streams()
    finalized: dict[type, bool] = {}
    todo: list[list[Any]] = [[], [], [], []]  # what is no file, then by layer
    for each in [*young, *(file() for file in files)]:
        kind = type(each)
        if kind not in finalized:
            finalized[kind] = hasattr(kind, "__del__")
        if finalized[kind] and id(each) not in spared:
            todo[_layer(each)].append(each)
    for each in (each for layer in todo for each in layer):
        ctypes.pythonapi.PyObject_CallFinalizer(each)  # tells what is raised, as ever, and never calls one twice
    for stream in (sys.stdout, sys.stderr):  # CPython puts its own in their place before it flushes them once more
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


def _layer(each: object) -> int:
    return next((i for i, kind in enumerate(_LAYERS, 1) if isinstance(each, kind)), 0)


def _standard_streams() -> set[int]:
    """Return the ids of what CPython itself flushes, later."""
    spared = set()
    stream: Any
    for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
        while stream is not None:
            spared.add(id(stream))
            try:
                stream = getattr(stream, "buffer", None) or getattr(stream, "raw", None)
            except ValueError:  # detached
                stream = None
    return spared
