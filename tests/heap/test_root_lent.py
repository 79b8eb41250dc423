"""Memory that a pickle lends is in later runs what it was when it was lent: whoever owns it, for however long."""

import pytest

# Each makes an object from numbers, and gives them back: numbers(made(i)) == [i, i + 1, i + 2].
LENDERS = """
import array, ctypes, mmap, pickle, sys
import numpy
from magicheap import magic_transaction
from magicheap._native import ffi, lib

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p

def wanted(i):
    return [i, i + 1, i + 2]

class Fresh:  # arrays that exist only while they are pickled
    def __init__(self, numbers):
        self.numbers = numbers
    def __reduce__(self):
        return type(self), (numpy.array(self.numbers),)
    def tolist(self):
        return [int(n) for n in self.numbers]

class State(Fresh):
    def __getstate__(self):
        return {"numbers": numpy.array(self.numbers)}
    __reduce__ = object.__reduce__

class Slots(State):
    __slots__ = ("other",)
    def __getstate__(self):
        return None, {"numbers": numpy.array(self.numbers), "other": numpy.array(self.numbers) * 2}

class Strided(Fresh):
    def __reduce__(self):
        return type(self), (numpy.repeat(self.numbers, 3)[::3],)

class Backwards(Fresh):
    def __reduce__(self):
        return type(self), (numpy.array(self.numbers[::-1])[::-1],)

class ReadOnly(Fresh):
    def __reduce__(self):
        made = numpy.array(self.numbers)
        made.flags.writeable = False
        return type(self), (made,)

class Lazily(Fresh):  # states come from an iterator, one after the other
    def __reduce__(self):
        return list, (), None, (numpy.array([n]) for n in self.numbers)

SCRATCH = numpy.zeros(3, int)

class Scratch(Fresh):  # one buffer, filled anew for each object
    def __reduce__(self):
        SCRATCH[:] = self.numbers
        return type(self), (SCRATCH[:],)

class Handed(Fresh):  # memory whose only owner is the pickle
    def __init__(self, numbers):
        self.numbers = numpy.array(numbers)
    def __reduce__(self):
        numbers, self.numbers = self.numbers, None
        return type(self), (numbers,)

class Freed(Fresh):  # not held by the array, and given back at the next call
    last = None
    def __reduce__(self):
        if Freed.last:
            ctypes.memset(Freed.last, 255, 24)
            libc.free(ctypes.c_void_p(Freed.last))
        Freed.last = libc.malloc(24)
        made = numpy.frombuffer(ffi.buffer(ffi.cast("char *", Freed.last), 24), int)
        made[:] = self.numbers
        return type(self), (made,)

class Buffer(Fresh):
    def __init__(self, numbers):
        self.numbers = numbers if isinstance(numbers, list) else list(memoryview(numbers).cast("B").cast("q"))
    def bytes(self):
        return array.array("q", self.numbers).tobytes()
    def export(self):
        return self.bytes()
    def __reduce__(self):
        return type(self), (pickle.PickleBuffer(self.export()),)

class ByteArray(Buffer):
    def export(self):
        return bytearray(self.bytes())

class Array(Buffer):
    def export(self):
        return array.array("q", self.numbers)

class View(Buffer):
    def export(self):
        return memoryview(bytearray(8) + self.bytes())[8:]

class Mapped(Buffer):
    def export(self):
        made = mmap.mmap(-1, 4096)
        made[:24] = self.bytes()
        return memoryview(made)[:24]

class Ctypes(Buffer):
    def export(self):
        return (ctypes.c_int64 * 3)(*self.numbers)

class NumPy(Buffer):
    def export(self):
        return numpy.array(self.numbers)

class Fortran(Buffer):
    def export(self):
        return numpy.array(self.numbers).reshape(3, 1, order="F")

class Resized(Buffer):  # released before the pickle is done, and then given other content
    def __reduce__(self):
        exporter = ByteArray.export(self)
        buffer = pickle.PickleBuffer(exporter)
        def end():
            try:
                buffer.release()
                exporter[:] = b"x" * 100000
            except (BufferError, ValueError):
                pass  # it is held
            return
            yield
        return type(self), (buffer,), {}, end()
    def __setstate__(self, state):
        pass
    def extend(self, items):
        pass

KINDS = [Fresh, State, Slots, Strided, Backwards, ReadOnly, Lazily, Scratch, Handed, Freed, Buffer, ByteArray, Array,
    View, Mapped, Ctypes,
         NumPy, Fortran, Resized]
"""

