"""The package's assumptions about the internals of CPython and its standard library: one function for each assumption,
with a probe that tests whether it holds in this interpreter.

    obstacle()             # "", or the first assumption that does not hold, as a sentence: then the run is cold
    assumptions()          # all that are probed here, for `magicheap doctor`

C1  No other file of this package names internals of CPython (tests/project/test_cpython.py). Assumptions about modules
    written in Python, and about the standard streams, are in _cpython_library.py: many programs load none of these
    modules. Those about os.environ are in _cpython_environment.py.
C2  A probe applies its functions to an object of its own, and checks the outcome. If it raises any exception, the
    assumption does not hold. A probe of a module that is not always loaded runs once the module is loaded. All run
    again before a commit: the body may have replaced what they are about.
C3  A run that resumes probes nothing: its interpreter is the one that committed.
C4  Unprobed assumptions are safe if they fail: where a callback has another name, or no function leads out of the
    teardown, CPython ends as usual (_exit.py); a missing C module is replaced by the Python module above it.

All assumptions hold in CPython 3.11, and all but those about the allocator in 3.12 and 3.13, too.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from _weakref import ref as weak_reference

from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Probe = Callable[[], bool]
    # a sentence, whether heaps need it, too, the module that it is about or ""
    Assumption = tuple[str, bool, str, Probe]

__all__ = ["weak_reference"]

_assumptions: list[Assumption] = []
_held: set[str] = set()  # assumptions that were found to hold, at any time


def assumed(name: str, *, heap: bool = False, module: str = "") -> Callable[[Probe], Probe]:
    """Add a probe. heap: snapshots of heaps need it, too; module: of the standard library, which must be loaded."""

    def add(probe: Probe) -> Probe:
        _assumptions.append((name, heap, module, probe))
        return probe

    return add


def assumptions(*, heap: bool = False) -> list[tuple[str, str]]:
    """Return each assumption of a process, or of a heap, that can be probed now, and "" or why it does not hold."""
    return [(name, _obstacle(name, probe)) for name, probe in _to_try(heap)]


def obstacle(*, heap: bool = False) -> str:
    """Return "" or a sentence with the first assumption that does not hold here."""
    for name, probe in _to_try(heap):
        if why := _obstacle(name, probe):
            return why
        _held.add(name)
    return ""


def _to_try(heap: bool) -> list[tuple[str, Probe]]:
    import magicheap._cpython_environment
    import magicheap._cpython_library  # noqa: F401  # both add their assumptions

    return [
        (name, probe)
        for name, is_of_heaps, module, probe in _assumptions
        if (is_of_heaps or not heap) and (not module or module in sys.modules)
    ]


def _obstacle(name: str, probe: Probe) -> str:
    try:
        holds = probe()
    except Exception:  # C2
        holds = False
    if holds:
        return ""
    if name in _held:
        return f"the program has changed what magicheap relies on: it does not hold any more that {name}"
    return f"magicheap does not know this interpreter: it does not hold that {name}"


# ---- frames and code ----

EVENTS_OF_HOOKS = ("sys._getframe", "object.__getattr__")  # audit events that hooks themselves raise, including ours
frame = sys._getframe  # frame(1): that of the caller of the function that calls frame


@assumed("a function finds the frame of its caller", heap=True)
def _probe_frame() -> bool:
    here = frame()
    return here.f_code is _probe_frame.__code__ and frame(1) is here.f_back is not None


class _Asked:
    """An empty iterator, which notes the instruction that called it."""

    opcode = -1
    is_in_loop = False

    def __iter__(self) -> _Asked:
        return self

    def __next__(self) -> None:
        self.opcode = _opcode(frame(1))
        self.is_in_loop = is_at_loop(frame(1))
        raise StopIteration


def _opcode(caller: FrameType) -> int:
    return caller.f_code.co_code[caller.f_lasti]


def _find_for_iter() -> int:
    """Return the number of the instruction FOR_ITER, without importing opcode."""
    global _for_iter
    _for_iter, asked = 0, _Asked()
    for _ in asked:
        pass
    _for_iter = asked.opcode
    return _for_iter


_for_iter = -1  # not found yet


def is_at_loop(caller: FrameType) -> bool:
    """Tell whether the frame is at the head of a loop, and not in a call that iterates on its behalf."""
    return _opcode(caller) == (_for_iter if _for_iter >= 0 else _find_for_iter())


@assumed("a frame's f_lasti is at the instruction of a loop while its iterator is called, and nowhere else", heap=True)
def _probe_loop() -> bool:
    loop, comprehension, listed, called, merged = _Asked(), _Asked(), _Asked(), _Asked(), _Asked()
    for _ in loop:
        pass
    _, _, _, _ = [each for each in comprehension], list(listed), next(called, None), list(zip(merged))  # noqa: C416
    return (
        loop.is_in_loop and comprehension.is_in_loop and not any(each.is_in_loop for each in (listed, called, merged))
    )


# ---- objects ----


def change_type(value: list[str], kind: type[list[str]]) -> None:
    """Make a list one of a subclass without fields, or a list again: it stays the same object."""
    lib.mh_change_type(id(value), id(kind))


@assumed("an object's type stands behind its reference count, and a list can become one of a subclass without fields")
def _probe_types() -> bool:
    class Other(list[str]):
        __slots__ = ()

    value, n_before = ["a"], sys.getrefcount(Other)
    change_type(value, Other)
    is_other = (
        type(value) is Other and isinstance(value, list) and [*value, "b"] == ["a", "b"] and value.copy() == ["a"]
    )
    n_more = sys.getrefcount(Other) - n_before
    change_type(value, list)
    return is_other and n_more == 1 and type(value) is list and sys.getrefcount(Other) == n_before


@assumed("sys.orig_argv is a list, the interpreter's own command line")
def _probe_command_line() -> bool:
    return isinstance(sys.orig_argv, list) and bool(sys.orig_argv)


_HEADER_BYTES = bytes.__basicsize__ - 1  # before the text of a bytes object


def text_of(value: bytes) -> tuple[int, int]:
    """Return address and size of the text that a bytes object holds."""
    return id(value) + _HEADER_BYTES, len(value)


def _memory(address: int, size_bytes: int) -> bytes:
    return bytes(ffi.buffer(ffi.cast("char *", address), size_bytes))


@assumed("a bytes object's id is its address, and the object ends with its text")
def _probe_bytes() -> bool:
    value = bytes(range(64))
    whole = _memory(id(value), sys.getsizeof(value))
    return whole[_HEADER_BYTES:] == value + b"\0" and text_of(value) == (id(value) + whole.find(value), 64)


def is_held_once(container: dict[bytes, bytes], name: bytes) -> bool:
    """Tell whether only the container refers to this value."""
    return _n_holders(container, name) == _ONE_HOLDER


def _n_holders(container: dict[bytes, bytes], name: bytes) -> int:
    return sys.getrefcount(container[name])


_ONE_HOLDER = _n_holders({b"": bytes(2)}, b"")  # by this interpreter's count


@assumed("references to an object are counted, each by one")
def _probe_references() -> bool:
    container = {b"once": bytes(9), b"twice": bytes(9)}
    other = container[b"twice"]
    is_counted = is_held_once(container, b"once") and not is_held_once(container, b"twice")
    del other
    return is_counted and is_held_once(container, b"twice")


# ---- Python's allocator ----

_TEXT_BYTES = 388  # with the header it fills a block of a rarely used size
_PROBES = 8


@assumed("freed bytes and str lie in pools of obmalloc, where copies of secrets can be zeroed")
def _probe_wiping() -> bool:
    text = (b"magicheap tries how a copy of this is wiped. " * 9)[:_TEXT_BYTES]
    living = [bytes(bytearray(text)) for _ in range(_PROBES)]
    places = [text_of(each)[0] for each in living]
    pools = [place >> 14 for place in places]
    # no text whose pool might be freed with it
    freed = [i for i in range(0, _PROBES, 2) if pools[i] in pools[1::2]]
    for i in freed:
        living[i] = b""
    addresses = ffi.new("uint64_t[]", places)
    err = ffi.new("mh_error *")
    if not freed or lib.mh_try_wiping(text, len(text), addresses, len(places), err) != lib.MH_OK:
        return False
    # read in place: a copy might be allocated in that very block
    is_wiped = [not any(memoryview(ffi.buffer(ffi.cast("char *", places[i]), _TEXT_BYTES))) for i in freed]
    return all(is_wiped) and all(each in (b"", text) for each in living) and living.count(b"") == len(freed)


_KINDS, _ASCII = 0x7C, 0x64  # of PyASCIIObject's state: one byte a character, compact, ASCII


@assumed("length and flags precede the text of bytes and str, as the search for copies of secrets expects")
def _probe_texts() -> bool:
    raw = bytes(range(65, 90)) * 2
    text = raw.decode("ascii")
    at = _memory(id(text), sys.getsizeof(text)).find(raw)
    before = [int.from_bytes(_memory(id(text) + i, 8), sys.byteorder) for i in range(0, at, 8)]
    types = [id(type(value)) == int.from_bytes(_memory(id(value) + 8, 8), sys.byteorder) for value in (raw, text)]
    size = int.from_bytes(_memory(text_of(raw)[0] - 16, 8), sys.byteorder)
    # in CPython 3.11 the length comes before the flags, and a pointer to other characters after them
    is_known = (at == 40 and before[4] & _KINDS == _ASCII) or (
        at == 48 and before[4] & _KINDS == _ASCII and not before[5]
    )
    return is_known and before[2] == len(raw) == size and all(types) and text_of(raw)[0] - id(raw) == 32


# ---- imports ----

IMPORT_SYSTEM = "<frozen importlib._bootstrap_external>"  # its file, as code objects name it
IMPORTERS = ("importlib.", "_frozen_importlib")  # prefixes of its modules' names


def path_finder() -> Any:
    """Return importlib.machinery.PathFinder, which may not be loaded."""
    return sys.modules["_frozen_importlib_external"].PathFinder


def is_initializing(module: object) -> bool:
    """Tell whether the module's own statements are still being executed by an import."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


