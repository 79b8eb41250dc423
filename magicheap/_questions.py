"""What Python code asks of the world, as far as the functions of C that it calls do not tell
(native/route/questions.h).

Q1  Each question is noted by what it is about, never by its answer: a variable's name, that the arguments were looked
    at.
Q2  Who walks through the whole environment by a loop asks for all of it, or for what the loop wants (_walks.py).
    Whoever has C code copy it, as dict() and copy() do, asks for no variable: that is how the environment of a child
    process is made, which is no question of ours.
Q3  What this package asks for itself is no question of the program's: it asks in a pause.
Q4  An audit hook can't be removed and may not raise, so it is installed once, switched by `_is_noting`, and harmless.

A long file: what it stands in for (environment, arguments, host, time zone, imports, audit events) is switched together
and shares the pauses of Q3, each by few lines.
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
# by site, before anybody could watch; in directories without, which are packages all the same
_ALWAYS_SOUGHT = ("sitecustomize", "usercustomize", "__init__")

# Audit events of what can't be asked again, each with how to tell of it.
_UNREPEATABLE: dict[str, Callable[[tuple[Any, ...]], str]] = {
    "subprocess.Popen": lambda arguments: f"a child process ({_text(arguments[0])})",
    "os.system": lambda arguments: f"a child process ({_text(arguments[0])})",
    "os.posix_spawn": lambda arguments: f"a child process ({_text(arguments[0])})",
    "socket.connect": lambda arguments: f"the network ({arguments[1]})",
    "socket.getaddrinfo": lambda arguments: f"the network ({arguments[0]})",
    "urllib.Request": lambda arguments: f"the network ({arguments[0]})",
}
_NOTE_CHARACTERS = 200  # of what is told of one question; arbitrary

began_in = ""  # the working directory then; "": there was none
_is_noting = False
_n_pauses = 0
_is_hooked = False
_variables: set[bytes] = set()
_own_variables: set[bytes] = set()  # set by the program: what it then reads is its own
_modules: set[str] = set()  # last parts of the names that were looked for, found or not
_notes: dict[str, None] = {}
_arguments: _Arguments | None = None  # sys.argv while it is watched,
_plain_arguments: list[str] = []  # and the list in whose place it is
_original: _Arguments | None = None  # likewise sys.orig_argv
_plain_original: list[str] = []
_is_argv_asked = False
_is_copy_of_names = False  # and no value was read since
_copier: tuple[CodeType, int] | None = None  # the instruction by which all of the environment was copied last
_walked: bytes | None = None  # the name that a walk has brought last
_patterns: dict[str, None] = {}  # of the names that loops through all of it want, each with one *


def begin() -> None:
    """Note what is asked from here on; goes on where it had begun."""
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
    """Cease to note."""
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
    """Drop what was noted, but for the modules: what was imported stays imported."""
    global _is_argv_asked
    _variables.clear()
    _patterns.clear()
    _notes.clear()
    _is_argv_asked = False


def has_changed_arguments() -> bool:
    """Tell whether the program has made something of sys.argv that it was not, behind its own name."""
    with pause():
        return list(vars(sys).get("argv") or ())[1:] != _key.arguments()


def forget_arguments() -> None:
    """Let the arguments that were looked at up to here make no difference."""
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
    """Ask for ourselves (Q3)."""
    return _PAUSE  # pauses nest


def variables() -> list[bytes]:
    """Return the names of the variables that were asked for."""
    return sorted(_variables)


def walks() -> list[str]:
    """Return patterns of names, each with one *, of which all variables were asked for."""
    _see_copy_of_names()
    return sorted(_patterns)


def is_argv_asked() -> bool:
    """Tell whether anybody has looked at the arguments."""
    return _is_argv_asked


def notes() -> list[str]:
    """Return what was asked and can't be asked again, in words."""
    return list(_notes)


