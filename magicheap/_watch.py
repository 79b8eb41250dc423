"""The start of the watch over a program: questions before the `with` count like those of its body.

A program that `magic` has started, a script that imports this package, and a program that has reached a transaction
before are watched from the first instruction: magicheap_start.py imports this module as the interpreter starts. Any
other program is watched from its import of this package on. _prefix.py analyses the code before that. If the analysis
fails and other modules were loaded, that run makes no snapshot, and leaves a mark for the next.
"""

from __future__ import annotations

import os
import posix
import sys

from magicheap import _log, _questions
from magicheap._cpython import IMPORTERS, RANDOM
from magicheap._cpython import frame as frame_of
from magicheap._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

is_on = False
is_from_start = False
is_entered = False  # True: a transaction was entered, successfully or not
# each module that was being imported when the watch began, with its line; None: unknown
places: list[tuple[CodeType, int]] | None = None
modules: list[str] = []  # that were loaded before the watch

_PASSED_OVER = (*IMPORTERS, "runpy", "magicheap")  # modules whose functions import others


def begin_from_start(is_by_magic: bool) -> None:
    """Begin at the first instruction, called by magicheap_start.py."""
    global is_from_start
    program = os.fsencode(sys.argv[0])  # a script; or an option, which is no path
    is_from_start = _begin(program)
    if is_by_magic:
        import atexit

        atexit.register(_say_that_there_is_none)


def begin_here() -> None:
    """Begin at the import of this package, if that is at the top level of modules: not inside a function."""
    global places, modules
    if RANDOM in sys.modules:
        from magicheap import _seeds

        _seeds.watch()
    if is_on or sys.flags.interactive or hasattr(sys, "ps1") or posix.environ.get(b"MAGICHEAP_DISABLE") == b"1":
        return
    found: list[tuple[CodeType, int]] = []
    frame: FrameType | None = frame_of(1)
    main = None
    while frame:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith(_PASSED_OVER):
            if frame.f_code.co_name != "<module>":
                return
            found.append((frame.f_code, frame.f_lineno))
            main = name
        frame = frame.f_back
    if main == "__main__" and _begin(b""):
        places, modules = found, list(sys.modules)


def stand_down() -> None:
    """End the watch: no process will be committed."""
    global is_on, is_from_start
    is_on = is_from_start = False
    _questions.end()
    lib.mh_unwatch()


def _begin(program: bytes) -> bool:
    global is_on
    is_on = lib.mh_watch(program, ffi.NULL) == 0  # if it fails, the transaction will say why
    if is_on:
        _questions.begin()
    return is_on


def _say_that_there_is_none() -> None:
    if not is_entered:
        _log.info("the program ended without entering a magic_transaction, so it ran as under python")
