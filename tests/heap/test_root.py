"""What a root may hold comes back as it was; what it may not hold is an error that says what to do."""

import pytest

ROUND_TRIP = """
    import collections, datetime, pickle, sys
    import numpy
    from magicheap import magic_transaction

    def make():
        base = numpy.arange(60.0)
        table = numpy.zeros(5, [("a", ">i2"), ("b", "f8"), ("c", "S3"), ("d", "i4", (2, 2))])
        frozen = numpy.arange(4)
        frozen.flags.writeable = False
        return {root}

    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            magic.root = make()
    wanted = make()
    {check}
    print(magic.was_committed)
"""

SAME_ARRAY = """
    got = magic.root
    assert type(got) is type(wanted), type(got)
    found = got.shape, got.dtype, got.strides
    assert found == (wanted.shape, wanted.dtype, wanted.strides), found
    assert got.flags.writeable == wanted.flags.writeable
    assert numpy.array_equal(got, wanted)
    if got.flags.writeable and got.size:
        got[...] = got[...]
"""

ARRAYS = {
    "contiguous": "base",
    "two dimensions": "base.reshape(5, 12)",
    "Fortran order": "numpy.asfortranarray(base.reshape(5, 12))",
    "transposed": "base.reshape(3, 4, 5).transpose(1, 2, 0)",
    "strided": "base[3:50:7]",
    "backwards": "base[::-1]",
    "backwards in one dimension": "base.reshape(5, 12)[:, ::-3]",
    "broadcast": "numpy.broadcast_to(numpy.float32(3), (4, 5))",
    "no dimension": "numpy.array(7.5)",
    "no elements": "numpy.zeros((0, 3))",
    "no elements of many": "base.reshape(5, 12)[5:]",
    "big-endian": "numpy.arange(10, dtype='>i4')",
    "structured": "table",
    "a field of a structure": "table['d']",
    "boolean": "base > 7",
    "half": "base.astype('f2')",
    "complex": "base * 1j",
    "text": "numpy.array(['one', 'zwei', '\\u4e09'])",
    "bytes": "numpy.array([b'one', b'two'])",
    "dates": "numpy.array(['2020-02-29', 'NaT'], 'M8[D]')[:1]",
    "read-only": "frozen",
    "objects": "numpy.array([1, 'two', None], dtype=object)",
    "a structure with objects": "numpy.array([(1, None)], [('a', 'i4'), ('b', 'O')])",
    "a field without bytes": "numpy.zeros(3, [('a', 'S0'), ('b', 'i4')])['a']",
    "one byte": "numpy.array([200], 'u1')",
    "larger than any slab": "numpy.arange(3_000_000)",
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_comes_back_with_its_layout(program, array):
    round_trip = program(ROUND_TRIP.format(root=array, check=SAME_ARRAY))
    assert round_trip() == ["False"]
    assert round_trip() == ["True"]


GRAPHS = {
    "numbers and text": "[1, 2.5, 'three', b'four', None, True, 10**40]",
    "a dictionary": "{'a': [base.sum()], 5: ('x',)}",
    "a date": "datetime.date(2020, 2, 29)",
    "a counter": "collections.Counter('magic')",
    "a byte array": "bytearray(range(200)) * 100",
    "false": "0",
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_graph_comes_back_equal(program, graph):
    round_trip = program(
        ROUND_TRIP.format(root=graph, check="assert magic.root == wanted and type(magic.root) is type(wanted)")
    )
    assert round_trip() == ["False"]
    assert round_trip() == ["True"]


def test_a_matrix_comes_back_as_a_matrix(program):
    check = "assert type(magic.root) is numpy.matrix and (magic.root == wanted).all()"
    round_trip = program(ROUND_TRIP.format(root="numpy.matrix([[1, 2], [3, 4]])", check=check))
    assert round_trip() + round_trip() == ["False", "True"]


def test_arrays_that_share_memory_go_on_sharing_it(program):
    shares = program("""
        import numpy
        from magicheap import magic_transaction
        before = numpy.arange(100)  # outside the arena: copied in, once for all who share it
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                inside = numpy.arange(100)
                magic.root = [(base[40:60], base, base[::-2], base.reshape(10, 10).T, base[60:])
                    for base in (before, inside)]
        for middle, base, back, square, rest in magic.root:
            base[50], base[61] = -5, -6
            print(middle[10], back[19], back[24], square[0, 5], square[1, 6], rest[1],
                numpy.shares_memory(middle, rest))
        print(numpy.shares_memory(magic.root[0][1], magic.root[1][1]))
    """)
    expected = ["-5", "-6", "51", "-5", "-6", "-6", "False"] * 2 + ["False"]
    assert shares() == expected
    assert shares() == expected


def test_random_views_come_back_equal_and_share_what_they_shared(program):
    views = program("""
        import itertools, random, sys
        import numpy
        from magicheap import magic_transaction

        def view(array, rng):
            for _ in range(rng.randrange(4)):
                kind = rng.randrange(3)
                if kind == 0 and array.ndim:
                    array = array.transpose(rng.sample(range(array.ndim), array.ndim))
                elif kind == 1:
                    array = array[tuple(slice(rng.randrange(n + 1), None, rng.choice([1, 2])) for n in array.shape)]
                else:
                    array = array[tuple(slice(None, None, rng.choice([1, -1, -2])) for _ in array.shape)]
            return array

        def make(seed):
            rng = random.Random(seed)
            bases = [numpy.arange(rng.choice([1, 24, 5040])).astype(rng.choice(["u1", "i2", ">f4", "f8"]))
                for _ in range(6)]
            cuts = [base.reshape(-1, 4, 3) if base.size > 12 else base for base in bases]
            return [view(rng.choice(cuts), rng) for _ in range(60)]

        outside = {seed: make(seed) for seed in range(3)}
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = [outside, {seed: make(seed) for seed in range(3, 6)}]
        for seed, got in {**magic.root[0], **magic.root[1]}.items():
            wanted = make(seed)
            for a, b in zip(got, wanted):
                assert a.shape == b.shape and a.dtype == b.dtype and a.strides == b.strides and (a == b).all(), seed
            for i, j in itertools.combinations(range(len(got)), 2):
                shared = numpy.shares_memory(wanted[i], wanted[j], max_work=100)
                assert numpy.shares_memory(got[i], got[j], max_work=100) == shared, (seed, i, j)
        print("equal")
    """)
    assert views() == ["equal"]
    assert views() == ["equal"]


def test_a_copy_is_aligned_as_the_original_was(program):
    aligned = program("""
        import numpy
        from magicheap import magic_transaction
        where = lambda array: array.__array_interface__["data"][0]
        memory = numpy.zeros(4096, "u1")
        odd = -where(memory) % 64 + 8
        views = [memory[odd:], memory[odd + 56 :]]
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = views
        print(magic.was_committed, *(where(view) % 64 for view in magic.root))
    """)
    assert aligned() == ["False", "8", "0"]
    assert aligned() == ["True", "8", "0"]


def test_numbers_and_text_that_look_like_addresses_are_kept_as_they_are(program):
    looks = program("""
        import ctypes, struct
        import numpy
        from magicheap import magic_transaction
        def make():
            addresses = [heap, code] * 50
            shifted = [b"x" * i + struct.pack("<100Q", *addresses) for i in range(8)]
            return [numpy.array(addresses * 100), outside, shifted]
        libc = ctypes.CDLL(None)
        heap, code = id(object()), ctypes.cast(libc.puts, ctypes.c_void_p).value
        outside = numpy.array([heap, code] * 50)
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = [(heap, code), make()]
        (heap, code), got = magic.root
        outside = numpy.array([heap, code] * 50)
        for a, b in zip(got, make()):
            assert (a == b).all() if isinstance(a, numpy.ndarray) else a == b
        print(magic.was_committed)
    """)
    assert looks() == ["False"]
    assert looks() == ["True"]


def test_an_object_met_twice_is_one_object(program):
    cycles = program("""
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                array = numpy.arange(5)
                root = {"array": array, "again": [array]}
                root["self"] = root
                magic.root = root
        print(magic.root["array"] is magic.root["again"][0], magic.root["self"] is magic.root)
    """)
    assert cycles() == ["True", "True"]
    assert cycles() == ["True", "True"]


def test_numpy_is_not_imported_for_a_root_without_arrays(program):
    plain = program("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = ["words"]
        print(magic.was_committed, "numpy" in sys.modules, "pickle" in sys.modules)
    """)
    assert plain() == ["False", "False", "False"]
    assert plain() == ["True", "False", "False"]


def test_what_pickle_leaves_out_of_band_lies_in_the_arena(program):
    buffers = program("""
        import pickle
        from magicheap import magic_transaction
        from magicheap._native import ffi, lib

        class Text:
            def __init__(self, data):
                self.data = data
            def __reduce_ex__(self, protocol):
                return Text, (pickle.PickleBuffer(self.data),)

        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = [Text(b"read-only" * 1000), Text(bytearray(b"writable" * 1000)), Text(b"")]
        for text in magic.root:
            view = memoryview(text.data)
            where = ffi.from_buffer(view)
            print(bytes(view[:8]).decode() or "-", len(view), view.readonly, lib.mh_arena_of(where) != ffi.NULL)
    """)
    buffers()
    assert buffers() == "read-onl 9000 True True writable 8000 False True - 0 True False".split()


POINTERS = """
    import sys
    from llama._kernels import ffi, lib
    from magicheap import magic_transaction

    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            out = ffi.new("mk_model **")
            sizes = dict(n_layers=2, dim=32, n_heads=1, n_kv_heads=1, head_dim=32, ffn_dim=32, n_vocab=8,
                rope_theta=1e4)
            config = ffi.new("mk_config *", sizes)
            assert lib.mk_model_new(out, config) == lib.MK_OK
            model = out[0]
            model.name = lib.mk_bytes_copy(b"a name", 6)
            magic.root = {root}
    {check}
"""


def test_a_pointer_comes_back_with_its_type(program):
    check = """
    model = magic.root
    assert ffi.typeof(model) is ffi.typeof("mk_model *")
    print(magic.was_committed, ffi.string(model.name).decode(), model.config.n_vocab, model.layers[1].wq.rows)
    """
    pointers = program(POINTERS.format(root="model", check=check))
    assert pointers() == ["False", "a", "name", "8", "0"]
    assert pointers() == ["True", "a", "name", "8", "0"]


def test_the_library_may_free_and_replace_what_it_finds_in_the_arena(program):
    check = """
    magic.root.name = lib.mk_bytes_copy(b"another name", 12)
    print(magic.was_committed, ffi.string(magic.root.name).decode())
    lib.mk_model_free(magic.root)
    """
    pointers = program(POINTERS.format(root="model", check=check))
    assert pointers() == ["False", "another", "name"]
    assert pointers() == ["True", "another", "name"]


def test_pointers_of_many_types_come_back_in_one_graph(program):
    root = "[model, model.name, model.layers[1], ffi.NULL, ffi.cast('mk_token *', 0), model.tokens, model.config]"
    check = """
    model, name, layer, null, token, tokens, config = magic.root
    wanted = ["mk_model *", "char *", "mk_layer", "void *", "mk_token *", "mk_token *", "mk_config"]
    assert [ffi.typeof(each) for each in magic.root] == [ffi.typeof(each) for each in wanted]
    print(magic.was_committed, name == model.name, ffi.addressof(layer) == model.layers + 1, null == ffi.NULL,
        token == ffi.NULL,
          tokens == model.tokens, config.dim)
    """
    pointers = program(POINTERS.format(root=root, check=check))
    assert pointers() == ["False"] + ["True"] * 5 + ["32"]
    assert pointers() == ["True"] + ["True"] * 5 + ["32"]


def test_the_module_of_a_type_is_imported_when_it_is_needed(program):
    pointers = program("""
        import sys
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                from llama._kernels import ffi, lib
                out = ffi.new("mk_pool **")
                model = ffi.new("mk_tensor *")
                assert lib.mk_tensor_new(model, lib.MK_F32, 4, 8) == lib.MK_OK
                magic.root = ffi.cast("float *", model.data)
        print(magic.was_committed, "llama._kernels" in sys.modules, magic.root[31])
    """)
    assert pointers() == ["False", "True", "0.0"]
    assert pointers() == ["True", "False", "0.0"], "a float needs no module"


def test_a_type_is_looked_up_where_it_was_compiled(program, tmp_path):
    (tmp_path / "reexports.py").write_text("from llama._kernels import ffi, lib\n")
    pointers = program("""
        import sys
        sys.path.insert(0, ".")
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                from reexports import ffi, lib
                tensor = ffi.cast("mk_tensor *", lib.mk_bytes_copy(bytes(64), 64))
                magic.root = tensor
        print(magic.was_committed, magic.root.rows, "reexports" in sys.modules)
    """)
    assert pointers() == ["False", "0", "True"]
    assert pointers() == ["True", "0", "False"]


REFUSED = {
    "ffi.new('mk_config *')": "let the library allocate it with malloc inside the transaction",
    "ffi.new('mk_config *')[0]": "that ffi.new made and Python frees",
    "ffi.new('char[]', 10)": "that ffi.new made and Python frees",
    "ffi.cast('int *', id(ffi))": "does not lie in the arena",
    "ffi.cast('int', 3)": "store its value",
    "ffi.addressof(lib, 'mk_cpu_count')": "no pointer to data",
    "lambda: 0": "may hold pointers, arrays and what pickle takes",
    "[model, sys.stdout]": "may hold pointers, arrays and what pickle takes",
}


@pytest.mark.parametrize(("root", "what"), REFUSED.items())
def test_a_root_that_no_later_run_could_get_back_is_one_warning_and_the_program_goes_on(program, tmp_path, root, what):
    out, err = program(POINTERS.format(root=root, check="print(magic.committed, magic.root is not None)")).run()
    assert out.split() == ["False", "True"]
    warning = err.splitlines()[0]
    assert err.count("MagicHeapWarning") == 1 and "was not made: the root " in warning and what in warning
    assert not list(tmp_path.glob("x.magic*"))


def test_after_a_root_that_was_refused_the_program_can_try_again(program):
    again = program("""
        from magicheap import magic_transaction
        transactions = []
        for root in (lambda: 0, "text"):
            with magic_transaction("x.magic", process=False) as magic:
                transactions.append(magic)
                magic.root = root
        print(*(magic.committed for magic in transactions))
    """)
    out, err = again.run()
    assert out.split() == ["False", "True"] and err.count("MagicHeapWarning") == 1
