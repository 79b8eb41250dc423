"""The root of a heap snapshot: what the program puts in, and gets back in every later run.

A root is a picklable graph whose leaves may lie in the arena. It is pickled (protocol 5) with memory left out: a cffi
pointer becomes its type and address, an array its shape and the address of its elements. The pickle and a table of
those memory ranges make one block of the arena, the root that the C side knows:

    | tag | pickle bytes | ranges | (address, bytes) of each range ... | pickle ... |        all integers 64 bits

R1  Whatever the table or the pickle names lies in the arena: a pointer elsewhere is an error, elements elsewhere are copied in.
R2  Ranges that overlap before the commit overlap after it: arrays that share memory go on sharing it.
R3  No word of this block is a pointer to the audit, since pickled bytes may look like one: the block is marked as data and
    each address in it is kept by name.
"""

from __future__ import annotations

import _pickle  # what pickle re-exports; pickle itself imports re and more, which takes longer than a warm start
import importlib
import io
import struct
import sys

from magicheap._errors import CorruptError, NoSpaceError, RootError, call
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Range = tuple[int, int]  # address, bytes

_TAG = int.from_bytes(b"magicpy1", "little")  # the 1 is the version of this layout
_HEAD = struct.Struct("<3Q")
_RANGE = struct.Struct("<2Q")
_OWNED_BY_PYTHON = (type(ffi.new("char *")), type(ffi.new_handle(None)))  # wherever they lie, they are part of a Python object
_ADVICE = "let the library allocate it with malloc inside the transaction"
_ALIGN_BYTES = 64  # a cache line, and the widest vector


def store_root(tx: Any, root: object) -> None:
    """Put `root` into the arena of an `mh_transaction *` that has begun, and make it the snapshot's root.

    RootError: what cannot be stored, and what to do. NoSpaceError: the arena is full.
    """
    arena = lib.mh_transaction_arena(tx)
    pickled, views, kept = _pickle_root(root, arena)
    ranges = _place(tx, arena, [_range_of(view) for view in views])
    block_bytes = _HEAD.size + len(ranges) * _RANGE.size + len(pickled)
    block = _allocate_data(tx, arena, block_bytes)
    content = ffi.buffer(block, block_bytes)
    _HEAD.pack_into(content, 0, _TAG, len(pickled), len(ranges))
    for i, found in enumerate(ranges):
        _RANGE.pack_into(content, _HEAD.size + i * _RANGE.size, *found)
    content[block_bytes - len(pickled) :] = pickled
    for address in kept.union(address for address, size_bytes in ranges if size_bytes):
        call(lib.mh_keep, tx, ffi.cast("void *", address))
    call(lib.mh_set_root, tx, block)


def restore_root(tx: Any) -> Any:
    """Return the root of a warm `mh_transaction *`. Whatever unpickling raises (a class that is gone) passes through."""
    block = lib.mh_root(tx)
    usable_bytes = lib.mh_usable_size(block)
    if usable_bytes < _HEAD.size:
        raise CorruptError("the snapshot has no root that Python made")
    content = memoryview(ffi.buffer(ffi.cast("char *", block), usable_bytes))
    tag, pickled_bytes, n_ranges = _HEAD.unpack_from(content)
    start = _HEAD.size + n_ranges * _RANGE.size
    if tag != _TAG or start + pickled_bytes > usable_bytes:
        raise CorruptError(f"the root begins with {tag:#x}, expected {_TAG:#x} and a block of that length")
    buffers = [_memory(*found) for found in _RANGE.iter_unpack(content[_HEAD.size : start])]
    return _Unpickler(io.BytesIO(content[start : start + pickled_bytes]), buffers=buffers).load()


# ---- pickling ----


def _pickle_root(root: object, arena: Any) -> tuple[bytes, list[memoryview], set[int]]:
    """Return the pickle, the memory it leaves out, and the addresses it names."""
    file = io.BytesIO()
    buffers: list[Any] = []
    pickler = _Pickler(file, protocol=5, buffer_callback=buffers.append)
    pickler.arena, pickler.kept = arena, set()
    try:
        pickler.dump(root)
        views = [buffer.raw() for buffer in buffers]
    except RootError:
        raise
    except Exception as error:
        raise RootError(
            f"the root cannot be stored: {error}; it may hold cffi pointers, arrays and what pickle takes"
        ) from error
    return file.getvalue(), views, pickler.kept


