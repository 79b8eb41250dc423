"""Pickling without copies of memory: buffers are lent to the pickle, each with its owner and its content at that
moment.

L1  Lent memory is held: the object that lent it, and an export of its buffer, live as long as the list of loans.
    Otherwise another array could take the address as soon as the owner is freed. An array that __getstate__ made for
    the occasion is freed at once.
L2  Lent memory counts with the content that pickle would have written at that moment. Foreign code runs between one
    object and the next, and may fill one buffer for each of them in turn. So memory that is lent after such code has
    run is compared at the end. If it has changed, a small piece is stored with its old content, and a large one is
    refused.
L3  Overlapping memory is shared only if one owner lent it, or if it is read-only: several owners may have had one
    address, one after the other.
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

# up to this size a copy is made, beyond it a checksum; arbitrary: programs' scratch buffers are small
_SMALL_BYTES = 64 << 10
_READ_ONLY = 0  # the owner of all read-only memory; no object has this id
_NAMES = (type, type(lambda: 0), type(len))  # classes and functions, which are pickled by name


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
        """Restore the content as it was lent, if the owner has changed it since (L2). RootError: that content is
        lost."""
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
        from magicheap._pointers import restore_cdata  # a warm start without pointers does not import it

        return restore_cdata(found)


def memory_at(address: int, size_bytes: int) -> Any:
    """Return the writable memory at `address` as a buffer; the caller keeps the memory alive. Size 0: an empty buffer,
    whatever the address."""
    return memoryview(ffi.buffer(ffi.cast("char *", address), size_bytes) if size_bytes else bytearray())


class _Borrower:
    """The loans so far. They are not part of the pickler, which would make a cycle, whose memory is freed only by the
    collector."""

    def __init__(self) -> None:
        self.lent: list[Lent] = []
        self.arrays: dict[int, Any] = {}  # by the id of the buffer that is about to be lent for the array
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
        """Reduce exact numpy arrays of plain elements: numpy's own reduction copies arrays that are not contiguous, and
        loses shared memory."""
        if type(value) in _NAMES:
            return NotImplemented
        numpy = sys.modules.get("numpy")
        if numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject:
            return self._reduce_array(value)
        if numpy is None or not isinstance(value, numpy.dtype):
            self.borrower.has_run_others = True
        from magicheap._cpython_library import is_of_ctypes  # a warm start does not import it

        if is_of_ctypes(value):
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
    """Return the id of the object at the end of a chain of views, which owns the memory, or has it from elsewhere."""
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