_was_initializing = is_initializing(sys.modules[__name__])


@assumed("the import system is frozen, and a module's spec tells whether it is being executed", heap=True)
def _probe_imports() -> bool:
    found = path_finder().find_spec
    is_known = found.__func__.__code__.co_filename == IMPORT_SYSTEM
    is_named = found.__func__.__globals__["__name__"].startswith(IMPORTERS)
    return is_known and is_named and _was_initializing and not is_initializing(sys.modules[__name__])


# ---- threads ----


def obstacle_of_place() -> str:
    """Return "" or, in CPython's words, why this thread can't handle signals, such as that it is not the main
    thread."""
    import _signal  # type: ignore[import-not-found]  # typeshed has only the Python half

    try:
        _signal.signal(0, _signal.SIG_DFL)  # number 0 is refused after the check of the thread
    except ValueError as error:
        return "" if "out of range" in str(error) else str(error)
    return "signal 0 is taken"


@assumed("signal.signal refuses the number 0, after a check of the thread")
def _probe_place() -> bool:
    return not obstacle_of_place()


current_frames = sys._current_frames  # by the ident of each thread


@assumed("sys._current_frames returns the frames of all threads, by their idents")
def _probe_threads() -> bool:
    return current_frames().get(get_ident()) is frame()


# ---- fork handlers ----

