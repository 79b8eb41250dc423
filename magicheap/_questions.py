"""What Python code asks of the world, as far as the functions of C that it calls do not tell (native/heap/questions.h).

Q1  Each question is noted by what it is about, never by its answer: a variable's name, that the arguments were looked at.
Q2  Whoever copies the whole environment asks for no variable in it: what a child process is given is no question of ours.
Q3  What this package asks for itself is no question of the program's: it asks in a pause.
Q4  An audit hook can't be removed and may not raise, so it is installed once, switched by `_is_noting`, and harmless.
"""

from __future__ import annotations

import contextlib
import os
import posix
import sys

from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

STANDARD_LIBRARY = os.path.dirname(os.__file__)
_INSTALLED = ("site-packages", "dist-packages")  # may lie below the standard library, but isn't part of it
_IMPORT_SYSTEM = "<frozen importlib._bootstrap_external>"
_METADATA_READERS = ("importlib/metadata/__init__.py", "importlib_metadata/__init__.py", "pkg_resources/__init__.py")
_ALWAYS_SOUGHT = ("sitecustomize", "usercustomize")  # by site, before anybody could watch

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

_is_noting = False
_n_pauses = 0
_is_hooked = False
_variables: set[bytes] = set()
_own_variables: set[bytes] = set()  # set by the program: what it then reads is its own
_modules: set[str] = set()  # last parts of the names that were looked for, found or not
_notes: dict[str, None] = {}
_arguments: _Arguments | None = None  # sys.argv while it is watched,
_plain_arguments: list[str] = []  # and the list in whose place it is
_is_argv_asked = False
_copied: bytes | None = None  # the name that a copy of the environment is about to read


def begin() -> None:
    """Note what is asked from here on; goes on where it had begun."""
    global _is_noting, _is_hooked
    if _is_noting:
        return
    _is_noting = True
    os.environ.encodekey = _Encode(os.environ.encodekey)  # type: ignore[attr-defined]
    os.environ.decodekey = _Decode(os.environ.decodekey)  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _FINDER)  # type: ignore[arg-type]
    _watch_arguments()
    os.uname = posix.uname = _uname  # type: ignore[assignment]
    if not _is_hooked:
        sys.addaudithook(_audit_hook)
        _is_hooked = True


def end() -> None:
    """Cease to note."""
    global _is_noting
    if not _is_noting:
        return
    _is_noting = False
    os.environ.encodekey = _inner(os.environ.encodekey)  # type: ignore[attr-defined]
    os.environ.decodekey = _inner(os.environ.decodekey)  # type: ignore[attr-defined]
    with contextlib.suppress(ValueError):  # the program has removed it
        sys.meta_path.remove(_FINDER)  # type: ignore[arg-type]
    _release_arguments()
    os.uname = posix.uname = _real_uname


def forget() -> None:
    """Drop what was noted, but for the modules: what was imported stays imported."""
    global _is_argv_asked
    _variables.clear()
    _notes.clear()
    _is_argv_asked = False


@contextlib.contextmanager
def pause() -> Iterator[None]:
    """Ask for ourselves (Q3)."""
    global _n_pauses
    _n_pauses += 1
    lib.mh_pause(True)
    try:
        yield
    finally:
        lib.mh_pause(False)
        _n_pauses -= 1


def variables() -> list[bytes]:
    """Return the names of the variables that were asked for."""
    return sorted(_variables)


def is_argv_asked() -> bool:
    """Tell whether anybody has looked at the arguments."""
    return _is_argv_asked


def notes() -> list[str]:
    """Return what was asked and can't be asked again, in words."""
    return list(_notes)


def sought_modules() -> str:
    """Return the last parts of all module names that were imported or looked for, each with a slash behind it; of those in vain, with ?/ behind it.

    A directory of that name, without an __init__.py, matters to the latter alone.
    """
    found = {name.rpartition(".")[2] for name in list(sys.modules)}
    words = [*(f"{tail}/" for tail in found), *(f"{tail}?/" for tail in (_modules | set(_ALWAYS_SOUGHT)) - found)]
    return "".join(word for word in sorted(words) if len(word) > 1 and word.count("/") == 1 and "\0" not in word)


def is_standard(path: str) -> bool:
    """Tell whether a path leads into the standard library, which the interpreter's version covers."""
    prefix = STANDARD_LIBRARY + os.sep
    return path == STANDARD_LIBRARY or (path.startswith(prefix) and path[len(prefix) :].split(os.sep)[0] not in _INSTALLED)


