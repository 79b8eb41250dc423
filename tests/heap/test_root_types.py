"""Pointers whose types no compiled module knows: of an ffi.cdef read at run time, and of ctypes."""

import pytest

NODE = '"struct node { int v; struct node *next; }; void *malloc(size_t); void free(void *);"'

LOADS = """
    import ctypes, sys
    {before}
    from magicheap import magic_transaction
    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            {body}
    {check}
"""


def load(program, body, check, before):
    loads = program(
        LOADS.format(before=before.replace("\n", "\n    "), body=body.replace("\n", "\n            "), check=check)
    )
    return loads() + loads()


PARSED = f"""
import cffi
parsed = cffi.FFI()
parsed.cdef({NODE})
C = parsed.dlopen(None)
"""
LIST = """
first, second = (parsed.cast("struct node *", C.malloc(16)) for _ in range(2))
first.v, first.next, second.v, second.next = 5, second, 6, parsed.NULL
magic.root = [first, second[0], parsed.cast("void *", first), parsed.NULL]
"""
CHECK_LIST = """
    pointer, content, plain, null = magic.root
    assert parsed.typeof(pointer) is parsed.typeof("struct node *")
    assert parsed.typeof(content) is parsed.typeof("struct node")
    print(magic.was_committed, pointer.v, pointer.next.v, parsed.addressof(content) == pointer.next, plain == pointer,
        null == parsed.NULL)
"""
KEPT = ["False", "5", "6", "True", "True", "True", "True", "5", "6", "True", "True", "True"]


def test_pointers_of_an_ffi_that_the_program_made_come_back_with_their_types(program):
    assert load(program, LIST, CHECK_LIST, PARSED) == KEPT


def test_pointers_of_an_ffi_in_a_module_come_back_with_their_types(program, tmp_path):
    (tmp_path / "library.py").write_text(PARSED)
    inside = "from library import parsed, C" + LIST
    assert load(program, inside, "from library import parsed\n    " + CHECK_LIST.lstrip(), "import cffi") == KEPT


def test_a_transaction_in_a_module_finds_the_ffi_that_stands_above_it(program, tmp_path):
    (tmp_path / "library.py").write_text(
        PARSED
        + """
from magicheap import magic_transaction
with magic_transaction("x.magic", process=False) as magic:
    if not magic.was_committed:
        magic.root = parsed.cast("struct node *", C.malloc(16))
        magic.root.v = 7
"""
    )
    imports = program("import library\nprint(library.magic.was_committed, library.magic.root.v)")
    assert imports() + imports() == ["False", "7", "True", "7"]


LATE = {
    "of a function": "def make():"
    + PARSED.replace("\n", "\n    ")
    + "\n    return parsed, C\nparsed, C = make(); late = [parsed]; ",
    "set in the body": PARSED + "late = parsed; ",
}


@pytest.mark.parametrize("made", LATE.values(), ids=LATE)
def test_an_ffi_that_later_runs_do_not_have_is_refused_and_the_way_out_named(program, tmp_path, made):
    body = made + '\nnode = parsed.cast("struct node *", C.malloc(16)); magic.root = node; del parsed; node.v = 5'
    loads = program(
        LOADS.format(before="", body=body.replace("\n", "\n            "), check="print(magic.committed, magic.root.v)")
    )
    out, err = loads.run()
    assert out.split() == ["False", "5"]
    assert err.count("MagicHeapWarning") == 1 and 'store ffi.cast("void *", p)' in err
    assert not list(tmp_path.glob("x.magic*"))


def test_the_way_out_works(program):
    body = 'magic.root = parsed.cast("void *", C.malloc(16)); parsed.cast("struct node *", magic.root).v = 8'
    check = 'print(magic.was_committed, parsed.cast("struct node *", magic.root).v)'
    assert load(program, body, check, PARSED) == ["False", "8", "True", "8"]


def test_a_pointer_to_memory_that_was_freed_is_refused(program):
    body = 'magic.root = parsed.cast("struct node *", C.malloc(16)); C.free(magic.root)'
    loads = program(LOADS.format(before=PARSED.replace("\n", "\n    "), body=body, check="print(magic.committed)"))
    out, err = loads.run()
    assert out.split() == ["False"] and "memory that has been freed" in err


CTYPES = """
class Node(ctypes.Structure):
    pass
Node._fields_ = [("v", ctypes.c_int), ("next", ctypes.POINTER(Node)), ("text", ctypes.c_char_p)]
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]
def allocate(kind):
    libc = ctypes.CDLL(None)  # whose malloc is looked up inside the transaction
    libc.calloc.restype = ctypes.c_void_p
    return ctypes.cast(libc.calloc(1, 100), kind)
"""
CTYPES_LIST = """
first, second = allocate(ctypes.POINTER(Node)), allocate(ctypes.POINTER(Node))
text = allocate(ctypes.c_char_p)
ctypes.memmove(text, b"words", 6)
first[0].v, first[0].next, first[0].text, second[0].v = 5, second, text, 6
handle = allocate(ctypes.POINTER(ctypes.POINTER(ctypes.c_int)))
magic.root = [first, second.contents, text, ctypes.cast(first, ctypes.c_void_p), ctypes.c_void_p(),
    ctypes.POINTER(Node)(), handle,
              Point(1.5, 2.5), ctypes.c_int(3)]
"""
CTYPES_CHECK = """
    first, second, text, plain, null, typed_null, handle, point, number = magic.root
    kinds = [ctypes.POINTER(Node), Node, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(Node),
             ctypes.POINTER(ctypes.POINTER(ctypes.c_int)), Point, ctypes.c_int]
    assert [type(each) for each in magic.root] == kinds
    assert not null and not typed_null and handle and not handle[0]
    assert (point.x, point.y, number.value) == (1.5, 2.5, 3)
    second.v += 1
    print(magic.was_committed, first[0].v, first[0].next[0].v, first[0].text.decode(), text.value.decode(),
          plain.value == ctypes.addressof(first[0]))
"""


def test_pointers_of_ctypes_come_back_with_their_types(program):
    found = load(program, CTYPES_LIST, CTYPES_CHECK, CTYPES)
    assert found == ["False", "5", "7", "words", "words", "True", "True", "5", "7", "words", "words", "True"]


REFUSED = {
    "memory of Python": ("ctypes.pointer(ctypes.c_int(5))", "does not lie in the arena"),
    "text of Python": ("ctypes.c_char_p(b'text')", "does not lie in the arena"),
    "a structure with pointers": ("Node(1)", "and store a pointer to it"),
    "a function": ("ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)", "a function, which is no pointer to data"),
    "an object": ("ctypes.py_object([])", "and store a pointer to it"),
}


@pytest.mark.parametrize(("root", "what"), REFUSED.values(), ids=REFUSED)
def test_what_ctypes_has_in_memory_of_python_is_refused(program, root, what):
    loads = program(
        LOADS.format(before=CTYPES.replace("\n", "\n    "), body=f"magic.root = {root}", check="print(magic.committed)")
    )
    out, err = loads.run()
    assert out.split() == ["False"]
    assert err.count("MagicHeapWarning") == 1 and what in err
