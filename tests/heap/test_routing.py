"""Routing, on libraries that nobody here wrote: where their memory lies, loaded before the transaction or inside of
it."""

from textwrap import dedent, indent

import pytest

PRELUDE = """
from magicheap._native import ffi, lib


def owned_by(arena, part):
    found = ffi.new("mh_owner[128]")
    return sum(o.bytes for o in found[0 : lib.mh_read_owners(arena, found, 128)] if part in ffi.string(o.name).decode())


class Routed:
    "A transaction that is given up in the end."

    def __init__(self, is_quiet=True):
        self.is_quiet = is_quiet  # no other thread allocates when it ends

    def __enter__(self):
        tx, err = ffi.new("mh_transaction **"), ffi.new("mh_error *")
        assert lib.mh_open(tx, b"x.magic", ffi.NULL, err) == lib.MH_OK, ffi.string(err.detail)
        self.tx = tx[0]
        assert lib.mh_begin(self.tx, err) == lib.MH_OK, ffi.string(err.detail)
        self.arena = lib.mh_transaction_arena(self.tx)
        return self

    def holds(self, address):
        return lib.mh_arena_of(ffi.cast("void *", address)) == self.arena

    def __exit__(self, *error):
        err = ffi.new("mh_error *")
        assert not self.is_quiet or lib.mh_check(self.arena, err) == lib.MH_OK, ffi.string(err.detail)
        lib.mh_abandon(self.tx)
"""

IMPORTS = """
import ctypes, io, sqlite3, threading
import lxml.etree, numpy, sentencepiece
zlib = ctypes.CDLL("libz.so.1")
"""

# For each library: something to do with it, and how many bytes of the arena must be its own afterwards.
USES = {
    "_multiarray_umath": (
        """
        array = numpy.arange(100_000.0)
        assert routed.holds(array.ctypes.data) and routed.holds((array * 2).ctypes.data)
    """,
        800_000,
    ),
    "_sentencepiece": (
        """
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(f"word {i} of {i % 7} words" for i in range(500)),
            model_writer=model, vocab_size=50, minloglevel=2)
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        assert pieces.decode(pieces.encode("word 7 of 3 words")) == "word 7 of 3 words"
    """,
        10_000,
    ),
    "libz": (
        """
        stream = ctypes.create_string_buffer(112)  # sizeof(z_stream)
        zlib.zlibVersion.restype = ctypes.c_char_p
        assert zlib.deflateInit_(stream, 9, zlib.zlibVersion(), 112) == 0
    """,
        200_000,
    ),  # a window and hash chains
    "sqlite3": (
        """
        connection = sqlite3.connect(":memory:")
        connection.execute("create table t(x)")
        connection.executemany("insert into t values (?)", [(f"row {i}" * 10,) for i in range(2000)])
        assert connection.execute("select count(*) from t").fetchone() == (2000,)
    """,
        100_000,
    ),
    "etree": (
        """
        document = lxml.etree.fromstring("<a>" + "<b c='d'>text</b>" * 1000 + "</a>")
    """,
        100_000,
    ),  # libxml2 is part of it
}


def routed(body, before=""):
    return PRELUDE + before + "\nwith Routed() as routed:\n" + indent(dedent(body), "    ")


@pytest.mark.parametrize("when", ["before", "inside"])
@pytest.mark.parametrize("library", USES)
def test_the_memory_of_a_library_lies_in_the_arena(program, library, when):
    use, least = USES[library]
    body = f"{dedent(use)}\nprint(owned_by(routed.arena, {library!r}) >= {least})"
    source = routed(body, before=IMPORTS) if when == "before" else routed(IMPORTS + body)
    assert program(source)() == ["True"]


def test_memory_of_the_interpreter_stays_on_the_ordinary_heap(program):
    body = """
        kept = [bytearray(1000) for _ in range(1000)] + [bytearray(10_000_000)]
        address = ffi.cast("uintptr_t", ffi.from_buffer(kept[-1]))
        print(routed.holds(int(address)), owned_by(routed.arena, "") < 100_000)
    """
    assert program(routed(body))() == ["False", "True"]


def test_functions_that_ctypes_finds_are_routed(program):
    body = """
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        block = libc.malloc(100)
        print(routed.holds(block))
        libc.free(ctypes.c_void_p(block))
        print(lib.mh_usable_size(ffi.cast("void *", block)))
    """
    assert program(routed(body, before=IMPORTS))() == ["True", "0"]


def test_blocks_of_many_libraries_cross_the_boundary_in_many_threads(program):
    """What is made before, inside and after transactions is resized and freed at any time."""
    source = (
        PRELUDE
        + IMPORTS
        + dedent("""
        import random

        def work(seed):
            chance, kept = random.Random(seed), []
            while not done.is_set():
                document = lxml.etree.fromstring("<a>" + "<b c='d'>text</b>" * chance.randrange(100) + "</a>")
                connection = sqlite3.connect(":memory:")
                connection.execute("create table t(x)")
                connection.execute("insert into t values (?)", ("x" * chance.randrange(10_000),))
                kept.append((document, connection, numpy.zeros(chance.randrange(100_000)),
                    lxml.etree.tostring(document)))
                if len(kept) > 20:
                    for _ in range(10):
                        document, connection, array, text = kept.pop(chance.randrange(len(kept)))
                        document.set("e", "f" * chance.randrange(1000))
                        connection.execute("insert into t select x || x from t")
                        array.resize(chance.randrange(1, 200_000), refcheck=False)
                        assert text == b"<a/>" or text.endswith(b"</b></a>")

        done = threading.Event()
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for i in range(20):
            with Routed(is_quiet=False):
                done.wait(0.02)
            done.wait(0.01)
        done.set()
        for thread in threads:
            thread.join()
        print("survived")
    """)
    )
    assert program(source)() == ["survived"]
