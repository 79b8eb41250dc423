"""Files that a load depends on through Python: those that the caller names, and the source of every imported module.

I1  A file counts as it was when the load first looked at it. If it differs at the commit, the load may have read either
    version, and nothing is committed.
I2  A file that is gone at the commit was temporary, and is no input.

The native library (native/route/questions.h) and _questions.py record all other questions of Python and C.
"""

from __future__ import annotations

import os
import stat
import sys

from magicheap import _asked_arguments, _asked_environment, _questions
from magicheap._errors import UnsupportedError, call
from magicheap._identity import content_of
from magicheap._native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from magicheap._identity import Content


class Recorder:
    """The inputs of one load, between start() and stop(); of all threads, since any may do the loading."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]] = ()) -> None:
        """`paths`: inputs that the user names. OSError or ValueError if one is no regular file."""
        self._seen: dict[str, Content] = {}
        for path in map(os.path.abspath, paths):
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ValueError(f"input {path} is no regular file: name the files themselves")
            self._see(path)

    def start(self) -> None:
        """Begin to record."""
        self._see_modules()
        _questions.begin()

    def stop(self) -> None:
        """Stop recording."""
        _questions.end()

    def forget(self) -> None:
        """Drop what was recorded."""
        self._seen.clear()
        _questions.forget()

    def paths(self) -> list[str]:
        """Return the inputs that exist, absolute and sorted."""
        self._see_modules()
        return sorted(path for path in list(self._seen) if _content(path))

    def changed(self, paths: Iterable[str]) -> str:
        """Return the first of `paths` that has changed since it was first seen, or ""."""
        return next((path for path in paths if _content(path) != self._seen[path]), "")

    def add_questions(self, tx: Any) -> None:
        """Record what Python code has asked."""
        if _questions.is_passed_over:
            raise UnsupportedError(
                "the program has replaced sys.meta_path while its imports were watched, so the modules that it looked "
                "for in vain are not known"
            )
        for name in _asked_environment.variables():
            # _ is the shell's name for this program
            if (
                name not in (b"", b"_")
                and b"\0" not in name
                and b"=" not in name
                and not name.startswith(b"MAGICHEAP_")
            ):
                call(lib.mh_add_env, tx, name)
        for pattern in _asked_environment.walks():
            call(lib.mh_add_variables, tx, os.fsencode(pattern))
        if _asked_arguments.is_asked():
            call(lib.mh_add_arguments, tx)
        call(lib.mh_add_names, tx, os.fsencode(_questions.sought_modules()))
        for directory in _questions.import_directories():
            call(lib.mh_add_listing, tx, os.fsencode(directory), lib.MH_LISTING_IMPORTS)
        for note in _questions.notes():
            call(lib.mh_add_note, tx, note.encode(errors="replace").replace(b"\0", b"?"))

    def _see(self, path: str) -> None:
        if path not in self._seen and (content := _content(path)):
            self._seen[path] = content

    def _see_modules(self) -> None:
        for module in list(sys.modules.values()):
            if path := _module_file(module):
                self._see(os.path.abspath(path))


def _content(path: str) -> Content | None:
    """Return what tells that a regular file was written; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return content_of(found)


def _module_file(module: ModuleType) -> str | None:
    """Return the file of a module's code, or None if there is none to watch."""
    variables = getattr(module, "__dict__", {})  # not getattr of __file__: a lazy module would load itself
    path = variables.get("__file__")
    if not isinstance(path, str) or _questions.is_standard(path):
        return None
    archive = getattr(getattr(variables.get("__spec__"), "loader", None), "archive", None)
    return archive if isinstance(archive, str) else path
