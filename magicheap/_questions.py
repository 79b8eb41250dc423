"""Questions of Python code to the world that the C functions it calls do not show (native/route/questions.h).

Q1  Each question is recorded by its subject, never by its answer: the name of a variable, or that the arguments were
    looked at.
Q2  This package's own questions are not the program's: it asks them in a pause.
Q3  An audit hook can't be removed and must not raise. So it is installed once, switched by `_is_noting`, and harmless.

Those to the environment, the arguments, the host and the streams are noted by _asked_*.py, which are switched here;
those of imports, and audit events, here.
"""

from __future__ import annotations

import os
import sys

from magicheap import _asked_arguments, _asked_environment, _asked_host, _asked_streams, _pauses
from magicheap._cpython import IMPORT_SYSTEM
from magicheap._cpython import frame as frame_of
from magicheap._native import ffi, lib
from magicheap._pauses import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ASKED = (_asked_environment, _asked_arguments, _asked_host, _asked_streams)
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
is_passed_over = False  # True: the program has replaced sys.meta_path, so that its imports were not seen
_is_noting = False
_is_hooked = False
_modules: set[str] = set()  # last parts of the module names that were looked for, found or not
_notes: dict[str, None] = {}


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
    for each in _ASKED:
        each.watch()
    sys.meta_path.insert(0, _FINDER)
    if not _is_hooked:
        sys.addaudithook(_audit_hook)
        _is_hooked = True


def end() -> None:
    """Stop recording."""
    global _is_noting, is_passed_over
    if not _is_noting:
        return
    _is_noting = False
    for each in _ASKED:
        each.release()
    try:
        sys.meta_path.remove(_FINDER)
    except Exception:  # the program may put any object there
        is_passed_over = True


def forget() -> None:
    """Drop the records, except the modules: an imported module stays imported."""
    _asked_environment.forget()
    _asked_arguments.forget()
    _notes.clear()


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
    if not _is_noting or _pauses.n or event not in _EVENTS:
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
