"""Pickling with memory left out: what is lent to the pickle, by whom, and as it was when it was lent.

L1  Memory that is lent is held: the object that lent it, and an export of its buffer, live as long as the list of what
    was lent. An address alone would be another array's as soon as its owner has gone, which an array that __getstate__
    made for the occasion is at once.
L2  What was lent is what pickle would have written at that moment. Other people's code runs between one object and the
    next, and may fill one buffer for each of them in turn. So memory that is lent once such code has run is looked at
    again in the end: if it has changed, a small piece is kept as it was, and a large one refused.
L3  Memory that overlaps is shared only if one owner lent it, or nobody can write to it: at one address there may have
    been several, one after the other.
"""

from __future__ import annotations

import _pickle  # what pickle re-exports; pickle itself imports re and more, which takes longer than a warm start
import io
import sys

from magicheap._errors import RootError
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from magicheap._pointers import Named, Variable

# up to here a copy is made, beyond it a checksum; arbitrary: what programs use as scratch space is small
_SMALL_BYTES = 64 << 10
_READ_ONLY = 0  # the owner of all that nobody can write to; no object has this id
_NAMES = (type, type(lambda: 0), type(len))  # classes and functions, which are pickled by their names


class Lent:
    """A piece of memory that a pickle leaves out, in the order in which unpickling asks for them."""

    __slots__ = ("_flat", "_holders", "_was", "address", "owner", "size_bytes")

    def __init__(self, buffer: Any, array: Any, may_change: bool) -> None:
        view = memoryview(buffer)  # a view of its own, since a PickleBuffer may be released
        self._holders = (buffer, view, array)
        self._flat = buffer.raw()
        self.address = int(ffi.cast("uintptr_t", ffi.from_buffer(self._flat)))
        self.size_bytes = self._flat.nbytes
        self.owner = _READ_ONLY if self._flat.readonly else _owner_of(view if array is None else array)
        self._was = self._fingerprint() if may_change else None

    def _fingerprint(self) -> bytes | int:
        if self.size_bytes <= _SMALL_BYTES:
            return bytes(self._flat)
        checksum: int = lib.mh_checksum(ffi.cast("void *", self.address), self.size_bytes)
        return checksum

    def settle(self) -> None:
        """Be what was lent, whatever the owner has made of it since (L2). RootError: that isn't there any more."""
        if self._was is None or self._was == self._fingerprint():
            return
        if not isinstance(self._was, bytes):
            raise RootError(
                f"the root's pickling lent {self.size_bytes} bytes and then changed them: "
                "let __reduce__ or __getstate__ return memory that stays as it is, such as a copy"
            )
        self.address, self.owner = int(ffi.cast("uintptr_t", ffi.from_buffer(self._was))), id(self._was)


def pickle_root(root: object, arena: Any, ready: frozenset[Variable]) -> tuple[bytes, list[Lent], set[int]]:
    """Return the pickle, the memory it leaves out, and the addresses it names. `ready`: see ready_ffis."""
    file, borrower = io.BytesIO(), _Borrower()
    pickler = _Pickler(file, protocol=5, buffer_callback=borrower.take)
    pickler.arena, pickler.ready, pickler.kept, pickler.borrower = arena, ready, set(), borrower
    try:
        pickler.dump(root)
        for each in borrower.lent:
            each.settle()
    except RootError:
        raise
    except Exception as error:
        raise RootError(
            f"the root cannot be stored: {error}; it may hold pointers, arrays and what pickle takes"
        ) from error
    return file.getvalue(), borrower.lent, pickler.kept


class Unpickler(_pickle.Unpickler):
    def persistent_load(self, found: Named) -> Any:
        from magicheap._pointers import restore_cdata  # a warm start without pointers is spared it

        return restore_cdata(found)


def memory_at(address: int, size_bytes: int) -> Any:
    """Return writable memory as a buffer; it must outlive that. Nothing has no address."""
    return memoryview(ffi.buffer(ffi.cast("char *", address), size_bytes) if size_bytes else bytearray())


class _Borrower:
    """What has been lent so far. Not part of the pickler, or the two would be a cycle: no memory may wait for a
    collector to go."""

    def __init__(self) -> None:
        self.lent: list[Lent] = []
        self.arrays: dict[int, Any] = {}  # by the id of the buffer that is about to be lent for it
        self.has_run_others = False

    def take(self, buffer: Any) -> None:
        self.lent.append(Lent(buffer, self.arrays.pop(id(buffer), None), self.has_run_others))


class _Pickler(_pickle.Pickler):
    arena: Any
    ready: frozenset[Variable]
    kept: set[int]
    borrower: _Borrower

    def persistent_id(self, value: Any) -> Named | None:
        if not isinstance(value, ffi.CData):
            return None
        from magicheap._pointers import name_cdata

        named = name_cdata(value, self.arena, self.ready)
        self._name_address(named[3])
        return named

    def _name_address(self, address: int) -> None:
        if address:
            self.kept.add(address)

    def reducer_override(self, value: Any) -> Any:
        """Take exact numpy arrays of plain elements: numpy's own way copies what is not contiguous, and forgets who
        shares."""
        if type(value) in _NAMES:
            return NotImplemented
        numpy = sys.modules.get("numpy")
        if numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject:
            return self._reduce_array(value)
        if numpy is None or not isinstance(value, numpy.dtype):
            self.borrower.has_run_others = True
        ctypes = sys.modules.get("ctypes")
        if ctypes is not None and isinstance(value, ctypes.Structure.__base__):
            from magicheap._pointers import reduce_ctypes

            reduced = reduce_ctypes(value, self.arena)
            if reduced is not None:
                self._name_address(reduced[1])
                return reduced[0]
        return NotImplemented

    def _reduce_array(self, array: Any) -> Any:
        first, size_bytes = _span(array)
        start = array.__array_interface__["data"][0]
        memory = _pickle.PickleBuffer(memory_at(first, size_bytes))
        self.borrower.arrays[id(memory)] = array
        offset = start - first if size_bytes else 0
        return _make_array, (memory, array.shape, array.dtype, offset, array.strides, array.flags.writeable)


def _owner_of(lender: Any) -> int:
    """Return the id of the object at the end of a chain of views: one that has the memory of its own, or from
    elsewhere."""
    numpy = sys.modules.get("numpy")
    while True:
        is_array = numpy is not None and isinstance(lender, numpy.ndarray)
        base = lender.base if is_array else lender.obj if isinstance(lender, memoryview) else None
        if base is None:
            return id(lender)
        lender = base


def _span(array: Any) -> tuple[int, int]:
    """Return the address and length of the memory between the lowest and the highest byte of an array's elements."""
    if not array.size:
        return 0, 0
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    start = array.__array_interface__["data"][0]
    first = start + sum(step for step in steps if step < 0)
    return first, start - first + sum(step for step in steps if step > 0) + array.itemsize


def _make_array(
    memory: Any, shape: tuple[int, ...], dtype: Any, offset: int, strides: tuple[int, ...], is_writeable: bool
) -> Any:
    import numpy

    array = numpy.ndarray(shape, dtype, memory, offset, strides)
    array.flags.writeable = is_writeable
    return array
