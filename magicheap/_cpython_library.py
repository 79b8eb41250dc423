"""Assumptions about the internals of modules of the standard library: a part of _cpython.py, which runs the probes.

names(function, ...)   # whether a function uses these names: most probes check that, and execute nothing
"""

from __future__ import annotations

import gc
import os
import sys
from _io import DEFAULT_BUFFER_SIZE, BufferedReader, BufferedWriter, BytesIO, FileIO, TextIOWrapper

from magicheap._cpython import assumed
from magicheap._native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LOOP = b"__asyncio_running_event_loop__"  # the key of a thread's note
_LOOP_BYTES = 24  # of the note, up to the process id


def names(function: Any, *attributes: str) -> bool:
    """Tell whether a Python function uses these attributes, or variables of its module."""
    return set(attributes) <= set(function.__code__.co_names)


# ---- threading ----


def native_id_setter(main_thread: Any) -> Callable[[int], None]:
    """Return what sets the main thread's native_id anew, without a line of Python: CPython lacks that fork handler."""
    from functools import partial

    return partial(setattr, main_thread, "_native_id")


@assumed("threading keeps a thread's id in the kernel in _native_id", module="threading")
def _probe_native_id() -> bool:
    threading: Any = sys.modules["threading"]
    thread = threading.main_thread()
    return bool(thread._native_id == threading.get_native_id()) and names(type(thread).native_id.fget, "_native_id")


def running_loops() -> bool:
    """Return whether renew_running_loops will find all loops that run, which can only be in other threads."""
    asyncio = sys.modules.get("asyncio")
    loop = getattr(asyncio, "AbstractEventLoop", ())
    running = [each for each in gc.get_objects() if isinstance(each, loop) and each.is_running()]
    return len(running) <= lib.mh_renew_notes(_LOOP, _LOOP_BYTES, os.getpid(), os.getpid())


def renew_running_loops(was: int) -> None:
    """Have asyncio take them for running in this process: its note of a running loop (PyRunningLoopHolder of
    Modules/_asynciomodule.c) has the process id behind the loop, `was`."""
    lib.mh_renew_notes(_LOOP, _LOOP_BYTES, was, os.getpid())


def target_of(thread: object) -> Any:
    """Return the function that a thread runs, or None."""
    return getattr(thread, "_target", None)


@assumed("threading keeps a thread's function in _target", module="threading")
def _probe_target() -> bool:
    thread: Any = sys.modules["threading"].Thread
    return names(thread.__init__, "_target") and names(thread.run, "_target")


def forgets_threads(handler: object) -> bool:
    """Tell whether this fork handler is threading's: threads that are not there any more count as ended, and locks that
    they may hold are made anew; it does nothing else (C4)."""
    return handler is getattr(sys.modules.get("threading"), "_after_fork", None)


def shut_down(threading: Any) -> None:
    """Do what CPython does first at its end, unless others take part in it (C4)."""
    if not getattr(threading, "_threading_atexits", True):
        threading._shutdown()


# ---- streams ----


def renew_buffer(buffer: Any, raw: Any) -> None:
    """Initialise a buffered stream, which may be new, on another raw stream; its buffer is dropped."""
    buffer.__init__(raw, _buffer_bytes(raw))


def renew_text(text: Any, buffer: Any, encoding: str, errors: str, line_buffering: bool, write_through: bool) -> None:
    """Likewise a text stream."""
    text.__init__(buffer, encoding, errors, "\n", line_buffering, write_through)


_LARGEST_BUFFER_BYTES = 8 << 20  # io.open's own bound, since CPython 3.14


def _buffer_bytes(raw: Any) -> int:
    """Return the size that io.open would choose."""
    block_bytes: int = raw._blksize
    if sys.version_info >= (3, 14):
        return max(min(block_bytes, _LARGEST_BUFFER_BYTES), DEFAULT_BUFFER_SIZE)
    return block_bytes if block_bytes > 1 else DEFAULT_BUFFER_SIZE


class _Raw(FileIO):
    """A file without a descriptor, which has a block size."""

    def __init__(self) -> None:
        pass


@assumed("FileIO has the block size, and a stream can be initialised again on another")
def _probe_streams() -> bool:
    old, other, again = BytesIO(b"old"), BytesIO(b"new"), BytesIO()
    reader: Any = BufferedReader(old)
    writer: Any = BufferedWriter(old)
    reader.peek()
    writer.write(b"lost")
    for each, raw in ((reader, other), (writer, again)):
        each.__init__(raw, 16)
    is_read = reader.raw is other and reader.read() == b"new"
    text = TextIOWrapper(writer, "utf-8", write_through=False)
    text.write("lost")
    last = BytesIO()
    writer.__init__(last, 16)
    renew_text(text, writer, "utf-8", "replace", False, False)
    text.write("kept")
    text.flush()
    is_written = last.getvalue() == b"kept" and again.getvalue() == b"" and old.getvalue() == b"old"
    blocks: Any = _Raw()
    return is_read and is_written and text.errors == "replace" and type(blocks._blksize) is int


