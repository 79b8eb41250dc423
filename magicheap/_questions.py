"""Questions of Python code to the world that the C functions it calls do not show (native/route/questions.h).

Q1  Each question is recorded by its subject, never by its answer: the name of a variable, or that the arguments were
    looked at.
Q2  A loop over the whole environment asks for all of it, or for the variables that the loop selects (_walks.py). A copy
    by C code, as dict() and copy() make it, asks for no variable: programs so make the environment of a child process,
    which is no question of ours.
Q3  This package's own questions are not the program's: it asks them in a pause.
Q4  An audit hook can't be removed and must not raise. So it is installed once, switched by `_is_noting`, and harmless.

A long file: its substitutes (environment, arguments, host, time zone, imports, audit events) are switched together and
share the pauses of Q3, each in a few lines.
"""

from __future__ import annotations

import os
import posix
import sys
import time

from magicheap import _key
from magicheap._cpython import (
    IMPORT_SYSTEM,
    begins_walk,
    exchange_codecs,
    is_at_loop,
    is_by_keys,
    is_of_mapping,
    is_setting,
    is_walk_of_mapping,
)
from magicheap._cpython import frame as frame_of
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType
    from typing import Any

STANDARD_LIBRARY = os.path.dirname(os.__file__)
_INSTALLED = ("site-packages", "dist-packages")  # may lie below the standard library, but isn't part of it
_METADATA_READERS = ("importlib/metadata/__init__.py", "importlib_metadata/__init__.py", "pkg_resources/__init__.py")
# loaded by site, before the watch could begin; in directories without __init__.py, which are packages as well
_ALWAYS_SOUGHT = ("sitecustomize", "usercustomize", "__init__")

# Audit events of questions that can't be asked again, each with its words.
_UNREPEATABLE: dict[str, Callable[[tuple[Any, ...]], str]] = {
    "subprocess.Popen": lambda arguments: f"a child process ({_text(arguments[0])})",
    "os.system": lambda arguments: f"a child process ({_text(arguments[0])})",
    "os.posix_spawn": lambda arguments: f"a child process ({_text(arguments[0])})",
    "socket.connect": lambda arguments: f"the network ({arguments[1]})",
    "socket.getaddrinfo": lambda arguments: f"the network ({arguments[0]})",
    "urllib.Request": lambda arguments: f"the network ({arguments[0]})",
}
_NOTE_CHARACTERS = 200  # of the words for one question; arbitrary

began_in = ""  # the working directory when the watch began; "": there was none
_is_noting = False
_n_pauses = 0
_is_hooked = False
_variables: set[bytes] = set()
_own_variables: set[bytes] = set()  # set by the program: it then reads its own values
_modules: set[str] = set()  # last parts of the module names that were looked for, found or not
_notes: dict[str, None] = {}
_arguments: _Arguments | None = None  # sys.argv while it is watched,
_plain_arguments: list[str] = []  # and the list that it replaces
_original: _Arguments | None = None  # likewise sys.orig_argv
_plain_original: list[str] = []
_is_argv_asked = False
_is_copy_of_names = False  # and no value was read since
_copier: tuple[CodeType, int] | None = None  # the instruction by which all of the environment was copied last
_walked: bytes | None = None  # the last name of an iteration
_patterns: dict[str, None] = {}  # of the names that loops over the environment select, each with one *


def begin() -> None:
    """Record questions from here on, in addition to earlier ones."""
    global _is_noting, _is_hooked, began_in
    if _is_noting:
        return
    _is_noting = True
    with pause():
        try:
            began_in = os.getcwd()
        except OSError:  # the directory is gone
            pass
    exchange_codecs(_Encode, _Decode)
    sys.meta_path.insert(0, _FINDER)
    _watch_arguments()
    os.uname = posix.uname = _uname
    _watch_zone()
    if not _is_hooked:
        sys.addaudithook(_audit_hook)
        _is_hooked = True


