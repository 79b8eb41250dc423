"""From when on a program is watched: what is asked before the `with` counts as what is asked in its body.

A program that `magic` has begun, a script that imports this package, and a program that has come to a transaction
before are watched from the first instruction: magicheap_start.py imports this module as the interpreter starts. Any
other from its import of this package on. What stands before that _prefix.py reads; if it can't be understood and other
modules were there, that run makes no snapshot, and leaves a mark for the next.
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
is_entered = False  # a transaction was, whatever came of it
# each module that was being imported when the watch began, with its line; None: nobody knows
places: list[tuple[CodeType, int]] | None = None
modules: list[str] = []  # that were there already

_PASSED_OVER = (*IMPORTERS, "runpy", "magicheap")  # whose functions import others


def begin_from_start(is_by_magic: bool) -> None:
    """In magicheap_start.py."""
    global is_from_start
    program = os.fsencode(sys.argv[0])  # a script; or an option, which is no path
    is_from_start = _begin(program)
    if is_by_magic:
        import atexit

        atexit.register(_say_that_there_is_none)


def begin_here() -> None:
    """At the import of this package, if that is part of a program's beginning: not inside functions, where others run
    it."""
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
    """No process will be committed: nobody needs to know."""
    global is_on, is_from_start
    is_on = is_from_start = False
    _questions.end()
    lib.mh_unwatch()


def _begin(program: bytes) -> bool:
    global is_on
    is_on = lib.mh_watch(program, ffi.NULL) == 0  # where not, the transaction will say why
    if is_on:
        _questions.begin()
    return is_on


def _say_that_there_is_none() -> None:
    if not is_entered:
        _log.info("the program ended without entering a magic_transaction, so it ran as under python")
