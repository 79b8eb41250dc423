"""The root of a heap snapshot: an object that the program stores, and that every later run gets back.

A root is a picklable graph whose leaves may lie in the arena. It is pickled (protocol 5) with memory left out: a
pointer becomes its type and address, an array its shape and the address of its elements (_pickling.py). The pickle and
a table of those memory ranges make one block of the arena, the root that the C side knows:

    | tag | pickle bytes | ranges | pointers | (address, bytes) of each range ... | pickle ... |        all integers 64
    bits

R1  All addresses in the table and the pickle lie in the arena: a pointer elsewhere is an error, elements elsewhere are
    copied in.
R2  Ranges of one owner that overlap before the commit overlap after it: arrays that share memory still share it.
R3  The audit takes no word of this block for a pointer, since pickled bytes may look like one: the block is marked as
    data, and each address in it is kept by name.
R4  The memory of a range belongs to its owner, and is held until the commit is over: an object that pickling made for
    the occasion is freed as soon as nobody refers to it, and its memory may then be reused.
R5  A root without pointers can be attached twice in one process. The second mapping is at another address, each range
    moves by the same distance as the arena, and the program's writes to the first mapping do not show. The mapping is
    removed with its last user. A root with pointers (or with numbers that may be addresses) can't be attached again:
    the program may have written to the first mapping, or freed blocks of it, or may do so later.
"""

from __future__ import annotations

import io
import struct

from magicheap._errors import BusyError, CorruptError, NoSpaceError, RootError, call
from magicheap._native import ffi, lib
from magicheap._pickling import Unpickler, memory_at, pickle_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from magicheap._pickling import Lent
    from magicheap._pointers import Variable

    Range = tuple[int, int]  # address, bytes

_TAG = int.from_bytes(b"magicpy2", "little")  # the 2 is the version of this layout
_HEAD = struct.Struct("<4Q")
_RANGE = struct.Struct("<2Q")
_ALIGN_BYTES = 64  # a cache line, and the widest vector


def store_root(tx: Any, root: object, ready: frozenset[Variable]) -> object:
    """Put `root` into the arena of an `mh_transaction *` that has begun, and make it the snapshot's root.

    Returns the objects that must live until the commit is over (R4). `ready`: the result of ready_ffis when the body
    began. RootError: names the object that cannot be stored, and what to do. NoSpaceError: the arena is full.
    """
    arena = lib.mh_transaction_arena(tx)
    pickled, lent, kept = pickle_root(root, arena, ready)
    ranges = _place(tx, arena, lent)
    n_pointers = len(kept) or _count_addresses(pickled, arena)
    block_bytes = _HEAD.size + len(ranges) * _RANGE.size + len(pickled)
    block = _allocate_data(tx, arena, block_bytes)
    content = ffi.buffer(block, block_bytes)
    _HEAD.pack_into(content, 0, _TAG, len(pickled), len(ranges), n_pointers)
    for i, found in enumerate(ranges):
        _RANGE.pack_into(content, _HEAD.size + i * _RANGE.size, *found)
    content[block_bytes - len(pickled) :] = pickled
    for address in kept:
        _keep(tx, address)
    for address, size_bytes in set(ranges):
        if size_bytes:
            _keep(tx, address)
            _keep(tx, address + size_bytes - 1)
    call(lib.mh_set_root, tx, block)
    return lent


def restore_root(tx: Any) -> Any:
    """Return the root of a warm `mh_transaction *`. Exceptions of unpickling (a class that is gone) pass through.

    BusyError: this process has attached the snapshot already, and can't attach it twice (R5).
    """
    second = _second_mapping(tx) if lib.mh_moved_bytes(tx) else None
    block = lib.mh_root(tx)
    usable_bytes = lib.mh_usable_size(block)
    if usable_bytes < _HEAD.size:
        raise CorruptError("the snapshot has no root that Python made")
    content = memoryview(ffi.buffer(ffi.cast("char *", block), usable_bytes))
    tag, pickled_bytes, n_ranges, n_pointers = _HEAD.unpack_from(content)
    start = _HEAD.size + n_ranges * _RANGE.size
    if tag != _TAG or start + pickled_bytes > usable_bytes:
        raise CorruptError(f"the root begins with {tag:#x}, expected {_TAG:#x} and a block of that length")
    if second and n_pointers:
        raise BusyError(
            "this process has the snapshot already, and its root holds pointers, which lead to what may have "
            "been changed"
        )
    ranges = _RANGE.iter_unpack(content[_HEAD.size : start])
    buffers = [second(*found) if second and found[1] else memory_at(*found) for found in ranges]
    return Unpickler(io.BytesIO(content[start : start + pickled_bytes]), buffers=buffers).load()