def sought_modules() -> str:
    """Return the last parts of all module names that were imported or looked for, each with a slash behind it; of those
    in vain, with ?/ behind it.

    A directory of that name, without an __init__.py, matters to the latter alone.
    """
    found = {name.rpartition(".")[2] for name in list(sys.modules)}
    words = [*(f"{tail}/" for tail in found), *(f"{tail}?/" for tail in (_modules | set(_ALWAYS_SOUGHT)) - found)]
    return "".join(word for word in sorted(words) if len(word) > 1 and word.count("/") == 1 and "\0" not in word)


def is_standard(path: str) -> bool:
    """Tell whether a path leads into the standard library, which the interpreter's version covers."""
    prefix = STANDARD_LIBRARY + os.sep
    return path == STANDARD_LIBRARY or (
        path.startswith(prefix) and path[len(prefix) :].split(os.sep, maxsplit=1)[0] not in _INSTALLED
    )


def import_directories() -> list[str]:
    """Return the directories in which imports look for modules, but for those of the standard library."""
    found = dict.fromkeys(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str))
    for module in list(sys.modules.values()):
        path = getattr(module, "__dict__", {}).get("__path__")  # not getattr: modules that load lazily would begin to
        try:
            found.update(
                dict.fromkeys(entry for entry in path or () if isinstance(entry, str) and os.path.isabs(entry))
            )
        except Exception:  # whatever a program puts there
            pass
    return [path for path in found if not is_standard(path) and not os.path.isfile(path)]


# ---- the environment ----


class _Encode:
    """The environment's encodekey, through which goes each look-up by name."""

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
    """The environment's decodekey, through which goes each name that a walk through all of it brings."""

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
    """Tell whether a value is read for a walk, in a loop over all, or by the instruction that has just copied all
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
    """Who has copied names by keys(), and then read no values, was no dict(): it has looked at all names."""
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
        # the program's own name is the command's
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
        # which lists don't add from the right
        locals()[_name] = _watched(getattr(list, _name, lambda self, before: before + list(self)))
    __hash__ = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)  # whoever gets it, such as a worker of multiprocessing, need not have this package


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


_others: list[_Arguments] = []  # that the program may hold


def take_up(arguments: list[str]) -> None:
    """In a resumed process: whoever holds the list that was sys.argv sees its own arguments."""
    for each in _others:
        each[:] = arguments


# ---- host and kernel ----

_real_uname = posix.uname


def _field(i: int) -> property:
    return property(lambda self: tuple.__getitem__(self, i))


class _Uname(tuple[str, ...]):
    """What os.uname returns, while who looks at the host's name is to be known: libraries ask for the kernel's version
    alone."""

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
    asker = caller.f_back  # platform.machine and its like look at one part of platform.uname
    if asker is None or asker.f_globals.get("__name__") != "platform" or asker.f_code.co_name == "node":
        lib.mh_note_host(True)
    elif not isinstance(caller.f_globals.get("node"), _Node):
        caller.f_globals["node"] = _Node(caller.f_globals["node"])  # it keeps what it was told
    return found


class _Node:
    """platform.node, once platform knows the answer."""

    def __init__(self, inner: Callable[[], str]) -> None:
        self._inner = inner

    def __call__(self) -> str:
        if _is_noting and not _n_pauses:
            lib.mh_note_host(True)
        return self._inner()


# ---- the time zone ----

# attributes of the module `time`, made as it is loaded: nobody is called who could tell
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
            variables.setdefault(name, value)  # time.tzset makes them anew
        _hidden.clear()


def _of_zone(name: str) -> Any:
    if name not in _hidden:
        raise AttributeError(f"module 'time' has no attribute {name!r}", name=name, obj=time)
    if not _n_pauses:
        lib.mh_note_zone()
    return _hidden[name]


# ---- imports ----


class _Finder:
    """First of sys.meta_path: knows what was looked for, and finds nothing but what is known to ask for no more than a
    resumed process has anew."""

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
                # which asks what it depends on: links, and for a relative one the working directory
                os.path.realpath(arguments[0])
        else:
            _saw_listing(arguments[0])
    except Exception:  # what has no sound name, the call itself will refuse
        pass


def _saw_listing(path: Any) -> None:
    """Imports list directories, too: those are asked for as a whole at the commit, by the names that matter to them."""
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