_child_handlers: list[Any] | None = None  # the interpreter's own; None: not looked for yet


def _marker() -> None:
    pass


def child_handlers() -> list[Any]:
    """Return the very list of what os.fork calls in the child; empty: it can't be had (C4)."""
    global _child_handlers
    import gc

    if _child_handlers is None:
        os.register_at_fork(after_in_child=_marker)
        lists = [each for each in gc.get_referrers(_marker) if type(each) is list and each[-1] is _marker]
        _child_handlers = lists[0] if len(lists) == 1 else []
        if _child_handlers:
            _child_handlers.pop()
    return _child_handlers


# ---- C halves of modules ----


def blake2b() -> Any:
    """Return hashlib's blake2b without importing hashlib, which would load OpenSSL."""
    try:
        from _blake2 import blake2b
    except ImportError:  # C4
        from hashlib import blake2b
    return blake2b


def sqlite_extension() -> Any:
    """Return the C half of sqlite3, or None if it is not loaded."""
    return sys.modules.get("_sqlite3")


X_OPTIONS = sys._xoptions
RANDOM = "_random"  # the module of random.Random's base class

# ---- the teardown ----


def leave() -> None:
    """Continue after Py_FinalizeEx; return where that is impossible (C4). give_leave replaces this function."""


def give_leave() -> bool:
    """Return whether `leave` may succeed; called in a process that is to be resumed, before its commit."""
    return bool(lib.mh_give_leave(__name__.encode(), ffi.NULL) == lib.MH_OK and lib.mh_can_leave())