class _Pickler(_pickle.Pickler):
    arena: Any
    kept: set[int]

    def persistent_id(self, value: Any) -> tuple[str, str, int, bool] | None:
        if not isinstance(value, ffi.CData):
            return None
        if type(value) in _OWNED_BY_PYTHON:
            raise RootError(f"the root holds {value!r}, memory that ffi.new made and Python frees: {_ADVICE}")
        pointer, is_content = value, False
        if ffi.typeof(value).kind in ("struct", "union", "array"):  # cffi's `p[0]`: names memory as a pointer does
            pointer, is_content = ffi.addressof(value), True
        ctype = ffi.typeof(pointer)
        if ctype.kind != "pointer":
            raise RootError(f"the root holds {value!r}, which is no pointer to data: store its value")
        address = int(ffi.cast("uintptr_t", pointer))
        if address:
            if lib.mh_arena_of(ffi.cast("void *", address)) != self.arena:
                raise RootError(f"the root holds {value!r}, which does not lie in the arena: {_ADVICE}")
            self.kept.add(address)
        return (*_type_name(ctype), address, is_content)

    def reducer_override(self, value: Any) -> Any:
        """Take exact numpy arrays of plain elements: numpy's own way copies what is not contiguous, and forgets who shares."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.dtype.hasobject:
            return NotImplemented
        first, size_bytes = _span(value)
        start = value.__array_interface__["data"][0]
        memory = _pickle.PickleBuffer(_memory(first, size_bytes))
        return _make_array, (
            memory,
            value.shape,
            value.dtype,
            start - first if size_bytes else 0,
            value.strides,
            value.flags.writeable,
        )


def _span(array: Any) -> Range:
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


def _type_name(ctype: Any) -> tuple[str, str]:
    """Return (module, C name) by which a later run finds the type; "" is our own ffi, which knows the built-in types."""
    for name, candidate in [("", ffi), *_ffis()]:
        try:
            if candidate.typeof(ctype.cname) is ctype:
                return name, ctype.cname
        except candidate.error:
            pass  # this one does not know the name
    raise RootError(
        f"the root holds a {ctype.cname!r}, a type that no imported module's `ffi` knows: compile its cdef into one"
    )


def _ffis() -> Iterator[tuple[str, Any]]:
    """Yield the ffi of every compiled cffi module, under the name of the extension itself before those who import from it."""
    found = [(name, module, getattr(module, "__dict__", {}).get("ffi")) for name, module in list(sys.modules.items())]
    found.sort(key=lambda entry: not str(getattr(entry[1], "__file__", "")).endswith(".so"))
    for name, _, candidate in found:
        if isinstance(candidate, type(ffi)):
            yield name, candidate


# ---- memory ----


def _memory(address: int, size_bytes: int) -> Any:
    """Return writable memory as a buffer; it must outlive that. Nothing has no address."""
    return memoryview(ffi.buffer(ffi.cast("char *", address), size_bytes) if size_bytes else bytearray())


def _range_of(view: memoryview) -> Range:
    return int(ffi.cast("uintptr_t", ffi.from_buffer(view))), view.nbytes


def _place(tx: Any, arena: Any, ranges: list[Range]) -> list[Range]:
    """Return where each of `ranges` lies in the arena, having copied in what lay outside (R1, R2)."""
    placed: dict[Range, Range] = {}
    outside = set()
    for found in ranges:
        if not found[1] or lib.mh_arena_of(ffi.cast("void *", found[0])) == arena:
            placed[found] = found
        else:
            outside.add(found)
    for first, end, members in _overlapping(outside):
        moved_by = _copy_in(tx, arena, first, end - first) - first
        placed.update({(address, size): (address + moved_by, size) for address, size in members})
    return [placed[found] for found in ranges]


def _overlapping(ranges: set[Range]) -> list[tuple[int, int, list[Range]]]:
    """Group ranges that share bytes: (first address, end, members) of each group."""
    groups: list[tuple[int, int, list[Range]]] = []
    for address, size_bytes in sorted(ranges):
        if groups and address < groups[-1][1]:
            first, end, members = groups[-1]
            groups[-1] = first, max(end, address + size_bytes), [*members, (address, size_bytes)]
        else:
            groups.append((address, address + size_bytes, [(address, size_bytes)]))
    return groups


def _copy_in(tx: Any, arena: Any, address: int, size_bytes: int) -> int:
    """Copy memory into a block of its own; return the copy's address, aligned as the original."""
    skew = address % _ALIGN_BYTES
    block = _allocate_data(tx, arena, skew + size_bytes)
    ffi.memmove(block + skew, ffi.cast("char *", address), size_bytes)
    return int(ffi.cast("uintptr_t", block)) + skew


def _allocate_data(tx: Any, arena: Any, size_bytes: int) -> Any:
    block = ffi.cast("char *", lib.mh_aligned_alloc(arena, _ALIGN_BYTES, size_bytes))
    if block == ffi.NULL:
        raise NoSpaceError(f"the arena has no room for {size_bytes} bytes of the root: pass a larger capacity")
    call(lib.mh_mark_data, tx, block)
    return block


# ---- unpickling ----


class _Unpickler(_pickle.Unpickler):
    def persistent_load(self, found: tuple[str, str, int, bool]) -> Any:
        module, cname, address, is_content = found
        pointer = (importlib.import_module(module).ffi if module else ffi).cast(cname, address)
        return pointer[0] if is_content else pointer