def end() -> None:
    """Stop recording."""
    global _is_noting
    if not _is_noting:
        return
    _is_noting = False
    exchange_codecs(_inner, _inner)
    try:
        sys.meta_path.remove(_FINDER)
    except ValueError:  # the program has removed it
        pass
    _release_arguments()
    os.uname = posix.uname = _real_uname
    _release_zone()


def forget() -> None:
    """Drop the records, except the modules: an imported module stays imported."""
    global _is_argv_asked
    _variables.clear()
    _patterns.clear()
    _notes.clear()
    _is_argv_asked = False


def has_changed_arguments() -> bool:
    """Tell whether the program has changed sys.argv after its own name."""
    with pause():
        return list(vars(sys).get("argv") or ())[1:] != _key.arguments()


def forget_arguments() -> None:
    """Drop the looks at the arguments up to here."""
    global _is_argv_asked
    _is_argv_asked = False


class _Pause:
    def __enter__(self) -> None:
        global _n_pauses
        _n_pauses += 1
        lib.mh_pause(True)

    def __exit__(self, *_: object) -> None:
        global _n_pauses
        lib.mh_pause(False)
        _n_pauses -= 1


_PAUSE = _Pause()


def pause() -> _Pause:
    """Return a context in which questions are our own (Q3)."""
    return _PAUSE  # pauses nest


def variables() -> list[bytes]:
    """Return the names of the variables that the program asked for."""
    return sorted(_variables)


def walks() -> list[str]:
    """Return patterns of names, each with one *: the program asked for all variables that match."""
    _see_copy_of_names()
    return sorted(_patterns)


def is_argv_asked() -> bool:
    """Tell whether the program has looked at the arguments."""
    return _is_argv_asked


def notes() -> list[str]:
    """Return the questions that can't be asked again, in words."""
    return list(_notes)


def sought_modules() -> str:
    """Return the last parts of all module names that were imported or looked for, each followed by a slash, or by ?/ if
    the module was not found.

    A directory of that name, without an __init__.py, matters to the latter alone.
    """
    found = {name.rpartition(".")[2] for name in list(sys.modules)}
    words = [*(f"{tail}/" for tail in found), *(f"{tail}?/" for tail in (_modules | set(_ALWAYS_SOUGHT)) - found)]
    return "".join(word for word in sorted(words) if len(word) > 1 and word.count("/") == 1 and "\0" not in word)


def is_standard(path: str) -> bool:
    """Tell whether a path lies in the standard library, which the interpreter's version in the key covers."""
    prefix = STANDARD_LIBRARY + os.sep
    return path == STANDARD_LIBRARY or (
        path.startswith(prefix) and path[len(prefix) :].split(os.sep, maxsplit=1)[0] not in _INSTALLED
    )


def import_directories() -> list[str]:
    """Return the directories in which imports look for modules, without those of the standard library."""
    found = dict.fromkeys(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str))
    for module in list(sys.modules.values()):
        path = getattr(module, "__dict__", {}).get("__path__")  # not getattr: a lazy module would load itself
        try:
            found.update(
                dict.fromkeys(entry for entry in path or () if isinstance(entry, str) and os.path.isabs(entry))
            )
        except Exception:  # the program may put any object there
            pass
    return [path for path in found if not is_standard(path) and not os.path.isfile(path)]


# ---- the environment ----


class _Encode:
    """The environment's encodekey, which each look-up by name calls."""

    def __init__(self, inner: Callable[[Any], bytes]) -> None:
        self.inner = inner

    def __call__(self, key: Any) -> bytes:
        name = self.inner(key)
        method = frame_of(1)
        if _n_pauses == 0 and name not in _own_variables and not _is_of_a_walk(name, method.f_back):
            if is_setting(method):
                _own_variables.add(name)
            else:
                _variables.add(name)
        return name


class _Decode:
    """The environment's decodekey, which an iteration over all variables calls for each name."""

    def __init__(self, inner: Callable[[bytes], Any]) -> None:
        self.inner = inner

    def __call__(self, name: bytes) -> Any:
        global _walked
        _walked = name
        if _n_pauses == 0 and begins_walk(walker := frame_of(1), name):
            _saw_walk(walker)
        return self.inner(name)


