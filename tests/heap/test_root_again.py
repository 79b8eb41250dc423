"""A snapshot that this process has already is had again: as the file has it, whatever the program did to the first
one."""

import pytest

LOAD = """
    import gc, os, sys, threading, warnings
    import numpy
    from magicheap import magic_transaction
    def load(make=lambda: numpy.arange(100_000), path="x.magic", **options):
        with magic_transaction(path, process=False, **options) as magic:
            if not magic.was_committed:
                magic.root = make()
        return magic
    def mappings():
        return sum("x.magic" in line for line in open("/proc/self/maps"))
"""


@pytest.fixture
def loads(program):
    """A program that begins with LOAD; called twice, cold and warm."""
    return lambda body: program(LOAD + body)


def test_a_second_load_is_warm_also_in_the_process_that_committed(loads):
    twice = loads("""
    print(*(load().was_committed for _ in range(3)), load().root.sum())
    """)
    assert twice() == ["False", "True", "True", "4999950000"]
    assert twice() == ["True", "True", "True", "4999950000"]


def test_what_the_program_wrote_to_the_first_does_not_show_in_the_second_nor_the_other_way(loads):
    writes = loads("""
    first = load().root
    first += 1
    second = load().root
    second[:] = 7
    third = load().root
    print(first[0], second[0], third[0], first[-1], third[-1], numpy.shares_memory(first, third))
    """)
    assert writes() == ["1", "7", "0", "100000", "99999", "False"]
    assert writes() == ["1", "7", "0", "100000", "99999", "False"]


def test_arrays_of_the_second_share_among_themselves_what_they_shared(loads):
    shares = loads("""
    def make():
        base = numpy.arange(1000)
        return {"base": base, "view": base[10:20], "text": b"x" * 5000, "number": 5}
    load(make)
    root = load(make).root
    root["base"][10] = -1
    print(root["view"][0], root["text"] == b"x" * 5000, root["number"])
    """)
    assert shares() == ["-1", "True", "5"]
    assert shares() == ["-1", "True", "5"]


def test_the_memory_of_a_second_load_goes_with_the_last_who_uses_it(loads):
    reloads = loads("""
    model = load()
    counts = set()
    for i in range(50):
        model = load()
        part = model.root[5:9]
        gc.collect()
        counts.add(mappings())
    del model
    assert part.tolist() == [5, 6, 7, 8]
    before = mappings()
    del part
    gc.collect()
    print(len(counts), mappings() < before)
    """)
    assert reloads() == ["1", "True"]
    assert reloads() == ["1", "True"]


def test_what_another_process_has_replaced_is_not_given_as_it_was(loads, program):
    reload = loads("""
    which = sys.argv[1]
    first = load(lambda: which, refresh=which == "new")
    if which == "both":
        import subprocess
        subprocess.run([sys.executable, sys.argv[0], "new"], check=True, stdout=subprocess.DEVNULL)
        second, third = load(lambda: "loaded"), load(lambda: "again")
        print(first.root, second.was_committed, second.root, third.was_committed, third.root)
    """)
    reload("old")
    assert reload("both") == ["old", "False", "loaded", "True", "loaded"], "the first one lies where the newer belongs"


def test_two_keys_are_loaded_by_turns(loads):
    turns = loads("""
    print(*(f"{each.was_committed} {each.root}" for key in ("a", "b", "a", "b")
        for each in [load(lambda: key, key=key)]))
    """)
    assert turns() == ["False", "a", "False", "b", "True", "a", "True", "b"]
    assert turns() == ["True", "a", "True", "b", "True", "a", "True", "b"]


def test_a_snapshot_that_is_stale_is_not_given_again(loads, tmp_path):
    stale = loads("""
    make = lambda: open("data.txt").read()
    print(load(make).root)
    open("data.txt", "w").write("longer than before")
    changed = load(make)
    print(changed.was_committed, changed.root.split()[0], load(make).was_committed)
    """)
    (tmp_path / "data.txt").write_text("before")
    assert stale() == ["before", "False", "longer", "True"]


def test_a_snapshot_that_is_gone_is_made_anew(loads):
    gone = loads("""
    load()
    os.unlink("x.magic")
    again = load()
    print(again.was_committed, again.committed, load().was_committed)
    """)
    assert gone() == ["False", "True", "True"]
    assert gone() == ["False", "True", "True"]


def test_children_and_threads_load_it_again(loads):
    many = loads("""
    load().root[0] = 5
    read, write = os.pipe()
    if os.fork() == 0:
        again = load()
        os.write(write, f"{again.was_committed} {again.root[0]}".encode())
        os._exit(0)
    os.wait()
    found = []
    threads = [threading.Thread(target=lambda: found.extend(load() for _ in range(10))) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(os.read(read, 100).decode(), all(magic.was_committed and magic.root[0] == 0 for magic in found), len(found))
    """)
    assert many() == ["True", "0", "True", "40"]
    assert many() == ["True", "0", "True", "40"]


def test_threads_that_load_at_once_get_what_a_plain_run_gives_them_without_a_warning(loads):
    threads = loads("""
    barrier, found = threading.Barrier(4), []
    def work(i):
        barrier.wait()
        found.append(load(lambda: numpy.arange(100_000), path=sys.argv[1].format(i)).root.sum())
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(*set(found), len(found))
    """)
    for path in ("x.magic", "x.magic", "y{}.magic", "y{}.magic"):
        assert threads(path) == ["4999950000", "4"]


POINTER_ROOTS = {
    "a pointer of cffi": "ffi.cast('int *', number(5))",
    "a pointer of ctypes": "ctypes.cast(number(5), ctypes.POINTER(ctypes.c_int))",
    "a number": "number(5)",
    "a number in bytes": "struct.pack('<Q', number(5))",
}


@pytest.mark.parametrize("root", POINTER_ROOTS.values(), ids=POINTER_ROOTS)
def test_a_root_with_pointers_is_loaded_again_and_not_committed_again(program, tmp_path, root):
    pointers = program(f"""
        import ctypes, os, struct
        from magicheap import magic_transaction
        from magicheap._native import ffi
        def number(value):
            libc = ctypes.CDLL(None)  # whose malloc is looked up inside the transaction
            libc.malloc.restype = ctypes.c_void_p
            address = libc.malloc(4)
            ctypes.c_int.from_address(address).value = value
            return address
        def load():
            with magic_transaction("x.magic", process=False) as magic:
                if not magic.was_committed:
                    magic.root = {root}
            return magic
        first = load()
        before = os.stat("x.magic").st_ino
        second = load()
        print(first.was_committed, second.was_committed, second.committed, os.stat("x.magic").st_ino == before)
        print(second.reason)
    """)
    for was_committed in ("False", "True"):
        found = pointers()
        assert found[:4] == [was_committed, "False", "False", "True"]
        assert " ".join(found[4:]).startswith("this process has the snapshot already")