# ---- finalizers and callbacks ----

_HAS_COLLECTOR = 1 << 14  # Py_TPFLAGS_HAVE_GC
# modules whose own callbacks only drop the dead object
_HOUSEKEEPERS = ("weakref", "_weakrefset", "logging", "magicheap._seeds")
# of _abc, and of _thread before and since CPython 3.13
_HOUSEKEEPING = ("_destroy", "_localdummy_destroyed", "clear_locals")
TEMPORARY_FILE_CLOSER = ("tempfile", "_TemporaryFileCloser")


def is_collected(kind: type) -> bool:
    """Tell whether the collector knows the instances of a class."""
    return bool(kind.__flags__ & _HAS_COLLECTOR)


@assumed("a bit of a type's flags says whether the collector knows its instances")
def _probe_flags() -> bool:
    return [is_collected(each) for each in (int, bytes, list, dict, type)] == [False, False, True, True, True]


def is_housekeeping(callback: Any) -> bool:
    """Tell whether the callback of a weak reference, a Python function, only drops the dead object (C4)."""
    return callback.__module__ in _HOUSEKEEPERS


def is_housekeeping_in_c(callback: Any) -> bool:
    """Likewise for a callback in C."""
    return callback.__name__ in _HOUSEKEEPING


# ---- random, uuid, tempfile ----


def global_random() -> Any:
    """Return the generator that serves random's functions; None while random is being imported."""
    return getattr(sys.modules["random"], "_inst", None)


def exchange_random(methods: tuple[Any, Any, Any]) -> Any:
    """Replace seed, getstate and setstate of random.Random's base class; return the originals, or None where the
    interpreter does not allow it."""
    import _random

    kind: Any = _random.Random
    before = kind.seed, kind.getstate, kind.setstate
    try:
        kind.seed, kind.getstate, kind.setstate = methods
    except TypeError:
        return None
    return before


@assumed("each seed of random.Random passes through a method of its C half, which can be replaced", module="random")
def _probe_random() -> bool:
    random: Any = sys.modules["random"]
    import _random

    seeds: list[Any] = []
    kind: Any = _random.Random
    seed = kind.seed

    def noting(self: Any, n: Any = None, /) -> None:
        seeds.append(n)
        seed(self, n)

    if exchange_random((noting, kind.getstate, kind.setstate)) is None:
        return False
    try:
        state = random.Random(7).getstate()
        random.Random().setstate(state)
    finally:
        kind.seed = seed
    is_global = type(global_random()) is random.Random and global_random() is random.random.__self__
    return is_global and 7 in seeds and None in seeds and names(random.Random.setstate, "setstate")


def default_temporary_directory(tempfile: Any) -> Any:
    """Return the directory that tempfile would find if the program named none."""
    return tempfile._get_default_tempdir()


def has_names(tempfile: Any) -> bool:
    """Tell whether temporary files were given names: then there is a generator of names."""
    return tempfile._name_sequence is not None


def renew_names(tempfile: Any, retired: list[object]) -> None:
    """Give temporary files other names; `retired` takes the old generator of names, which must not be freed."""
    retired.append(tempfile._name_sequence)  # it compares process ids, which repeat between containers
    tempfile._name_sequence = None


@assumed("tempfile makes its names by _name_sequence, and makes that anew if it is None", module="tempfile")
def _probe_tempfile() -> bool:
    tempfile: Any = sys.modules["tempfile"]
    has_both = hasattr(tempfile, "_name_sequence") and callable(tempfile._get_default_tempdir)
    return has_both and names(tempfile._get_candidate_names, "_name_sequence", "_RandomNameSequence")


def renew_uuid(uuid: Any, exchange: Callable[[Any], Any]) -> None:
    """Forget the time of the last UUID, and wrap the function that calls libuuid, if there is one, in `exchange`."""
    if uuid._generate_time_safe is not None:
        uuid._generate_time_safe = exchange(uuid._generate_time_safe)
    uuid._last_timestamp = None


@assumed("uuid.uuid1 uses _generate_time_safe or _last_timestamp", module="uuid")
def _probe_uuid() -> bool:
    uuid: Any = sys.modules["uuid"]
    has_both = hasattr(uuid, "_generate_time_safe") and hasattr(uuid, "_last_timestamp")
    return has_both and names(uuid.uuid1, "_generate_time_safe", "_last_timestamp")


# ---- ctypes ----


def is_of_ctypes(value: object) -> bool:
    """Tell whether this is a value, a pointer or a function of ctypes."""
    ctypes = sys.modules.get("ctypes")
    return ctypes is not None and isinstance(value, ctypes.Structure.__base__)


def is_function_of_ctypes(value: object) -> bool:
    """Tell whether this, which is of ctypes, is a function."""
    return isinstance(value, sys.modules["ctypes"]._CFuncPtr)