def _saw_walk(frame: FrameType | None) -> None:
    global _copier, _is_copy_of_names
    is_copied = False  # as dict() does
    while frame and is_of_mapping(frame):
        is_copied |= is_by_keys(frame)
        frame = frame.f_back
    if frame is None:
        return
    with pause():
        from magicheap import _walks

        is_loop = is_at_loop(frame)
        _see_copy_of_names()
        if (is_copied and not is_loop) or frame.f_globals.get("__name__") == "subprocess":
            _copier, _is_copy_of_names = (frame.f_code, frame.f_lasti), is_copied
        else:
            _patterns.update(dict.fromkeys(_walks.patterns(frame) if is_loop else [_walks.ALL]))


def _is_of_a_walk(name: bytes, frame: FrameType | None) -> bool:
    """Tell whether a value is read by an iteration: in a loop over all, or by the instruction that has just copied all
    names."""
    global _is_copy_of_names
    if name == _walked and "*" in _patterns:
        return True
    if frame and is_walk_of_mapping(frame):
        return True
    while frame and is_of_mapping(frame):
        frame = frame.f_back
    is_copy = frame is not None and (frame.f_code, frame.f_lasti) == _copier
    _is_copy_of_names &= not is_copy
    return is_copy


def _see_copy_of_names() -> None:
    """Record a question for all names if they were copied by keys() and no value was read since: that was no dict()."""
    global _is_copy_of_names
    if _is_copy_of_names:
        _patterns["*"] = None
    _is_copy_of_names = False


def _inner(function: Any) -> Any:
    return function.inner if isinstance(function, _Encode | _Decode) else function


# ---- the arguments ----


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: list[str], *arguments: Any) -> Any:
        global _is_argv_asked
        # the program's own name follows from the command
        if _n_pauses == 0 and (self is _arguments or self is _original) and arguments != (0,):
            _is_argv_asked = True
        return method(self, *arguments)

    return call


class _Arguments(list[str]):
    """sys.argv while it is watched."""

    for _name in (
        "__getitem__ __iter__ __len__ __contains__ __reversed__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __add__ "
        "__radd__ __mul__ __rmul__ __repr__ index count copy pop"
    ).split():
        # lists have no __radd__
        locals()[_name] = _watched(getattr(list, _name, lambda self, before: before + list(self)))
    __hash__ = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)  # a receiver, such as a worker of multiprocessing, need not have this package


def _watch_arguments() -> None:
    global _arguments, _plain_arguments, _original, _plain_original
    if type(vars(sys).get("argv")) is list:
        _plain_arguments = sys.argv
        sys.argv = _arguments = _Arguments(sys.argv)
    if type(vars(sys).get("orig_argv")) is list:
        _plain_original = sys.orig_argv
        sys.orig_argv = _original = _Arguments(sys.orig_argv)


def _release_arguments() -> None:
    global _arguments, _original
    watched, _arguments = _arguments, None
    is_in_place = vars(sys).get("argv") is watched
    if watched is not None:
        _others.append(watched)
    if watched is not None and is_in_place:
        _plain_arguments[:] = watched
        sys.argv = _plain_arguments
    original, _original = _original, None
    if original is not None and vars(sys).get("orig_argv") is original:
        sys.orig_argv = _plain_original


_others: list[_Arguments] = []  # earlier ones, which the program may hold


def take_up(arguments: list[str]) -> None:
    """In a resumed process: put its arguments into the lists that were sys.argv, which the program may hold."""
    for each in _others:
        each[:] = arguments


# ---- host and kernel ----

_real_uname = posix.uname


def _field(i: int) -> property:
    return property(lambda self: tuple.__getitem__(self, i))


class _Uname(tuple[str, ...]):
    """The result of os.uname while it is watched: only a look at the host's name asks for that, since libraries look at
    the kernel's version alone."""

    sysname, release, version, machine = (_field(i) for i in (0, 2, 3, 4))

    @property
    def nodename(self) -> str:
        return str(self[1])

    def __getitem__(self, i: Any) -> Any:
        if i not in (0, 2, 3, 4, -5, -3, -2, -1):
            lib.mh_note_host(True)
        return super().__getitem__(i)

    def __iter__(self) -> Iterator[str]:
        lib.mh_note_host(True)
        return super().__iter__()


