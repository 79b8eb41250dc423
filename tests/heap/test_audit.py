"""The audit, on objects that nobody here designed: a C++ object is relocated, a Python object is found out."""

import pytest

SENTENCEPIECE = """
    import ctypes, io, sys
    from magicheap import magic_transaction
    from magicheap._native import ffi
    if sys.argv[1] == "before":
        import sentencepiece

    def held(processor):
        "Where pybind11 keeps the address of the C++ object: behind the header of the Python one."
        return ctypes.cast(id(processor._processor) + 16, ctypes.POINTER(ctypes.c_uint64))

    with magic_transaction("x.magic", process=False) as magic:
        import sentencepiece
        if not magic.was_committed:
            model = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(f"word {i} of {i % 7} words" for i in range(500)),
                model_writer=model, vocab_size=50, minloglevel=2)
            pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
            magic.root = ffi.cast("void *", held(pieces)[0])
    if magic.was_committed:
        pieces = sentencepiece.SentencePieceProcessor()
        own = held(pieces)[0]
        held(pieces)[0] = int(ffi.cast("uintptr_t", magic.root))
    print(magic.was_committed, magic.audit.relocations > 50 if magic.audit else None,
        *pieces.encode("word 7 of 3 words"))
    if magic.was_committed:
        held(pieces)[0] = own
"""


@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_sentencepiece_processor_of_an_earlier_run_goes_on_encoding(program, when):
    """Its vtables, wherever the library lies now, lead to the right functions: nothing of it was loaded in this run."""
    sentencepiece = program(SENTENCEPIECE)
    was_committed, is_relocated, *ids = sentencepiece(when)
    assert (was_committed, is_relocated) == ("False", "True")
    assert len(ids) > 3
    for _ in range(2):
        assert sentencepiece(when) == ["True", "None", *ids]


def test_a_block_that_holds_a_python_object_is_refused(program):
    out, err = program("""
        import ctypes
        from magicheap import magic_transaction
        from magicheap._native import ffi

        class Thing:
            pass

        things = [Thing() for _ in range(10)]  # small: in the interpreter's own pools
        with magic_transaction("x.magic", process=False) as magic:
            libc = ctypes.CDLL(None)  # within: what was looked up before is the real function
            libc.calloc.restype = ctypes.c_void_p
            block = libc.calloc(100, 8)
            for i, thing in enumerate(things):
                ctypes.c_void_p.from_address(block + 8 * i).value = id(thing)
            magic.root = ffi.cast("void *", block)
        print(magic.committed, magic.audit.n_findings)
    """).run()
    assert out.split() == ["False", "10"]
    assert "MagicHeapWarning" in err and "anonymous memory" in err


def test_numbers_that_a_heap_full_of_arrays_holds_are_no_pointers(program):
    """Integers of every size that pointers have, in blocks that are not marked as data, refuse nothing."""
    out = program("""
        import ctypes, numpy
        from magicheap import magic_transaction
        from magicheap._native import ffi

        chance = numpy.random.default_rng(1)
        arrays = [
            chance.integers(0, 2**31, 1 << 18, dtype=numpy.int32),
            chance.integers(0, 49152, 1 << 18, dtype=numpy.int32), chance.integers(0, 256, 1 << 20, dtype=numpy.uint8),
            chance.standard_normal(1 << 18, dtype=numpy.float32), chance.integers(0, 2**30, 1 << 17, dtype=numpy.int64),
        ]
        with magic_transaction("x.magic", process=False) as magic:
            libc = ctypes.CDLL(None)  # within: what was looked up before is the real function
            libc.calloc.restype = ctypes.c_void_p
            root = libc.calloc(len(arrays), 8)
            for i, array in enumerate(arrays):
                block = libc.calloc(array.nbytes, 1)
                ctypes.memmove(block, array.ctypes.data, array.nbytes)
                ctypes.c_void_p.from_address(root + 8 * i).value = block
            magic.root = ffi.cast("void *", root)
        print(magic.committed, magic.audit.scanned_bytes >= sum(array.nbytes for array in arrays),
            magic.audit.relocations)
    """)()
    assert out == ["True", "True", "0"]