def library_of_ctypes(value: Any) -> str | None:
    """Return the name of a library that ctypes has loaded; None: this is none (C4)."""
    is_library = type(value).__module__ == "ctypes" and hasattr(value, "_name")
    return str(value._name) if is_library else None


def address_of(value: Any) -> int:
    """Return where a value of ctypes lies."""
    address: int = sys.modules["ctypes"].addressof(value)
    return address


def address_in(value: Any) -> int | None:
    """Return where a pointer of ctypes leads; None: this is no pointer."""
    ctypes: Any = sys.modules["ctypes"]
    is_text = isinstance(value, ctypes._SimpleCData) and type(value)._type_ in ("P", "z", "Z")
    return ctypes.cast(value, ctypes.c_void_p).value or 0 if is_text or isinstance(value, ctypes._Pointer) else None


def pointed_to(kind: Any) -> tuple[Any, int]:
    """Return (class, n): the type is POINTER applied n times to the class. pickle can't find a POINTER by name."""
    depth = 0
    while issubclass(kind, sys.modules["ctypes"]._Pointer):
        kind, depth = kind._type_, depth + 1
    return kind, depth


def make_pointer(kind: Any, depth: int, address: int) -> Any:
    """Undo pointed_to and address_in."""
    import ctypes

    for _ in range(depth):
        kind = ctypes.POINTER(kind)
    return ctypes.cast(address, kind)


@assumed("ctypes has one class above its pointers, its functions and its simple values", heap=True, module="ctypes")
def _probe_ctypes() -> bool:
    ctypes: Any = sys.modules["ctypes"]
    pointers = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p
    is_known = all(issubclass(each, ctypes._SimpleCData) for each in pointers)
    classes = ctypes._SimpleCData, ctypes._Pointer, ctypes._CFuncPtr
    is_above = {ctypes.Structure.__base__} == {each.__base__ for each in classes}
    return is_known and is_above and [each._type_ for each in pointers] == ["P", "z", "Z"]


# ---- multiprocessing ----


def process_config(module: Any) -> Any:
    """Return multiprocessing.process's record of this process: the key of its children, its temporary directory."""
    return module.current_process()._config


@assumed("multiprocessing keeps the key of its children in _config", module="multiprocessing.process")
def _probe_process_config() -> bool:
    module: Any = sys.modules["multiprocessing.process"]
    config = process_config(module)
    return type(config) is dict and names(type(module.current_process()).authkey.fget, "_config")


def adopt_finalizers(util: Any, pid: int) -> None:
    """Make multiprocessing.util's finalizers of another process run in this one."""
    for each in list(util._finalizer_registry.values()):
        if each._pid == pid:
            each._pid = os.getpid()


@assumed(
    "multiprocessing's finalizers are registered, each with the process that registered it",
    module="multiprocessing.util",
)
def _probe_finalizers() -> bool:
    util: Any = sys.modules["multiprocessing.util"]
    return type(util._finalizer_registry) is dict and names(util.Finalize.__init__, "_pid", "_finalizer_registry")


def is_pool_running(module: Any, pool: Any) -> bool:
    """Tell whether a pool of multiprocessing accepts work, or is only half constructed."""
    return bool(getattr(pool, "_state", module.RUN) == module.RUN)


def pool_threads(pool: Any) -> list[Any]:
    """Return the threads that serve the pool, without its workers."""
    return [pool._worker_handler, pool._task_handler, pool._result_handler]


def pool_workers(pool: Any) -> list[Any]:
    """Return the pool's own list of its workers."""
    workers: list[Any] = pool._pool
    return workers


def pool_queues(pool: Any) -> list[Any]:
    """Return the queues between the pool and its workers."""
    return [pool._change_notifier, pool._inqueue, pool._outqueue]


@assumed(
    "a pool of multiprocessing has three threads, three queues and a list of workers", module="multiprocessing.pool"
)
def _probe_pool() -> bool:
    pool: Any = sys.modules["multiprocessing.pool"].Pool
    threads = "_worker_handler", "_task_handler", "_result_handler"
    return names(pool.__init__, "_state", "_pool", "_change_notifier", *threads) and names(
        pool._setup_queues, "_inqueue", "_outqueue"
    )


def end_tracker(module: Any, wait: Callable[[int], object]) -> None:
    """Repeat ResourceTracker._stop, of multiprocessing or loky, with `wait` to wait for the process."""
    tracker = getattr(module, "_resource_tracker", None)
    if tracker is None:
        return
    with tracker._lock:
        if tracker._fd is None or tracker._pid is None:
            return
        os.close(tracker._fd)
        tracker._fd = None
        wait(tracker._pid)
        tracker._pid = None


@assumed("multiprocessing's resource tracker ends with its pipe", module="multiprocessing.resource_tracker")
def _probe_tracker() -> bool:
    tracker: Any = sys.modules["multiprocessing.resource_tracker"]._resource_tracker
    return all(hasattr(tracker, name) for name in ("_lock", "_fd", "_pid")) and names(
        tracker.ensure_running, "_lock", "_fd", "_pid"
    )