def _uname() -> Any:
    with pause():
        found = _real_uname()
    if _n_pauses:
        return found
    lib.mh_note_host(False)
    caller = frame_of(1)
    if caller.f_globals.get("__name__") != "platform":
        return _Uname(found)
    asker = caller.f_back  # platform.machine and similar functions look at one part of platform.uname
    if asker is None or asker.f_globals.get("__name__") != "platform" or asker.f_code.co_name == "node":
        lib.mh_note_host(True)
    elif not isinstance(caller.f_globals.get("node"), _Node):
        caller.f_globals["node"] = _Node(caller.f_globals["node"])  # platform caches the answer
    return found


class _Node:
    """Replaces platform.node once platform has cached the answer."""

    def __init__(self, inner: Callable[[], str]) -> None:
        self._inner = inner

    def __call__(self) -> str:
        if _is_noting and not _n_pauses:
            lib.mh_note_host(True)
        return self._inner()


# ---- the time zone ----

# attributes of the module `time`, set at its load: reading them calls no function
_ZONE = ("tzname", "timezone", "altzone", "daylight")
_hidden: dict[str, Any] = {}


def _watch_zone() -> None:
    variables = vars(time)
    if _hidden or not all(name in variables for name in _ZONE) or "__getattr__" in variables or "__all__" in variables:
        return
    variables["__all__"] = [name for name in variables if not name.startswith("_")]
    _hidden.update({name: variables.pop(name) for name in _ZONE})
    variables["__getattr__"] = _of_zone


def _release_zone() -> None:
    variables = vars(time)
    if _hidden:
        del variables["__getattr__"], variables["__all__"]
        for name, value in _hidden.items():
            variables.setdefault(name, value)  # time.tzset sets them anew
        _hidden.clear()


def _of_zone(name: str) -> Any:
    if name not in _hidden:
        raise AttributeError(f"module 'time' has no attribute {name!r}", name=name, obj=time)
    if not _n_pauses:
        lib.mh_note_zone()
    return _hidden[name]


# ---- imports ----


class _Finder:
    """The first of sys.meta_path: records the names that are looked for, and finds only modules whose questions at
    import have answers that each resumed process sets anew."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        _modules.add(name.rpartition(".")[2])
        if name == "multiprocessing.process":
            from magicheap import _original_directory

            return _original_directory.find(path)
        return None


_FINDER = _Finder()


# ---- audit events ----


def _audit_hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _is_noting or _n_pauses or event not in _EVENTS:
        return
    try:
        if event in _UNREPEATABLE:
            _notes[_UNREPEATABLE[event](arguments)[:_NOTE_CHARACTERS]] = None
        elif event == "os.chdir":
            if not isinstance(arguments[0], int):
                # resolving the path asks its questions: links, and for a relative path the working directory
                os.path.realpath(arguments[0])
        else:
            _saw_listing(arguments[0])
    except Exception:  # an invalid name, which the call itself will refuse
        pass


def _saw_listing(path: Any) -> None:
    """Record the listing of a directory, unless an import lists it: the commit asks for the directories of imports as a
    whole, by the names that matter to them."""
    caller = frame_of(2).f_code.co_filename
    if caller == IMPORT_SYSTEM:
        return
    if isinstance(path, int):
        with pause():
            path = os.readlink(f"/proc/self/fd/{path}")
    kind = lib.MH_LISTING_METADATA if caller.endswith(_METADATA_READERS) else lib.MH_LISTING_ALL
    lib.mh_note_listing(ffi.new("char[]", os.fsencode("." if path is None else path)), kind)


def _text(word: Any) -> str:
    return os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else str(word)


_EVENTS = {*_UNREPEATABLE, "os.chdir", "os.listdir", "os.scandir"}