def import_directories() -> list[str]:
    """Return the directories in which imports look for modules, but for those of the standard library."""
    found = dict.fromkeys(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str))
    for module in list(sys.modules.values()):
        path = getattr(module, "__dict__", {}).get("__path__")  # not getattr: modules that load lazily would begin to
        with contextlib.suppress(Exception):  # whatever a program puts there
            found.update(dict.fromkeys(entry for entry in path or () if isinstance(entry, str) and os.path.isabs(entry)))
    return [path for path in found if not is_standard(path) and not os.path.isfile(path)]


# ---- the environment ----


class _Encode:
    """os.environ.encodekey, through which each look-up by name goes."""

    def __init__(self, inner: Callable[[str], bytes]) -> None:
        self.inner = inner

    def __call__(self, key: str) -> bytes:
        global _copied
        name = self.inner(key)
        is_copy, _copied = name == _copied, None
        if _n_pauses == 0 and not is_copy and name not in _own_variables:
            if sys._getframe(1).f_code.co_name == "__setitem__":
                _own_variables.add(name)
            else:
                _variables.add(name)
        return name


class _Decode:
    """os.environ.decodekey, which those who walk through all of it call first (Q2)."""

    def __init__(self, inner: Callable[[bytes], str]) -> None:
        self.inner = inner

    def __call__(self, name: bytes) -> str:
        global _copied
        _copied = name
        return self.inner(name)


def _inner(function: Any) -> Any:
    return function.inner if isinstance(function, _Encode | _Decode) else function


# ---- the arguments ----


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: list[str], *arguments: Any) -> Any:
        global _is_argv_asked
        if _n_pauses == 0 and self is _arguments and arguments != (0,):  # the program's own name is the command's
            _is_argv_asked = True
        return method(self, *arguments)

    return call


class _Arguments(list[str]):
    """sys.argv while it is watched."""

    for _name in ("__getitem__", "__iter__", "__len__", "__contains__", "__reversed__", "__eq__", "__ne__", "__add__", "__repr__", "index", "count", "copy", "pop"):
        locals()[_name] = _watched(getattr(list, _name))
    __hash__ = None  # type: ignore[assignment]


def _watch_arguments() -> None:
    global _arguments, _plain_arguments
    if type(sys.argv) is list:
        _plain_arguments = sys.argv
        sys.argv = _arguments = _Arguments(sys.argv)


def _release_arguments() -> None:
    global _arguments
    watched, _arguments = _arguments, None
    if watched is not None and sys.argv is watched:
        _plain_arguments[:] = watched
        sys.argv = _plain_arguments
    if watched is not None:
        _others.append(watched)


_others: list[_Arguments] = []  # that the program may hold


def take_up(arguments: list[str]) -> None:
    """In a resumed process: whoever holds the list that was sys.argv sees its own arguments."""
    for each in _others:
        each[:] = arguments


# ---- host and kernel ----

_real_uname = posix.uname


class _Uname(tuple[str, ...]):
    """What os.uname returns, while who looks at the host's name is to be known: libraries ask for the kernel's version alone."""

    sysname, release, version, machine = (property(lambda self, i=i: tuple.__getitem__(self, i)) for i in (0, 2, 3, 4))

    @property
    def nodename(self) -> str:
        return self[1]

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
    caller = sys._getframe(1)
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


# ---- imports ----


class _Finder:
    """First of sys.meta_path: finds nothing, and knows what was looked for."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        _modules.add(name.rpartition(".")[2])


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
                os.path.realpath(arguments[0])  # which asks what it depends on: links, and for a relative one the working directory
        else:
            _saw_listing(arguments[0])
    except Exception:  # what has no sound name, the call itself will refuse
        pass


def _saw_listing(path: Any) -> None:
    """Imports list directories, too: those are asked for as a whole at the commit, by the names that matter to them."""
    caller = sys._getframe(2).f_code.co_filename
    if caller == _IMPORT_SYSTEM or isinstance(path, int):
        return
    kind = lib.MH_LISTING_METADATA if caller.endswith(_METADATA_READERS) else lib.MH_LISTING_ALL
    lib.mh_note_listing(ffi.new("char[]", os.fsencode("." if path is None else path)), kind)


def _text(word: Any) -> str:
    return os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else str(word)


_EVENTS = {*_UNREPEATABLE, "os.chdir", "os.listdir", "os.scandir"}