# ---- a second time (R5) ----


def _second_mapping(tx: Any) -> Callable[[int, int], Any]:
    """Return a function from a range to its memory in a moved arena, which is unmapped with the last user of such
    memory."""
    arena, stats = lib.mh_transaction_arena(tx), ffi.new("mh_arena_stats *")
    lib.mh_arena_read_stats(arena, stats)
    start = ffi.gc(ffi.cast("char *", stats.address), lambda _: lib.mh_arena_delete(arena))
    whole = memoryview(ffi.buffer(start, stats.capacity_bytes))
    home = (stats.address - lib.mh_moved_bytes(tx)) % (1 << 64)
    return lambda address, size_bytes: whole[address - home : address - home + size_bytes]


def _count_addresses(pickled: bytes, arena: Any) -> int:
    """Count the numbers in a pickle that may be addresses in the arena: integers, and words in its bytes."""
    stats = ffi.new("mh_arena_stats *")
    lib.mh_arena_read_stats(arena, stats)
    first = stats.address
    # data begins after a page table of four bytes a page
    end = first + stats.capacity_bytes // 1024 + (4 << 20) + stats.mapped_bytes
    n_found = 0
    # of all addresses, bytes 4 and 5: two of them are enough for 8 GiB
    for half in range(first >> 32, (end >> 32) + 1):
        bytes_of_half = half.to_bytes(2, "little")
        at = pickled.find(bytes_of_half, 4)
        while at >= 0:
            is_integer = pickled[at - 6 : at - 4] == b"\x8a\x06"  # LONG1 of six bytes
            is_word = pickled[at + 2 : at + 4] == b"\0\0"
            n_found += (is_integer or is_word) and first <= int.from_bytes(pickled[at - 4 : at + 2], "little") < end
            at = pickled.find(bytes_of_half, at + 1)
    return n_found


# ---- memory ----


def _keep(tx: Any, address: int) -> None:
    try:
        call(lib.mh_keep, tx, ffi.cast("void *", address))
    except ValueError as error:
        raise RootError(f"the root leads to memory that has been freed: {error}") from None


def _place(tx: Any, arena: Any, lent: list[Lent]) -> list[Range]:
    """Copy ranges outside the arena into it; return the address of each range there (R1, R2)."""
    ranges = [(each.address, each.size_bytes) for each in lent]
    outside: dict[int, dict[Range, list[int]]] = {}  # by owner: range, and the indices in `lent` that have it
    for i, each in enumerate(lent):
        if each.size_bytes and lib.mh_arena_of(ffi.cast("void *", each.address)) != arena:
            outside.setdefault(each.owner, {}).setdefault(ranges[i], []).append(i)
    for of_owner in outside.values():
        for first, end, members in _overlapping(set(of_owner)):
            moved_by = _copy_in(tx, arena, first, end - first) - first
            for address, size_bytes in members:
                for i in of_owner[address, size_bytes]:
                    ranges[i] = address + moved_by, size_bytes
    return ranges


def _overlapping(ranges: set[Range]) -> list[tuple[int, int, list[Range]]]:
    """Group ranges that share bytes: (first address, end, members) of each group."""
    groups: list[tuple[int, int, list[Range]]] = []
    for address, size_bytes in sorted(ranges):
        if groups and address < groups[-1][1]:
            first, end, members = groups[-1]
            members.append((address, size_bytes))
            groups[-1] = first, max(end, address + size_bytes), members
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