KINDS = LENDERS.split("KINDS = [")[1].split("]", maxsplit=1)[0].replace("\n", " ").split(",")


@pytest.mark.parametrize("where", ["before", "inside"])
def test_numbers_come_back_as_they_were_lent(program, where):
    lends = program(
        LENDERS
        + """
def make():
    return {kind.__name__: [kind(wanted(i)) for i in range(100)] for kind in KINDS}

made = make() if sys.argv[1] == "before" else None
with magic_transaction("x.magic", process=False) as magic:
    if not magic.was_committed:
        magic.root = made or make()
root = magic.root if magic.was_committed else make()
for kind in KINDS:
    for i, each in enumerate(root[kind.__name__]):
        got = [int(part[0]) for part in each] if isinstance(each, list) else each.tolist()
        assert got == wanted(i), (kind.__name__, i, got)
print(magic.was_committed)
"""
    )
    assert lends(where) == ["False"]
    assert lends(where) == ["True"]


def test_every_kind_of_lender_is_in_the_list():
    assert len(KINDS) == LENDERS.count("\nclass ")


def test_a_large_buffer_that_changes_after_it_was_lent_is_refused(program):
    refused = program(
        LENDERS
        + """
LARGE = numpy.zeros(100_000)
class Large:
    def __init__(self, number):
        self.number = number
    def __getstate__(self):
        LARGE[:] = self.number
        return LARGE[:]
    def __setstate__(self, state):
        self.number = state[0]
with magic_transaction("x.magic", process=False) as magic:
    magic.root = [Large(i) for i in range(3)]
print(magic.committed, len(magic.root))
"""
    )
    out, err = refused.run()
    assert out.split() == ["False", "3"]
    assert err.count("MagicHeapWarning") == 1 and "lent 800000 bytes and then changed them" in err


def test_what_two_owners_lent_at_one_address_is_not_shared(program):
    reuses = program(
        LENDERS
        + """
MEMORY = libc.malloc(24)
class Reuses(Fresh):
    def __reduce__(self):
        made = numpy.frombuffer((ctypes.c_int64 * 3).from_address(MEMORY), int)
        made[:] = self.numbers
        return type(self), (made,)
with magic_transaction("x.magic", process=False) as magic:
    if not magic.was_committed:
        magic.root = [Reuses([1, 2, 3]), Reuses([1, 2, 3])]
first, second = magic.root
first.numbers[0] = 7
print(magic.was_committed, *second.tolist())
"""
    )
    assert reuses() == ["False", "1", "2", "3"]
    assert reuses() == ["True", "1", "2", "3"]


def test_what_nobody_can_write_to_is_stored_once(program, tmp_path):
    once = program(
        LENDERS
        + """
TEXT = b"x" * 10_000_000
class Reader:
    def __init__(self, data):
        self.data = data
    def __reduce__(self):
        return Reader, (pickle.PickleBuffer(memoryview(TEXT)),)
with magic_transaction("x.magic", process=False) as magic:
    if not magic.was_committed:
        magic.root = [Reader(TEXT) for _ in range(20)]
print(magic.was_committed, {bytes(memoryview(each.data)) == TEXT for each in magic.root})
"""
    )
    assert once() == ["False", "{True}"]
    assert once() == ["True", "{True}"]
    assert (tmp_path / "x.magic").stat().st_size < 20_000_000


def test_an_array_that_only_the_pickle_holds_lies_in_the_arena_until_the_commit(program):
    handed = program(
        LENDERS
        + """
class Large(Handed):
    pass
with magic_transaction("x.magic", process=False) as magic:
    if not magic.was_committed:
        magic.root = Large(range(200_000))
        numbers = magic.root.numbers
        assert lib.mh_arena_of(ffi.cast("void *", numbers.ctypes.data)) != ffi.NULL
        del numbers
if magic.was_committed:
    print((magic.root.numbers == numpy.arange(200_000)).all())
"""
    )
    assert handed() == []
    assert handed() == ["True"]
